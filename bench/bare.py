"""
The bare handler that everything is measured against: aiohttp, a JSON body read, a JSON body of equal size answered.

No identity, no log, no disk: what the framework itself costs on this machine, in a process like the service's.
Run as ``python -m bench.bare ANSWER.json [--plain]``; prints ``listening on http://HOST:PORT``. It runs on uvloop where
that is installed, as the service does; with --plain on asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable


async def _serve(answer: object) -> None:
    async def handle(request: web.Request) -> web.Response:
        orjson.loads(await request.read())
        return web.Response(body=orjson.dumps(answer), status=201, headers={"Content-Type": "application/json"})

    app = web.Application()
    app.router.add_post("/api/jobs", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    host, port = runner.addresses[0][:2]
    print(f"listening on http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Answer until killed."""
    answer = orjson.loads(Path(sys.argv[1]).read_bytes())
    with asyncio.Runner(loop_factory=None if "--plain" in sys.argv else fast_loop()) as runner:
        runner.run(_serve(answer))


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop that the service runs on; None where that is asyncio's own."""
    try:
        uvloop: Any = import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    main()
