"""
The load: many keep-alive connections driven by one thread, so light that the server is what limits.

A *caller* is a generator that yields the bytes of a request and is sent the reply; one caller has one connection and
one request under way. No client library, no event loop: epoll, prebuilt requests, and of an answer only the status and
the length are read. What the requests mean is not known here.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_RECEIVE_BYTES: Final = 262_144
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_CONNECTION_PATIENCE_S: Final = 30.0


class Reply(NamedTuple):
    """What came back: the status, and the body as sent."""

    status: int
    body: bytes


Caller = Generator[bytes, Reply, None]
"""Yields requests, is sent their replies; ends when it has no more to ask."""


@dataclass(slots=True)
class Outcome:
    """
    What came of a stretch of load.

    Attributes:
        replies: How many answers came before the stretch was over.
        elapsed_s: How long the stretch was.
        statuses: How many answers had each status, those after its end included.
        waits_s: For each answer, how long it took from the request's last byte; only if asked for.
    """

    replies: int = 0
    elapsed_s: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    waits_s: list[float] = field(default_factory=list)


class _Line:
    """One connection and who calls over it."""

    __slots__ = ("asked_at", "caller", "received", "socket")

    def __init__(self, address: tuple[str, int], caller: Caller) -> None:
        self.socket = socket.create_connection(address, timeout=_CONNECTION_PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.caller = caller
        self.received = b""
        self.asked_at = 0.0


def drive(
    address: tuple[str, int], callers: Sequence[Caller], *, seconds: float | None = None, keep_waits: bool = False
) -> Outcome:
    """
    Every caller has been served until *seconds* were over, or until it had no more to ask.

    Args:
        address: Of the server.
        callers: One connection each.
        seconds: When to stop asking; None for never. Requests under way then are waited for, but not counted.
        keep_waits: Also note how long each answer took.
    """
    lines = {line.socket.fileno(): line for line in (_Line(address, caller) for caller in callers)}
    try:
        return _serve(lines, seconds=seconds, keep_waits=keep_waits)
    finally:
        for line in lines.values():
            line.socket.close()


def _serve(lines: dict[int, _Line], *, seconds: float | None, keep_waits: bool) -> Outcome:
    outcome, poll, clock = Outcome(), select.epoll(), time.perf_counter
    begun_at = clock()
    until = float("inf") if seconds is None else begun_at + seconds
    for number, line in lines.items():
        poll.register(number, select.EPOLLIN)
        line.asked_at = clock()
        line.socket.sendall(next(line.caller))
    waiting = len(lines)
    while waiting:
        ready = poll.poll(_CONNECTION_PATIENCE_S)
        if not ready:
            raise TimeoutError("the server answers no more")
        for number, _ in ready:
            line = lines[number]
            reply = _receive(line)
            if reply is None:
                continue
            now = clock()
            outcome.statuses[reply.status] = outcome.statuses.get(reply.status, 0) + 1
            if keep_waits:
                outcome.waits_s.append(now - line.asked_at)
            if now > until:
                waiting -= 1
                continue
            outcome.replies += 1
            outcome.elapsed_s = now - begun_at
            if not _ask(line, reply):
                waiting -= 1
    poll.close()
    if seconds is not None:
        outcome.elapsed_s = seconds
    return outcome


def _ask(line: _Line, reply: Reply) -> bool:
    """True if the caller had one more request, which is sent now."""
    try:
        request = line.caller.send(reply)
    except StopIteration:
        return False
    line.asked_at = time.perf_counter()
    line.socket.sendall(request)
    return True


def _receive(line: _Line) -> Reply | None:
    """The reply, once all of it is here."""
    part = line.socket.recv(_RECEIVE_BYTES)
    if not part:
        raise ConnectionError("the server closed a connection")
    received = line.received + part if line.received else part
    end = received.find(_HEAD_END)
    if end < 0 or len(received) < end + 4 + _length_of(received, end):
        line.received = received
        return None
    line.received = b""
    return Reply(int(received[9:12]), received[end + 4 :])


def _length_of(received: bytes, end: int) -> int:
    head = received[:end].lower()
    at = head.find(_LENGTH)
    if at < 0:
        return 0
    stop = head.find(b"\r\n", at)
    return int(head[at + len(_LENGTH) : stop if stop >= 0 else end])


def request(method: str, path: str, *, token: str, body: bytes = b"") -> bytes:
    """The bytes of a request, with the headers that every caller of an API sends and no others."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
