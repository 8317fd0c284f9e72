"""
The server: connections, of which there are so many at most, and what is refused before any handler hears of it.

aiohttp reads the requests, the heads of plain ones on the fast path and all others in its own loop. What it cannot read
becomes a problem like any other here, and no error in the log, since whoever can reach the port can send junk; and
every answer, whoever made it, is given what browsers have to be told.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, InvalidHeader, LineTooLong, TransferEncodingError

from jobsvc.domain.errors import StoreBusy
from jobsvc.http.edge import new_request_id
from jobsvc.http.fast_path import HEAD_LINE_BYTES_MAX, FastPath
from jobsvc.http.problems import CONTENT_TYPE, InternalFault, Malformed, problem, problem_response
from jobsvc.http.reply import Reply
from jobsvc.http.request import Adorned, Head, Request
from jobsvc.resource import encode
from jobsvc.telemetry import log, log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobsvc.domain.errors import JobsvcError
    from jobsvc.http.browsers import Browsers
    from jobsvc.http.reply import Response
    from jobsvc.http.service import Service

_TRIED_S: Final = 2.0
_FILES_SPARED: Final = 100
"""Open files that are no connections: the store's, the log's, and some to spare."""


class Server(web.Server):
    """What aiohttp's runner runs: one protocol for each connection."""

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Response]],
        service: Service,
        *,
        fast: bool = False,
    ) -> None:
        """
        Nobody is connected.

        Args:
            handler: Answers every request that can be read.
            service: Its settings bound the connections, its origins adorn the answers.
            fast: Connections begin on the fast path, and leave it when they have to.
        """
        # A caller that goes away cancels its handler: a waiting claim or stream is gone at once. Commands go on.
        # What aiohttp hands on is what the factory made, and of an answer it asks no more than a Reply has.
        super().__init__(cast("Any", self._answer_adorned), request_factory=self._request, handler_cancellation=True)
        self.answer = handler
        self.service = service
        self.connected = 0
        self.connections_max = min(service.settings.connections_max, max(1, files_max() - _FILES_SPARED))
        self.on_fast_path: set[FastPath] = set()
        self._fast = fast

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        # Typed as what aiohttp's sites call for; they hand it to the event loop, and that asks for a Protocol.
        return cast("web.RequestHandler", FastPath(self)) if self._fast else self.protocol()

    def protocol(self) -> Protocol:
        """What reads whatever a connection may bring."""
        return Protocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            # Bodies come as they are: unpacking what a stranger packed costs more than it saves.
            auto_decompress=False,
            keepalive_timeout=self.service.settings.connection_idle_s,
            max_line_size=HEAD_LINE_BYTES_MAX,
            max_field_size=HEAD_LINE_BYTES_MAX,
        )

    def admit(self, transport: asyncio.BaseTransport) -> bool:
        """True if the connection is counted from now on; one too many is told so, before it has cost a task."""
        if self.connected + self.service.streams.freed >= self.connections_max:
            cast("asyncio.Transport", transport).write(_full(self.service.browsers))
            transport.close()
            return False
        _cut_if_unread(transport, self.service.settings.stream_stall_s)
        self.connected += 1
        self.service.metrics.connections_open.inc()
        return True

    def release(self) -> None:
        """One that was admitted is counted no more."""
        self.connected -= 1
        self.service.metrics.connections_open.dec()

    def pre_shutdown(self) -> None:
        """Each connection ends with the answer that is under way on it."""
        super().pre_shutdown()
        for connection in tuple(self.on_fast_path):
            connection.close()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # aiohttp's
        """Every connection has ended; an answer under way had *timeout* seconds."""
        await asyncio.gather(
            super().shutdown(timeout), *(connection.end(timeout) for connection in tuple(self.on_fast_path))
        )

    def failed(
        self, request: web.BaseRequest, fault: BaseException | None, unreadable: Malformed | None = None
    ) -> web.StreamResponse:
        """
        The last answer of a connection: that what came was malformed, or else that we failed, which the log tells too.

        Raises:
            ConnectionResetError: An answer was begun and no other can follow, or nobody is there for one.
        """
        if request.writer.output_size > 0 or isinstance(fault, ConnectionError):
            raise ConnectionResetError
        request_id = new_request_id()
        error: JobsvcError = unreadable or InternalFault()
        if unreadable is not None:
            log("request.refused", code=error.code, request_id=request_id)
        else:
            log_failure("request.failed", fault or error, request_id=request_id, method=request.method)
        self.service.metrics.refusals.labels(error.code).inc()
        response = problem_response(error, instance=request.path, request_id=request_id)
        response.force_close()
        return response

    async def _answer_adorned(self, request: Adorned) -> Response:
        head = Head(request, request.rel_url)
        return await self.answer(Request(head, head.method, head.url, head.headers, None, None))

    def _request(self, *parts: Any) -> Adorned:  # noqa: ANN401  # message, payload, protocol, writer, task
        return Adorned(*parts, asyncio.get_running_loop(), service=self.service)


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("_counted", "_server")

    def __init__(self, server: Server, **options: Any) -> None:  # noqa: ANN401  # aiohttp's
        super().__init__(server, **options)
        self._server = server
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is counted, and read if it is not one too many."""
        if not self._server.admit(transport):
            self.close()
            return
        self._counted = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is counted no more."""
        if self._counted:
            self._counted = False
            self._server.release()
            super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not be read is malformed; anything else that gets here is a fault of ours, and logged."""
        del message
        unreadable = Malformed(_said_of(exc)) if status == _UNREADABLE else None
        return self._server.failed(request, exc, unreadable)


_UNREADABLE: Final = 400
"""The status that aiohttp gives to what it cannot read, and to nothing else."""


def _said_of(fault: BaseException | None) -> str:
    """What was wrong, in our words: aiohttp's repeat what was sent."""
    match fault:
        case LineTooLong():
            return f"the request line and each header have at most {HEAD_LINE_BYTES_MAX} bytes"
        case BadHttpMethod():
            return "the request line has no method that is one"
        case InvalidHeader():
            return "a header is none"
        case TransferEncodingError():
            return "the body's chunks are none"
        case _:
            return "the request is not HTTP as it should be"


