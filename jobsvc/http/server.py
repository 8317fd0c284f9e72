"""
The server: connections, of which there are so many at most, and what is refused before any handler hears of it.

aiohttp reads the requests. What it cannot read becomes a problem like any other here, and no error in the log, since
whoever can reach the port can send junk; and every answer, whoever made it, is given what browsers have to be told.
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
from jobsvc.http.problems import CONTENT_TYPE, InternalFault, Malformed, problem, problem_response
from jobsvc.resource import encode
from jobsvc.telemetry import log, log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobsvc.domain.errors import JobsvcError
    from jobsvc.http.browsers import Browsers
    from jobsvc.http.service import Service

_HEAD_LINE_BYTES_MAX: Final = 65_536
"""
The longest request line and header field. Far longer than any of ours, so that a stream's caller is told of a cursor
that is none where it listens, in band, and not by a plain 400 that an EventSource cannot read.
"""

_FILES_SPARED: Final = 100
"""Open files that are no connections: the store's, the log's, and some to spare."""


class Server(web.Server):
    """What aiohttp's runner runs: one protocol for each connection."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], service: Service) -> None:
        """
        Nobody is connected.

        Args:
            handler: Answers every request that can be read.
            service: Its settings bound the connections, its origins adorn the answers.
        """
        # A caller that goes away cancels its handler: a waiting claim or stream is gone at once. Commands go on.
        super().__init__(handler, request_factory=self._request, handler_cancellation=True)
        self.service = service
        self.connected = 0
        self.connections_max = min(service.settings.connections_max, max(1, files_max() - _FILES_SPARED))

    def __call__(self) -> Protocol:
        """The protocol of a new connection."""
        return Protocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            # Bodies come as they are: unpacking what a stranger packed costs more than it saves.
            auto_decompress=False,
            keepalive_timeout=self.service.settings.connection_idle_s,
            max_line_size=_HEAD_LINE_BYTES_MAX,
            max_field_size=_HEAD_LINE_BYTES_MAX,
        )

    def _request(self, *parts: Any) -> web.BaseRequest:  # noqa: ANN401  # message, payload, protocol, writer, task
        return Request(*parts, asyncio.get_running_loop(), service=self.service)


class Request(web.BaseRequest):
    """A request whose answer is adorned, whoever makes it: a handler, a stream, the edge, or aiohttp itself."""

    def __init__(self, *parts: Any, service: Service) -> None:  # noqa: ANN401  # as above, and the loop
        super().__init__(*parts, client_max_size=service.settings.body_bytes_max)
        self._browsers = service.browsers

    @property
    def told(self) -> bytes:
        """What its answer tells a browser, as the lines of a head."""
        return self._browsers.lines(self)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        self._browsers.adorn(self, response)


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ("_counted", "_server")

    def __init__(self, server: Server, **options: Any) -> None:  # noqa: ANN401  # aiohttp's
        super().__init__(server, **options)
        self._server = server
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is counted; one too many is told so, and closed before it has cost a task."""
        if self._server.connected + self._server.service.streams.freed >= self._server.connections_max:
            self.close()
            cast("asyncio.Transport", transport).write(_full(self._server.service.browsers))
            transport.close()
            return
        _cut_if_unread(transport, self._server.service.settings.stream_stall_s)
        self._server.connected += 1
        self._server.service.metrics.connections_open.inc()
        self._counted = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is counted no more."""
        if self._counted:
            self._counted = False
            self._server.connected -= 1
            self._server.service.metrics.connections_open.dec()
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
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            # As aiohttp has it: an answer was begun, and no other can follow. Or nobody is there for one.
            raise ConnectionResetError
        request_id = new_request_id()
        error: JobsvcError
        if status == _UNREADABLE:
            error = Malformed(_said_of(exc))
            log("request.refused", code=error.code, request_id=request_id)
        else:
            error = InternalFault()
            log_failure("request.failed", exc or error, request_id=request_id, method=request.method)
        self._server.service.metrics.refusals.labels(error.code).inc()
        response = problem_response(error, instance=request.path, request_id=request_id)
        response.force_close()
        return response


_UNREADABLE: Final = 400
"""The status that aiohttp gives to what it cannot read, and to nothing else."""


def _said_of(fault: BaseException | None) -> str:
    """What was wrong, in our words: aiohttp's repeat what was sent."""
    match fault:
        case LineTooLong():
            return f"the request line and each header have at most {_HEAD_LINE_BYTES_MAX} bytes"
        case BadHttpMethod():
            return "the request line has no method that is one"
        case InvalidHeader():
            return "a header is none"
        case TransferEncodingError():
            return "the body's chunks are none"
        case _:
            return "the request is not HTTP as it should be"


def _cut_if_unread(transport: asyncio.BaseTransport, stall_s: float) -> None:
    """
    The kernel ends the connection if what waits for its peer is not read for long: an answer is in memory until it is.

    Twice the stall time, so that a stream, which watches by itself, can count and say that it was cut.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2_000 * stall_s))


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
