"""
The fast path: requests that came whole, their heads read by aiohttp's parser, answered without its connection loop.

aiohttp's own loop makes a task, a reader, a writer and two futures for each request, and can do whatever HTTP/1 knows.
Nearly every request is plain: HTTP/1.1, head and body there, nothing behind it. Those are answered here one after the
other, by one task for each connection. Whatever is otherwise (a body in chunks or late, pipelining, an upgrade, an old
version, what is no HTTP) is given, with every byte that came, to a protocol of aiohttp's, which has the connection from
there on: nothing unusual is dealt with twice, and what is malformed is told by one voice. See
docs/decisions/0014-fast-path.md.

What must never live here: a second way to read HTTP, or anything about what a request means.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiohttp import HttpVersion11, hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD

from jobsvc.http.reply import Reply
from jobsvc.http.request import Adorned, Head, Request

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage

    from jobsvc.http.identity import Proved
    from jobsvc.http.reply import Response
    from jobsvc.http.server import Server

HEAD_LINE_BYTES_MAX: Final = 65_536
"""
The longest request line and header field. Far longer than any of ours, so that a stream's caller is told of a cursor
that is none where it listens, in band, and not by a plain 400 that an EventSource cannot read.
"""

_PIECES_BYTES_MAX: Final = 65_536
"""So much may have come of a request whose rest is still under way: many clients send head and body one by one."""

_PIECES_S: Final = 0.05
"""How long the rest may be under way before aiohttp waits for it, with its bounds."""

_KNOWN_MAX: Final = 4
"""So many heads are remembered on a connection. A caller's next is often the same, byte for byte."""

_KNOWN_BYTES_MAX: Final = 4_096
"""No longer one is: it stays for as long as the connection does."""

_HEAD_END: Final = b"\r\n\r\n"


class PlainHead(Head):
    """
    A plain request's head.

    Attributes:
        body_at: Where the body begins behind it, ...
        size: ... and how long the request is altogether.
    """

    __slots__ = ("body_at", "size")

    def __init__(self, message: RawRequestMessage, *, body_at: int, size: int) -> None:
        super().__init__(message, message.url)
        self.body_at = body_at
        self.size = size


