"""
Where a schedule's service runs: inside the test's own loop, or as a process of its own. Both can be killed.

In the loop a kill leaves what a kill leaves: connections end without a word, what was committed and not told stays
untold, and what was queued is gone. With settings so small that a ring is soon left behind and a reader soon lags.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from jobsvc.app import running
from jobsvc.http.edge import dispatching
from jobsvc.http.routes import ROUTES
from jobsvc.http.server import Server
from jobsvc.settings import Settings
from tests.process import SECRET, start_process

if TYPE_CHECKING:
    from jobsvc.http.service import Service
    from tests.process import ServiceProcess

RING_EVENTS: Final = 8
_SEND_BYTES: Final = 4_096
_SMALL: Final[dict[str, int | float]] = {
    "heartbeat_s": 0.06,
    "drain_s": 0.3,
    "drain_notice_s": 0.0,
    "ring_events_max": RING_EVENTS,
    "stream_buffer_high_bytes": 2_048,
    "stream_buffer_low_bytes": 512,
    "snapshot_part_bytes_max": 4_096,
    "stream_stall_s": 0.25,
    "streams_per_principal_max": 100,
    "catching_up_at_once_max": 2,
    "progress_per_s": 1_000,
    "guests_per_minute_max": 100_000,
}


class Place(Protocol):
    """
    Where a service runs, or does not.

    Attributes:
        url: Of the one that runs.
        database: Its log.
        ring_first: The position at which its ring begins; 0 where nobody can look.
    """

    url: str
    database: Path

    @property
    def ring_first(self) -> int:
        """
        As above.
        """
        ...

    async def start(self, database: Path) -> None:
        """
        It runs on *database*.
        """
        ...

    async def stop(self) -> None:
        """
        It was asked to stop, and did.
        """
        ...

    async def kill(self) -> None:
        """
        It was killed. Killing what does not run does nothing.
        """
        ...


class InLoop:
    """
    In the test's own loop.
    """

    def __init__(self, **settings: float) -> None:
        self._settings = _SMALL | settings
        self._stack = AsyncExitStack()
        self._server: Server | None = None
        self._service: Service | None = None
        self._listening: socket.socket | None = None
        self.url = ""
        self.database = Path()

    @property
    def ring_first(self) -> int:
        """
        Where its ring begins.
        """
        return 0 if self._service is None else self._service.feed.ring.first

    async def start(self, database: Path) -> None:
        """
        It runs on *database*.
        """
        self.database = database
        settings = Settings(database=str(database), secret=SECRET, port=0, **self._settings)  # type: ignore[arg-type]  # each its own type
        self._service = await self._stack.enter_async_context(running(settings))
        self._server = Server(dispatching(ROUTES, self._service), self._service)
        runner = web.ServerRunner(self._server, shutdown_timeout=0.3)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        self._listening = listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        listening.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

    async def stop(self) -> None:
        """
        Drained and stopped, and nothing of it is left.
        """
        assert self._service is not None
        await self._service.streams.drain(0.3)
        await self._end()

    async def kill(self) -> None:
        """
        Its connections end, its writer stops where it is.
        """
        if self._service is None:
            return
        assert self._server is not None
        for connection in self._service.streams.connections:
            connection.abort()
        for protocol in self._server.connections:
            if protocol.transport is not None:
                protocol.transport.abort()
        ledger = self._service.ledger
        assert ledger.writer is not None
        ledger.writer.cancel()
        await asyncio.gather(ledger.writer, return_exceptions=True)
        ledger._writing = None  # noqa: SLF001  # what a kill does, nobody offers
        await self._end()

    async def _end(self) -> None:
        service, self._service = self._service, None
        assert self._listening is not None
        # What was accepted in the very turn in which a server closes is never closed by asyncio (CPython 3.11).
        asyncio.get_running_loop().remove_reader(self._listening)
        for _turn in range(3):
            await asyncio.sleep(0)
        await self._stack.aclose()
        assert service is not None
        assert (0, 0) == (len(service.streams), len(service.feed)), "streams were left behind"


class Process:
    """
    As a process of its own.
    """

    def __init__(self) -> None:
        self._process: ServiceProcess | None = None
        self.ring_first = 0
        self.url = ""
        self.database = Path()

    async def start(self, database: Path) -> None:
        """
        It runs on *database*.
        """
        self.database = database
        environ = {f"JOBSVC_{name.upper()}": str(value) for name, value in _SMALL.items()}
        self._process = await start_process(database, environ=environ)
        self.url = self._process.url

    async def stop(self) -> None:
        """
        SIGTERM, and it ends well.
        """
        assert self._process is not None
        code, self._process = await self._process.stop(), None
        assert 0 == code

    async def kill(self) -> None:
        """
        SIGKILL.
        """
        if self._process is not None:
            await self._process.kill()
            self._process = None
