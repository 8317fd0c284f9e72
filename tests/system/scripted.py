"""
A service that says what a test tells it to, over a real socket: for breaks and refusals that no healthy one shows.

It knows no jobs. What a client makes of a healthy service is tested against the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

OVER: web.AppKey[asyncio.Event] = web.AppKey("over", asyncio.Event)
Turn = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """
    Answers each request with the next turn of its path's script; the last turn stays.

    Attributes:
        url: Where it listens.
        requests: What came, in order: path, headers and parsed body.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self._scripts: dict[str, list[Turn]] = {}

    def script(self, path: str, *turns: Turn) -> None:
        """Requests for *path* get *turns*, one each."""
        self._scripts[path] = list(turns)

    def came(self, path: str) -> list[tuple[dict[str, str], Any]]:
        """The requests for *path*: headers and body of each."""
        return [(headers, body) for asked, headers, body in self.requests if asked == path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The next turn."""
        body = await request.read()
        self.requests.append((request.path, dict(request.headers), msgspec.json.decode(body) if body else None))
        script = self._scripts[request.path]
        turn = script.pop(0) if len(script) > 1 else script[0]
        return await turn(request)


@contextlib.asynccontextmanager
async def scripted_service() -> AsyncIterator[Scripted]:
    """A scripted service on a free port of loopback."""
    scripted = Scripted()
    app = web.Application()
    over = app[OVER] = asyncio.Event()
    app.router.add_route("*", "/{tail:.*}", scripted.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield scripted
    finally:
        over.set()
        await runner.cleanup()


def answers(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Turn:
    """A turn that answers *body* as JSON."""

    async def turn(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json"
        )

    return turn


def refuses(status: int, code: str, **more: object) -> Turn:
    """A turn that answers with a problem."""
    return answers({"status": status, "code": code, "title": code, **more}, status=status)


def is_cut() -> Turn:
    """A turn whose connection breaks before any answer."""

    async def turn(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return turn


def streams(*frames: str, then: str = "closes") -> Turn:
    """
    A turn that writes *frames* and then ``closes``, or is ``silent`` for as long as the client stays, or is ``cut``.
    """

    async def turn(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for frame in frames:
            await response.write(frame.encode())
        assert request.transport is not None
        if then == "cut":
            request.transport.abort()
        if then == "silent":
            await request.app[OVER].wait()
        return response

    return turn


def frame(event: str, data: object, *, cursor: str | None = None, retry_ms: int | None = None) -> str:
    """A frame as the service writes it."""
    lines = [f"event: {event}"]
    lines += [] if cursor is None else [f"id: {cursor}"]
    lines += [] if retry_ms is None else [f"retry: {retry_ms}"]
    lines.append(f"data: {msgspec.json.encode(data).decode()}")
    return "\n".join(lines) + "\n\n"


def hello(*, heartbeat_s: float = 15.0, retry_ms: int = 1) -> str:
    """The first frame of a connection."""
    shown = {"cursor": "e.0", "heartbeat_s": heartbeat_s, "server_time": "2026-11-24T00:00:00.000000Z"}
    return frame("hello", shown, retry_ms=retry_ms)


def job(job_id: str = "j1", *, version: int = 1, state: str = "queued", **more: object) -> dict[str, object]:
    """A job as the service shows it, no more of it than has to be."""
    active = state in {"scheduled", "queued", "running", "retrying", "cancelling"}
    return {"id": job_id, "kind": "x-post", "state": state, "active": active, "version": version, **more}


def change(position: int, shown: dict[str, object], event_type: str = "job.started") -> str:
    """A job frame at *position*."""
    told = {"type": event_type, "position": position, "version": shown["version"], "at": "2026-11-24T00:00:00.000000Z"}
    return frame("job", {**told, "job": shown, "data": {}}, cursor=f"e.{position}")


def snapshot(position: int, *jobs: dict[str, object], more: bool = False) -> str:
    """A part of a snapshot; the last one has the cursor."""
    shown = {"jobs": list(jobs), "cursor": f"e.{position}", "more": more}
    return frame("snapshot", shown, cursor=None if more else f"e.{position}")