class FastPath(BaseProtocol):
    """
    One connection, for as long as all that comes over it is plain.

    Attributes:
        proved: What its caller was last proved to be, as identity keeps it.
        ssl_context, peername, sockname: What aiohttp's request wants to know of its connection.
    """

    __slots__ = (
        "_asked",
        "_came",
        "_closing",
        "_early",
        "_head",
        "_heads",
        "_idle_s",
        "_idle_timer",
        "_idle_until",
        "_is_plain",
        "_known",
        "_rest_timer",
        "_server",
        "_serving",
        "_waiter",
        "peername",
        "proved",
        "sockname",
        "ssl_context",
    )

    def __init__(self, server: Server) -> None:
        """Nothing has come."""
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        # It is given whole heads and nothing else, so it need not know of bodies, nor ever waits amid anything.
        self._heads: HttpRequestParser | None = HttpRequestParser(
            self,
            loop,
            0,
            max_line_size=HEAD_LINE_BYTES_MAX,
            max_field_size=HEAD_LINE_BYTES_MAX,
            response_with_body=False,
            auto_decompress=False,
        )
        self._known: dict[bytes, PlainHead] = {}
        """Heads of plain requests, and what each says."""
        self._server = server
        self._came = b""
        """What came in pieces of the request that is being read, ..."""
        self._head: PlainHead | None = None
        """... its head if that is whole, ..."""
        self._is_plain = True
        """... and False if its head was seen to be another's than a plain request's."""
        self._asked: Request | None = None
        """The request that is being answered."""
        self._early = b""
        """What came meanwhile."""
        self._serving: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_s = server.service.settings.connection_idle_s
        self._idle_until = 0.0
        self._closing = False
        self.proved: Proved | None = None
        self.ssl_context: Any = None
        self.peername: Any = None
        self.sockname: Any = None

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is counted, and read if it is not one too many."""
        if not self._server.admit(transport):
            self._closing = True
            return
        super().connection_made(transport)
        self.ssl_context = transport.get_extra_info("sslcontext")
        self.peername = transport.get_extra_info("peername")
        self.sockname = transport.get_extra_info("sockname")
        self._server.on_fast_path.add(self)
        self._idle_from_now()

    def data_received(self, data: bytes) -> None:
        """Once a plain request is whole it is being answered; what is not plain is aiohttp's."""
        if self.transport is None or self._closing:
            return
        if self._asked is not None:
            self._early += data
            # Else it is read on, or nobody would hear that the caller has gone.
            if len(self._early) > _PIECES_BYTES_MAX:
                self.transport.pause_reading()
            return
        came = self._came + data if self._came else data
        head = self._head or self._head_of(came)
        if head is None or len(came) != head.size:
            self._wait_for_rest(came, head)
            return
        if self._came:
            self._forget_pieces()
        self._asked = Request(head, head.method, head.url, head.headers, came[head.body_at :], self)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter.set_result(None)
        elif self._serving is None:
            self._serving = self._loop.create_task(self._serve(), name="connection")

    def _wait_for_rest(self, came: bytes, head: PlainHead | None) -> None:
        """What *came* is no plain request that is whole: if it may become one soon it is kept, else it is aiohttp's."""
        self._came, self._head = came, head
        if not self._is_plain or len(came) > _PIECES_BYTES_MAX or (head is not None and len(came) > head.size):
            self._hand_over()
        elif self._rest_timer is None:
            self._rest_timer = self._loop.call_later(_PIECES_S, self._hand_over)

    def _forget_pieces(self) -> None:
        self._came, self._head = b"", None
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _head_of(self, came: bytes) -> PlainHead | None:
        """The head of a plain request, once it is whole; None as well if the request is not plain, which is noted."""
        end = came.find(_HEAD_END) + len(_HEAD_END)
        if end < len(_HEAD_END):
            return None
        said = came[:end]
        head = self._known.get(said)
        if head is None:
            head = self._read(said)
            self._is_plain = head is not None
        return head

    def _read(self, said: bytes) -> PlainHead | None:
        """The head that *said* so, remembered if it is short; None if it is not a plain request's."""
        assert self._heads is not None  # noqa: S101  # until the connection is left, and then nothing is read
        try:
            messages, upgraded, _ = self._heads.feed_data(said)
        except HttpProcessingError:
            return None
        if len(messages) != 1 or upgraded:
            return None
        message: RawRequestMessage = messages[0][0]
        headers = message.headers
        # The parser has refused what is no number.
        length = int(headers.get(hdrs.CONTENT_LENGTH, 0))
        if (
            message.version is not HttpVersion11
            or message.should_close
            or message.upgrade
            # Chunked or not: a parser that is shown no bodies does not look at what it says.
            or hdrs.TRANSFER_ENCODING in headers
            or hdrs.EXPECT in headers
            or length > self._server.service.settings.body_bytes_max
            or not message.path.startswith("/")
        ):
            return None
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        head = PlainHead(message, body_at=len(said), size=len(said) + length)
        if len(said) <= _KNOWN_BYTES_MAX:
            self._known[said] = head
        return head

    def pause_reading(self) -> None:
        """Asked by aiohttp's readers of bodies; here bodies are there."""

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  # aiohttp's
        """As above."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, or a stream has the transport (wire.py); whoever waits in its name is cancelled."""
        if self._leave():
            super().connection_lost(exc)

    # Answering

    def adorned(self, message: RawRequestMessage) -> Adorned:
        """Aiohttp's request for *message*, which came over this connection."""
        writer = StreamWriter(self, self._loop)
        return Adorned(message, EMPTY_PAYLOAD, self, writer, None, self._loop, service=self._server.service)

    async def _serve(self) -> None:
        """Each request that is asked is answered, until the connection ends or is handed over."""
        try:
            while (request := self._asked) is not None:
                response = await self._server.answer(request)
                if not self._wrote(request, response) and await self._wrote_last(request, response):
                    return
                if self.writing_paused:
                    await request.aiohttp.writer.drain()
                self._asked = None
                if self._closing:
                    return
                self._idle_from_now()
                if self._early:
                    self._came, self._early = self._early, b""
                    self._hand_over()
                    return
                self._waiter = self._loop.create_future()
                await self._waiter
        except Exception as fault:  # noqa: BLE001  # the caller is told, and the log
            await self._fail(fault)
        finally:
            # Nothing here keeps the connection alive once it is over: the collector seldom comes.
            self._asked = self._serving = None
            # Unless it was handed over, or lost.
            if self.transport is not None:
                self.transport.close()

    def _wrote(self, request: Request, response: Response) -> bool:
        """True if *response* was a reply, and is written."""
        transport = self.transport
        if type(response) is not Reply or response.prepared or request.method == "HEAD" or transport is None:
            return False
        transport.write(response.whole(self._server.service.browsers.lines(request.headers)))
        return True

    @staticmethod
    async def _wrote_last(request: Request, response: Response) -> bool:
        """*response* was written as aiohttp does it; True if no request may follow."""
        await response.prepare(request.aiohttp)
        await response.write_eof()
        return not response.keep_alive

    async def _fail(self, fault: Exception) -> None:
        """The caller is told that we failed, if it is there and no answer was begun."""
        if self._asked is not None:
            with suppress(ConnectionError):
                response = self._server.failed(self._asked.aiohttp, fault)
                await response.prepare(self._asked.aiohttp)
                await response.write_eof()

    # Ends

    def _idle_from_now(self) -> None:
        """The next request may come within the time of the settings."""
        self._idle_until = self._loop.time() + self._idle_s
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_at(self._idle_until, self._look_if_idle)

    def _look_if_idle(self) -> None:
        self._idle_timer = None
        if self._asked is not None:
            # Looked at again from its answer on.
            return
        if self._loop.time() < self._idle_until:
            self._idle_timer = self._loop.call_at(self._idle_until, self._look_if_idle)
        else:
            self.close()

    def _hand_over(self) -> None:
        """A protocol of aiohttp's has the connection, and reads all that came and was not dealt with."""
        came, transport = self._came, self.transport
        if transport is None or not self._leave():
            return
        self.transport = None
        protocol = self._server.protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        protocol.data_received(came)

    def _leave(self) -> bool:
        """Nothing of the connection is kept here; False if that was so before."""
        if self not in self._server.on_fast_path:
            return False
        self._server.on_fast_path.discard(self)
        self._server.release()
        self._closing = True
        for timer in (self._rest_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._rest_timer = self._idle_timer = None
        self._known.clear()
        self._heads = None
        if self._serving is not None and (self._asked is None or self._server.handler_cancellation):
            self._serving.cancel()
        return True

    def close(self) -> None:
        """The connection ends with the answer that is under way."""
        self._closing = True
        if self._asked is None and self.transport is not None:
            self.transport.close()

    async def end(self, patience_s: float | None) -> None:
        """The connection has ended; an answer under way had so long."""
        self.close()
        serving = self._serving
        if serving is not None and self._asked is not None:
            await asyncio.wait([serving], timeout=patience_s)
        if self.transport is not None:
            # What was written still goes out.
            self.transport.close()
        self.connection_lost(None)
