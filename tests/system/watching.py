"""
A watcher: a stream that is taken up again wherever it was cut, and all that was seen on it.

It does what a browser does: it sends the last ``id`` that it saw, and folds what it is told into a map of active jobs.
What it saw is kept frame by frame, so that it can be held against the log afterwards.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp

from tests.http.client import JSON, Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.domain.job import Job
    from tests.http.client import Frame, Frames

_CUT = (aiohttp.ClientError, ConnectionError, EOFError)


def digest_of(jobs: dict[str, JSON]) -> str:
    """
    The digest of the contract over *jobs*: XOR of FNV-1a-32 of ``<id>:<version>``, 8 hex digits.
    """
    total = 0
    for job in jobs.values():
        state = 0x811C9DC5
        for byte in f"{job['id']}:{job['version']}".encode():
            state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
        total ^= state
    return f"{total:08x}"


class Watcher:
    """
    One who watches everything in a scope, from the first snapshot on, over any number of connections.

    Attributes:
        shows: Whether a job is in its scope.
        jobs: The active jobs as folded.
        started_at: The position of the snapshot that it began with.
        place: The position up to which it has been told everything.
        seen: The ``job`` frames' data, in order, over all connections.
        connections: How many there were.
        wrong: What should never have come.
    """

    def __init__(self, token: str, *, shows: Callable[[Job], bool], kind: str | None = None) -> None:
        self._token = token
        self._params = {} if kind is None else {"kind": kind}
        self._last_id: str | None = None
        self._moved = asyncio.Event()
        self.shows = shows
        self.jobs: dict[str, JSON] = {}
        self.started_at = 0
        self.place = 0
        self.seen: list[JSON] = []
        self.connections = 0
        self.wrong: list[str] = []

    async def watch(self, session: aiohttp.ClientSession, url: str) -> None:
        """
        Returns when the connection was cut.
        """
        caller = Caller(session, url, owner="", token=self._token)
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        with suppress(*_CUT):
            async with caller.stream(headers=headers, **self._params) as frames:
                self.connections += 1
                await self._read(frames)

    async def reaches(self, position: int) -> None:
        """
        Returns once it has been told everything up to *position*.
        """
        while self.place < position:
            self._moved.clear()
            await self._moved.wait()

    async def _read(self, frames: Frames) -> None:
        parts: list[JSON] = []
        while True:
            frame = await frames.next()
            if frame.event == "snapshot":
                parts += frame.data["jobs"]
            self._take(frame, parts)
            if frame.id is not None:
                self._last_id = frame.id
                self.place = int(frame.id.rpartition(".")[2])
                self._moved.set()

    def _take(self, frame: Frame, parts: list[JSON]) -> None:
        match frame.event:
            case "hello":
                pass
            case "snapshot":
                self._begin(frame, parts)
            case "job":
                self._fold(frame.data)
            case "ready" | "hb":
                self._compare(frame.data)
            case _:
                self.wrong.append(f"{frame.event} {frame.data}")

    def _begin(self, frame: Frame, parts: list[JSON]) -> None:
        if self._last_id is not None:
            self.wrong.append(f"a snapshot after {self._last_id}")
        if not frame.data["more"]:
            self.jobs = {job["id"]: job for job in parts}
            self.started_at = int(frame.data["cursor"].rpartition(".")[2])

    def _fold(self, told: JSON) -> None:
        if told["position"] <= self.place:
            self.wrong.append(f"position {told['position']} after {self.place}")
        self.seen.append(told)
        job = told["job"]
        if job["active"]:
            self.jobs[job["id"]] = job
        else:
            self.jobs.pop(job["id"], None)

    def _compare(self, told: JSON) -> None:
        if "digest" in told and told["digest"] != digest_of(self.jobs):
            self.wrong.append(f"digest {told['digest']} at {told['cursor']}, but the map has {digest_of(self.jobs)}")
