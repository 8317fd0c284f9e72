"""
The wire: a stream's end of a transport, once the request that began it has been dealt with.

aiohttp parses the request; then the transport is given a protocol of ours, and whoever had it, the fast path or
aiohttp's own loop, is told that its connection is gone. Parser, request, response and tasks are freed, and an idle
stream is a transport and two small objects. This leans on two things that aiohttp does not promise of its protocol, and
that the fast path has as well: the ``transport`` attribute, and what ``connection_lost`` does. So `HandOver.works`
tries it on a pair of sockets first; where it does not work, the request stays, parked at the end of its answer, and all
else is the same. See docs/decisions/0010-streams-leave-aiohttp.md.

What must never live here: what is written, or when.
"""

from __future__ import annotations

import asyncio
import socket
from fcntl import ioctl
from struct import unpack
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobsvc.http.connection import Connection

_LAST_CHUNK: Final = b"0\r\n\r\n"
_TRIED_S: Final = 2.0


class Written:
    """How many bytes were written to streams, all together."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Wire(asyncio.Protocol):
    """
    The sink of a connection that lasts. What the client sends is not read for its meaning.

    Attributes:
        room: False while the reader has not taken what was written, beyond the water marks.
        connection: Who writes; set before the wire is begun.
    """

    __slots__ = ("_chunked", "_held_back", "_socket", "_transport", "_when_lost", "_written", "connection", "room")

    def __init__(self, written: Written, *, chunked: bool) -> None:
        self._written = written
        self._chunked = chunked
        self._transport: asyncio.Transport | None = None
        self._socket: socket.SocketType | None = None
        """The transport's own, to send on while the transport holds nothing back; none where it encrypts."""
        self._held_back = True
        """The transport may hold something, whoever gave it, and is asked before the socket is sent to."""
        self._when_lost: Callable[[BaseException | None], None] | None = None
        self.connection: Connection | None = None
        self.room = False

    def begin(self, transport: asyncio.Transport, *, high: int, low: int, kernel: int) -> None:
        """What is written from now on goes to *transport*, which tells this protocol what becomes of it."""
        self._transport = transport
        self.room = True
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=high, low=low)
        # Whoever had it before may have been told enough; one that is not read is not heard to close.
        transport.resume_reading()
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel)
        if transport.get_extra_info("sslcontext") is None:
            self._socket = socket.SocketType(own.family, own.type, own.proto, fileno=own.fileno())

    # The connection's side

    @property
    def buffered(self) -> int:
        """Bytes that wait for the reader in this process."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def untaken(self) -> int:
        """The same, and those that the kernel holds, where it tells."""
        return 0 if self._transport is None else self.buffered + _held_by_kernel(self._transport)

    def write(self, content: bytes, *, news: bool) -> None:
        """
        *content* is on its way: sent at once as far as the kernel has room, and the rest by the transport.

        A transport's own write costs twice the send: an event loop may keep it for the end of its turn, and there find
        the listener asleep again.
        """
        del news
        size, sent, own = len(content), 0, self._socket
        if own is not None and not (self._held_back and self.buffered):
            try:
                sent = own.send(content)
            except OSError:
                # No room, or nobody there any more: the transport finds out which.
                sent = 0
        self._held_back = sent < size
        # In the common case the transport is not even looked at: it is memory that no cache holds.
        if not self._held_back:
            self._written.bytes += size
        elif self._transport is not None:
            self._written.bytes += size
            # Not a copy: what many are told at once is held once.
            self._transport.write(memoryview(content)[sent:] if sent else content)

    def full(self) -> None:
        """Whoever waits for room is told by ``resume_writing``."""

    def finish(self) -> None:
        """The answer is whole; the transport closes when the reader has taken what was written."""
        if self._transport is not None:
            if self._chunked:
                self._transport.write(_LAST_CHUNK)
            self._let_go()
            self._transport.close()

    def abort(self) -> None:
        """The transport is closed, whatever was not taken."""
        if self._transport is not None:
            self._let_go()
            self._transport.abort()

    def _let_go(self) -> None:
        """Nothing more is sent, on a socket that is the transport's to close."""
        self.room = False
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    # The transport's side

    @staticmethod
    def data_received(data: bytes) -> None:
        """Nothing comes of it. Static: a transport keeps what it calls, and a bound method would be one a stream."""

    def pause_writing(self) -> None:
        """The reader is behind."""
        self.room = False

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self.room = True
        if self.connection is not None:
            # Not at once: asyncio calls this amid a write, and a transport that is closed there is lost twice.
            asyncio.get_running_loop().call_soon(self.connection.advance)

    def connection_lost(self, exc: Exception | None) -> None:
        """The reader is gone."""
        self._let_go()
        self._transport = None
        if self._when_lost is not None:
            self._when_lost(exc)
        if self.connection is not None:
            self.connection.lost()
            self.connection = None

    def when_lost(self, tell: Callable[[BaseException | None], None]) -> None:
        """*tell* hears of the transport's end too."""
        self._when_lost = tell


