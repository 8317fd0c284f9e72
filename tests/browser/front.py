"""
The front: what stands between a browser and the service in these tests, as a platform's own server would.

It serves the test's pages, hands everything else on, byte by byte as it comes, and counts what was asked for. It can be
told to fail as proxies and networks do. The service behind it can be exchanged for another, as after a restart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

APP: Final = Path(__file__).parents[2] / "examples" / "react" / "dist"
PAGES: Final = Path(__file__).parent / "pages"
_HOP: Final = {"connection", "transfer-encoding", "content-length", "keep-alive", "content-encoding"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; worker-src 'self'; img-src data:"
)

Mode = Literal["through", "unavailable", "buffering"]


class Front:
    """
    Attributes:
        url: Where browsers find it.
        service: Where requests go on to.
        mode: How it fails, if it does.
        asked: Requests to the service by method and path, since the last ``forget``.
        streams: Streams that are open through it now.
        answers: Set while what is written to the service is answered; else it is done, and nobody hears of it.
        fails: Answers what begins with this path, where it is any, with an error of its own.
        holds: Keeps what begins with this path, where it is any, waiting until ``heal``.
    """

    def __init__(self, service: str) -> None:
        self.url = ""
        self.service = service
        self.mode: Mode = "through"
        self.asked: Counter[str] = Counter()
        self.streams = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.fails = ""
        self.holds = ""
        self._healed = asyncio.Event()
        self._upstreams: set[asyncio.Task[object]] = set()
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))

    def forget(self) -> None:
        """
        Nothing was asked yet.
        """
        self.asked.clear()

    def heal(self) -> None:
        """
        Nothing fails or waits any more.
        """
        self.mode, self.fails, self.holds = "through", "", ""
        self.go_on()

    def go_on(self) -> None:
        """
        What was kept waiting goes on.
        """
        self._healed.set()
        self._healed = asyncio.Event()

    def cut(self) -> None:
        """
        Every connection on which something is going on breaks.
        """
        for task in self._upstreams:
            task.cancel()

    async def page(self, request: web.Request) -> web.StreamResponse:
        """
        One of the test's pages.
        """
        name = request.match_info["name"]
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return web.FileResponse(PAGES / name, headers=headers)

    async def app(self, request: web.Request) -> web.StreamResponse:
        """
        The example that is built with React.
        """
        del request
        return web.FileResponse(APP / "index.html", headers={"Content-Security-Policy": _POLICY})

    async def hand_on(self, request: web.Request) -> web.StreamResponse:
        """
        The service's answer.
        """
        self.asked[f"{request.method} {request.path}"] += 1
        if self.mode == "unavailable":
            return web.Response(status=503)
        if self.holds and request.path.startswith(self.holds):
            await self._healed.wait()
        if self.fails and request.path.startswith(self.fails):
            return web.Response(status=500)
        task = asyncio.current_task()
        assert task is not None
        self._upstreams.add(task)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._upstreams.discard(task)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        try:
            upstream = await self._session.request(
                request.method,
                f"{self.service}{request.raw_path}",
                headers=headers,
                data=await request.read() or None,
                allow_redirects=False,
            )
        except aiohttp.ClientError:
            return web.Response(status=502)
        async with upstream:
            if request.method == "POST":
                await self.answers.wait()
            kept = [(name, value) for name, value in upstream.headers.items() if name.lower() not in _HOP]
            response = web.StreamResponse(status=upstream.status)
            response.headers.extend(kept)
            await self._pass(request, upstream, response)
            return response

    async def _pass(self, request: web.Request, upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        streaming = "event-stream" in upstream.headers.get("Content-Type", "")
        self.streams += streaming
        try:
            await response.prepare(request)
            async for content in upstream.content.iter_any():
                if self.mode == "buffering" and streaming:
                    # A proxy that waits for an end that never comes.
                    continue
                await response.write(content)
            await response.write_eof()
        except (aiohttp.ClientError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.streams -= streaming

    async def close(self) -> None:
        """
        No connection is left.
        """
        await self._session.close()


@asynccontextmanager
async def fronting(service: str) -> AsyncIterator[Front]:
    """
    A front before *service*, on a port of its own.
    """
    front = Front(service)
    app = web.Application()
    app.router.add_get("/pages/{name}", front.page)
    app.router.add_get("/app/", front.app)
    app.router.add_static("/app/", APP)
    app.router.add_route("*", "/{path:.*}", front.hand_on)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    front.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield front
    finally:
        front.cut()
        await runner.cleanup()
        await front.close()
