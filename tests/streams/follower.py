"""
A follower: one who watches through everything that happens to its connections, and what it was told meanwhile.

It does what a browser does: sends the last id that it saw, folds what it is told, takes nothing that is not whole.
What it was told stands in parts, each from a snapshot on, to be held against the log of that epoch afterwards.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from tests.streams.wires import CUT, asking, told
from tests.system.watching import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from jobsvc.channel import Scope
    from tests.streams.wires import Response, Told

    JSON = Any

TRANSPORTS: Final = {
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "long_poll": "application/json, text/event-stream",
}


@dataclass
class Part:
    """
    What came from one snapshot on: of which log, after which position, and up to which.
    """

    epoch: str
    start: int
    place: int
    seen: list[JSON] = field(default_factory=list)


class Follower:
    """
    One who watches.

    Attributes:
        name: For whoever reads what went wrong.
        scope: What it may and wants to see.
        parts: What it was told.
        jobs: What it holds.
        wrong: What should never have come.
        over: It was told that nothing more comes.
        byes: Why it was sent away, each time.
        retry_ms: When it should be back, as it was told last.
        before_resume: Told of each position from which it resumes.
    """

    def __init__(
        self,
        chance: Random,
        scope: Scope,
        *,
        token: str,
        transport: str,
        path: str = "/api/stream",
        url: Callable[[], str],
    ) -> None:
        self._chance = chance
        self._token = token
        self._transport = transport
        self._path = path
        self._url = url
        self._cursor: str | None = None
        self._pending: list[JSON] | None = None
        self._is_off = False
        self._moved = asyncio.Event()
        self.name = f"{transport} of {scope}"
        self.scope = scope
        self.parts: list[Part] = []
        self.jobs: dict[str, JSON] = {}
        self.wrong: list[str] = []
        self.over = False
        self.byes: list[str] = []
        self.retry_ms = 0
        self.before_resume: Callable[[int], None] = lambda _: None

    @property
    def place(self) -> tuple[str, int]:
        """
        Up to where it knows everything, and of which log.
        """
        return (self.parts[-1].epoch, self.parts[-1].place) if self.parts else ("", 0)

    async def reaches(self, epoch: str, position: int) -> None:
        """
        Returns once it knows everything up to there, or is over.
        """
        while not (self.over or (self.place[0] == epoch and self.place[1] >= position)):
            self._moved.clear()
            await self._moved.wait()

    async def follow(self, *, calm: bool) -> None:
        """
        One connection, or one poll: returns when it has ended. Unless *calm*, now and then with a cursor that is none.
        """
        sent = self._cursor if calm or self.scope.ends or self._chance.random() > 0.08 else self._bad_cursor()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": TRANSPORTS[self._transport]}
        if sent is not None:
            headers["Last-Event-ID"] = sent
        with suppress(*CUT):
            async with asking(self._url(), self._path + self._query(calm=calm), headers=headers) as response:
                await self._answered(response, sent)
        self._moved.set()

    def _query(self, *, calm: bool) -> str:
        pairs = [("kind", kind) for kind in sorted(self.scope.kinds)]
        if not self.scope.ends:
            pairs += [("job", job_id) for job_id in sorted(self.scope.job_ids)]
        if self._transport == "long_poll":
            pairs.append(("wait_s", "1" if calm else self._chance.choice(["0", "0.05", "1"])))
        return f"?{urlencode(pairs)}"

    def _bad_cursor(self) -> str:
        epoch, position = self.place
        return self._chance.choice(
            ["garbage", f"{epoch}.{position + 10**6}", f"other.{position}", "a.b.c", "." * 9_000]
        )

    async def _answered(self, response: Response, sent: str | None) -> None:
        if response.status != 200:
            await self._refused(response, sent)
            return
        self._pending = None
        self._is_off = sent != self._cursor
        if sent is not None and not self._is_off:
            self.before_resume(int(sent.rpartition(".")[2]))
        if self._transport == "long_poll":
            answer = json.loads(await response.whole())
            for line in answer["frames"]:
                self._take(told(line), sent)
            if answer["cursor"] is not None and self.parts:
                self._keep(answer["cursor"])
        else:
            async for frame in response.frames():
                self._take(frame, sent)

    async def _refused(self, response: Response, sent: str | None) -> None:
        if response.status == 204 or (response.status == 401 and (self.scope.owner or "").startswith("guest:")):
            # It was told all, or is a guest that was claimed.
            self.over = True
        elif response.status == 404 and self.scope.job_ids:
            # Another log, where these jobs never were.
            self.over = True
        elif response.status != 503:
            self.wrong.append(f"{response.status} for {sent}: {await response.whole()!r}")

    def _take(self, frame: Told, sent: str | None) -> None:
        match frame.event:
            case "hello":
                epoch = frame.data["cursor"].rpartition(".")[0]
                self._is_off = self._is_off or (sent is not None and epoch != sent.rpartition(".")[0])
            case "reset":
                if not self._is_off:
                    self.wrong.append(f"reset {frame.data} for {sent}")
                self._is_off = False
                self._pending = []
            case "snapshot":
                self._snapshot(frame, sent)
            case "job":
                self._fold(frame)
            case "hb":
                self._compare(frame)
            case "bye":
                self.byes.append(frame.data["reason"])
            case "end":
                self.over = True
            case _:
                pass
        if frame.id is not None:
            self._keep(frame.id)
        self.retry_ms = self.retry_ms if frame.retry_ms is None else frame.retry_ms

    def _keep(self, cursor: str) -> None:
        """
        Everything up to *cursor* is known.
        """
        epoch, _, position = cursor.rpartition(".")
        if self._is_off or (epoch, int(position)) < (self.parts[-1].epoch, self.parts[-1].place):
            self.wrong.append(f"{cursor} after {self.parts[-1:]}, with no reset")
        self._cursor = cursor
        self.parts[-1].place = int(position)
        self._moved.set()

    def _snapshot(self, frame: Told, sent: str | None) -> None:
        if self._pending is None:
            if sent is not None:
                self.wrong.append(f"a snapshot for {sent}, with no reset")
            self._pending = []
        self._pending += frame.data["jobs"]
        if not frame.data["more"]:
            epoch, _, position = frame.data["cursor"].rpartition(".")
            self.jobs = {job["id"]: job for job in self._pending if job["active"]}
            self.parts.append(Part(epoch, int(position), int(position)))

    def _fold(self, frame: Told) -> None:
        one, part = frame.data, self.parts[-1]
        if one["position"] <= part.place:
            self.wrong.append(f"position {one['position']} after {part.place}")
        part.seen.append((one["position"], one["type"], one["version"], one["job"]["version"]))
        job = one["job"]
        self.jobs.pop(job["id"], None)
        if job["active"] and self.scope.owner in {None, job["owner"]}:
            self.jobs[job["id"]] = job

    def _compare(self, frame: Told) -> None:
        if frame.data["digest"] != digest_of(self.jobs):
            self.wrong.append(f"digest {frame.data} but it holds {digest_of(self.jobs)}")