def _held_by_kernel(transport: asyncio.Transport) -> int:
    """How many bytes were sent to the peer of *transport* and have not arrived there; 0 where no one can know."""
    try:
        (held,) = unpack("i", ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):
        return 0
    return int(held)


class Streamed(web.StreamResponse):
    """
    An answer of which aiohttp writes the head, and the wire all the rest. Its connection is not used again.
    """

    def __init__(self, *, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self.force_close()
        self._protocol: web.RequestHandler | None = None
        self._ended: asyncio.Future[None] | None = None

    def park(self, protocol: web.RequestHandler) -> Callable[[BaseException | None], None]:
        """Aiohttp's *protocol* keeps the request, but no handler and no call, until what is given back is called."""
        self._protocol, self._ended = protocol, asyncio.get_running_loop().create_future()
        return self._end

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is written here."""
        del data
        if self._ended is not None:
            await self._ended

    def _end(self, exc: BaseException | None) -> None:
        if self._protocol is not None and self._ended is not None:
            self._protocol.connection_lost(exc)
            if not self._ended.done():
                self._ended.set_result(None)


def transport_of(request: web.BaseRequest) -> asyncio.Transport:
    """
    The transport of *request*, still open.

    Raises:
        ConnectionResetError: The client has gone.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    return transport


def cut(request: web.BaseRequest) -> None:
    """The connection of *request*, whose answer has begun and cannot go on, is closed as it is."""
    if request.transport is not None:
        request.transport.abort()


class HandOver:
    """
    How a request's transport becomes a wire: freed of aiohttp, or with its handler parked.

    Attributes:
        freed: How many transports there are that aiohttp knows nothing of any more.
    """

    def __init__(self, *, frees: bool) -> None:
        self._frees = frees
        self._when_gone = self._gone
        """Bound once for all wires."""
        self.freed = 0

    def leave(self, request: web.BaseRequest, response: Streamed, wire: Wire) -> None:
        """
        The handler of *request*, whose body was read, is done and returns *response*; the answer goes on with *wire*.

        In the turn in which *wire* began: from there on aiohttp hears of the transport only from here.
        """
        # They have been sent, and weigh as much as a freed stream does.
        response.headers.clear()
        protocol = request.protocol
        if self._frees:
            self.freed += 1
            wire.when_lost(self._when_gone)
            protocol.transport = None
            protocol.connection_lost(None)
            return
        wire.when_lost(response.park(protocol))

    def _gone(self, exc: BaseException | None) -> None:
        del exc
        self.freed -= 1

    @staticmethod
    async def works() -> bool:
        """True if freeing does, with this aiohttp and this event loop: tried on a pair of sockets, in a millisecond."""
        try:
            async with asyncio.timeout(_TRIED_S):
                return await _try()
        except Exception:  # noqa: BLE001  # whatever goes wrong, it does not work
            return False


async def _try() -> bool:
    """One request over a pair of sockets: what is written after the hand-over arrives, and nobody is left behind."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    wires: list[Wire] = []
    over = HandOver(frees=True)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = Streamed(headers={})
        await response.prepare(request)
        wire = Wire(Written(), chunked=True)
        wires.append(wire)
        wire.begin(transport_of(request), high=16_384, low=4_096, kernel=65_536)
        wire.write(b"first", news=True)
        over.leave(request, response, wire)
        return response

    server = web.Server(answer, handler_cancellation=True)
    before = asyncio.all_tasks()
    transport, _ = await loop.create_connection(server, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: self\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        arrived = await reader.readexactly(5)
        while server.connections or asyncio.all_tasks() - before:  # noqa: ASYNC110  # aiohttp has no event for it
            await asyncio.sleep(0)
        wires[0].write(b"second", news=True)
        wires[0].finish()
        arrived += await reader.read()
        return arrived == b"firstsecond" + _LAST_CHUNK
    finally:
        writer.close()
        transport.abort()
