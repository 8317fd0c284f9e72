"""
A service inside the test's own loop, reached over a real socket on loopback, and everybody who calls it.

The clock can be moved: what takes hours happens at once, and no test sleeps to let time pass.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp

from jobsvc.app import running, serving
from jobsvc.settings import Settings
from jobsvc.tokens import issue
from tests.http.client import JSON, Caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from jobsvc.domain.words import Role
    from jobsvc.http.service import Service

SECRET: Final = "a secret of forty characters, open to all"
TOKEN_TTL_S: Final = 400.0 * 86_400
SECOND_US: Final = 1_000_000


class MovableClock:
    """
    The machine's clocks, moved forward as far as a test wants.
    """

    def __init__(self) -> None:
        self._moved_us = 0

    def now(self) -> int:
        """
        The moment.
        """
        return time.time_ns() // 1000 + self._moved_us

    def elapsed(self) -> int:
        """
        Time since some fixed moment.
        """
        return time.monotonic_ns() // 1000 + self._moved_us

    def advance(self, seconds: float) -> None:
        """
        It is that much later.
        """
        self._moved_us += int(seconds * SECOND_US)


class World:
    """
    A running service and those who call it, one of each role and a second guest.
    """

    def __init__(self, service: Service, url: str, session: aiohttp.ClientSession, clock: MovableClock) -> None:
        self.service = service
        self.url = url
        self.session = session
        self.clock = clock
        self.guest = self.caller("guest", "ann")
        self.stranger = self.caller("guest", "bob")
        self.user = self.caller("user", "carol")
        self.backend = self.caller("service", "platform")
        self.worker = self.caller("worker", "w1")
        self.operator = self.caller("operator", "olga")
        self.viewer = self.caller("viewer", "vera")
        self.nobody = Caller(session, url, owner="", token=None)

    def caller(self, role: Role, subject: str, *, kinds: Iterable[str] = (), ttl_s: float = TOKEN_TTL_S) -> Caller:
        """
        Somebody in *role*, with a token that outlives any clock that a test moves.
        """
        token = issue(SECRET, role, subject=subject, ttl_s=ttl_s, now=self.clock.now(), kinds=kinds)
        owner = f"{role}:{subject}" if role in {"guest", "user"} else subject
        return Caller(self.session, self.url, owner=owner, token=token)

    def with_token(self, token: str | None) -> Caller:
        """
        Whoever bears *token*.
        """
        return Caller(self.session, self.url, owner="", token=token)

    def stop_sweeping(self) -> None:
        """
        What comes due stays undone until somebody asks for it: nobody races the test.
        """
        for running_task in asyncio.all_tasks():
            if running_task.get_name() == "sweeper":
                running_task.cancel()

    async def head(self) -> JSON:
        """
        The end of the log.
        """
        return (await self.operator.get("/api/log/head")).body

    async def position(self) -> int:
        """
        The position of the newest event.
        """
        return int((await self.head())["position"])

    async def log(self) -> list[JSON]:
        """
        The log, whole.
        """
        events: list[JSON] = []
        while True:
            page = (await self.operator.get("/api/log", after=len(events), limit=2_000)).body
            events += page["events"]
            if page["next"] is None:
                return events


@asynccontextmanager
async def started(database: Path, *, ago_s: float = 0, **settings: JSON) -> AsyncIterator[World]:
    """
    A world on *database* with *settings* of its own, for which it is so long ago.
    """
    clock = MovableClock()
    clock.advance(-ago_s)
    chosen: dict[str, JSON] = {
        "port": 0,
        "database": str(database),
        "secret": SECRET,
        "drain_s": 0.5,
        "guests_per_minute_max": 1_000,
    }
    async with (
        running(Settings(**(chosen | settings)), clock=clock) as service,
        serving(service) as url,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session,
    ):
        yield World(service, url, session, clock)
