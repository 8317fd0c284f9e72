"""
What the service's streams are measured against: the same frames, sent by the libraries that others would take.

Run as ``python -m bench.rivals NAME``; prints ``listening on http://HOST:PORT``. Each is written as its own examples
write it, a queue a client, on the event loop that the service runs on; pings are out of the way. ``GET /stream`` is a
stream, and each line of the body of ``POST /publish`` the data of one event for all of them. *loop* is no library: it
calls send() on one socket after the other and does nothing else, to show what the machine and the listeners can do.
"""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bench.bare import fast_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sse_starlette import EventSourceResponse
    from starlette.requests import Request
    from starlette.responses import Response

FRAME_ID: Final = "0" * 16 + ".100000"
"""As long as an id of the service's."""
_NO_PING_S: Final = 3_600
_PIECE_BYTES: Final = 65_536


def _announce(sock: socket.socket) -> None:
    host, port = sock.getsockname()
    print(f"listening on http://{host}:{port}", flush=True)


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=4_096)


class Queues:
    """A queue a client, as the libraries' examples have it."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()

    def publish(self, body: bytes) -> None:
        """Each line of *body* is one event for every client."""
        for line in body.decode().split("\n"):
            for queue in self._queues:
                queue.put_nowait(line)

    @contextmanager
    def joined(self) -> Iterator[asyncio.Queue[str]]:
        """A client's own, for as long as the block runs."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)


async def serve_aiohttp_sse() -> None:
    """aiohttp-sse, until killed."""
    from aiohttp_sse import sse_response  # noqa: PLC0415  # only who serves with it needs it

    queues = Queues()

    async def stream(request: web.Request) -> web.StreamResponse:
        async with sse_response(request, sep="\n", ping_interval=_NO_PING_S) as response:
            with queues.joined() as queue:
                await response.send("", event="hello")
                while True:
                    await response.send(await queue.get(), id=FRAME_ID, event="job")

    async def publish(request: web.Request) -> web.Response:
        queues.publish(await request.read())
        return web.Response(status=204)

    app = web.Application(client_max_size=2**24)
    app.router.add_get("/stream", stream)
    app.router.add_post("/publish", publish)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = _listen()
    await web.SockSite(runner, sock, backlog=4_096).start()
    _announce(sock)
    await asyncio.Event().wait()


async def serve_sse_starlette() -> None:
    """sse-starlette under uvicorn, until killed."""
    import uvicorn  # noqa: PLC0415  # as above
    from sse_starlette import EventSourceResponse, ServerSentEvent  # noqa: PLC0415  # as above
    from starlette.applications import Starlette  # noqa: PLC0415  # as above
    from starlette.responses import Response  # noqa: PLC0415  # as above
    from starlette.routing import Route  # noqa: PLC0415  # as above

    queues = Queues()

    async def events() -> AsyncIterator[ServerSentEvent]:
        with queues.joined() as queue:
            yield ServerSentEvent("", event="hello", sep="\n")
            while True:
                yield ServerSentEvent(await queue.get(), id=FRAME_ID, event="job", sep="\n")

    async def stream(_: Request) -> EventSourceResponse:
        return EventSourceResponse(events(), sep="\n", ping=_NO_PING_S)

    async def publish(request: Request) -> Response:
        queues.publish(await request.body())
        return Response(status_code=204)

    app = Starlette(routes=[Route("/stream", stream), Route("/publish", publish, methods=["POST"])])
    sock = _listen()
    _announce(sock)
    config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", backlog=4_096)
    await uvicorn.Server(config).serve(sockets=[sock])


def serve_loop() -> None:
    """A loop of send(), until killed."""
    listener = _listen()
    _announce(listener)
    streams: list[socket.socket] = []
    asking: dict[int, socket.socket] = {}
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asking[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
                continue
            client = asking[descriptor]
            received = client.recv(4_096)
            if received.startswith(b"GET"):
                epoll.unregister(client)
                streams.append(asking.pop(descriptor))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\nevent: hello\n\n")
            elif received:
                _send_all(streams, _rest(client, received))
            else:
                asking.pop(descriptor).close()


def _rest(client: socket.socket, received: bytes) -> bytes:
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(length)
    client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    return body


def _send_all(streams: list[socket.socket], body: bytes) -> None:
    frames = [b"event: job\nid: %b\ndata: %b\n\n" % (FRAME_ID.encode(), line) for line in body.split(b"\n")]
    content = b"".join(frames)
    for first in range(0, len(content), _PIECE_BYTES):
        piece = content[first : first + _PIECE_BYTES]
        for stream in streams:
            stream.sendall(piece)


def main() -> None:
    """Serve as the rival that the command line names."""
    if sys.argv[1] == "loop":
        serve_loop()
        return
    serve: dict[str, Callable[[], object]] = {"aiohttp-sse": serve_aiohttp_sse, "sse-starlette": serve_sse_starlette}
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(serve[sys.argv[1]]())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
