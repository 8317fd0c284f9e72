"""
A stream's end of a transport: what it is given arrives whole and in order, however much the kernel takes of it.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from typing import Final

from jobsvc.http.wire import Wire, Written
from tests.streams.test_hand_over import ANY_LOOP, on

MORE_THAN_THE_KERNEL_TAKES: Final = b"a" * 4_194_304
BEGUN: Final = {"high": 16_384, "low": 4_096, "kernel": 65_536}


@ANY_LOOP
def test_what_the_kernel_did_not_take_comes_before_what_follows(loop: str) -> None:
    """
    Also where the reader makes room in the very turn, before the transport has found out.
    """
    on(loop, _in_order)


async def _in_order() -> None:
    ours, theirs = socket.socketpair()
    wire, written = Wire(Written(), chunked=False), MORE_THAN_THE_KERNEL_TAKES + b"b" + b"c"
    with closing(theirs):
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        wire.begin(transport, **BEGUN)

        wire.write(MORE_THAN_THE_KERNEL_TAKES, news=True)
        taken = theirs.recv(len(written), socket.MSG_DONTWAIT)
        wire.write(b"b", news=True)
        wire.write(b"c", news=True)
        wire.finish()
        taken += await _rest(theirs)

    assert written == taken


async def _rest(theirs: socket.socket) -> bytes:
    """
    All that still comes.
    """
    theirs.setblocking(False)  # noqa: FBT003  # the socket's own
    rest = b""
    while part := await asyncio.get_running_loop().sock_recv(theirs, len(MORE_THAN_THE_KERNEL_TAKES)):
        rest += part
    return rest


@ANY_LOOP
def test_what_the_transport_was_given_before_comes_first(loop: str) -> None:
    """
    It may hold some of that back when the wire begins, whoever gave it, and wherever the reader makes room.
    """
    on(loop, _behind_what_was_given)


async def _behind_what_was_given() -> None:
    ours, theirs = socket.socketpair()
    wire, written = Wire(Written(), chunked=False), MORE_THAN_THE_KERNEL_TAKES + b"b"
    with closing(theirs):
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        transport.write(MORE_THAN_THE_KERNEL_TAKES)
        wire.begin(transport, **BEGUN)
        taken = theirs.recv(len(written), socket.MSG_DONTWAIT)
        wire.write(b"b", news=True)
        wire.finish()
        taken += await _rest(theirs)

    assert written == taken


@ANY_LOOP
def test_who_has_gone_costs_nothing_and_is_told_of_once(loop: str) -> None:
    """
    The transport finds out, as it does without us.
    """
    on(loop, _gone)


async def _gone() -> None:
    lost: list[BaseException | None] = []
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    wire = Wire(Written(), chunked=False)
    wire.begin(transport, **BEGUN)
    wire.when_lost(lost.append)
    theirs.close()

    for _ in range(3):
        wire.write(b"news", news=True)
    async with asyncio.timeout(5):
        while not lost:  # noqa: ASYNC110  # a wire tells, and nobody awaits it
            await asyncio.sleep(0)
    wire.write(b"news", news=True)
    wire.abort()
    await asyncio.sleep(0)

    assert 1 == len(lost)
    assert not wire.room