async def fast_path_works(service: Service) -> bool:
    """True if it does, with this aiohttp and this event loop: tried on a pair of sockets, in a millisecond."""
    try:
        async with asyncio.timeout(_TRIED_S):
            return await _try_fast_path(service)
    except Exception:  # noqa: BLE001  # whatever goes wrong, it does not work
        return False


async def _try_fast_path(service: Service) -> bool:
    """Two requests on one connection, the second in pieces: both are answered with their bodies, on the fast path."""

    async def echo(request: Request) -> Response:
        return Reply(request.whole or b"", 200, {})

    server = Server(echo, service, fast=True)
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().create_connection(server, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1,")
        await reader.readuntil(b"\r\n\r\n")
        heard = await reader.readexactly(2)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        await asyncio.sleep(0)
        writer.write(b"2")
        await reader.readuntil(b"\r\n\r\n")
        heard += await reader.readexactly(1)
        return heard == b"1,2" and len(server.on_fast_path) == 1
    finally:
        writer.close()
        await server.shutdown(0)


def _cut_if_unread(transport: asyncio.BaseTransport, stall_s: float) -> None:
    """
    The kernel ends the connection if what waits for its peer is not read for long: an answer is in memory until it is.

    Twice the stall time, so that a stream, which watches by itself, can count and say that it was cut.
    """
    own = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and own.family != socket.AF_UNIX:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2_000 * stall_s))


def files_max() -> int:
    """How many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31


def allow_files(wanted: int) -> None:
    """The process may have *wanted* connections open, or as many as its user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted += _FILES_SPARED
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _full(browsers: Browsers) -> bytes:
    """The answer to a connection too many, as it goes over the wire: before anything that was asked has been read."""
    error, request_id = StoreBusy("too many are connected; come back later"), new_request_id()
    body = encode(problem(error, instance="/", request_id=request_id))
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nRetry-After: 1\r\nConnection: close\r\nX-Request-Id: {request_id}\r\n"
    )
    return b"%b%b\r\n%b" % (head.encode(), browsers.strangers_lines, body)
