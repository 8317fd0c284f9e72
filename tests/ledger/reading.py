"""
A reader: a connection of the shipped kind whose sink is the test's, and all that was written to it, frame by frame.

It folds what it is told as a client does, and has room for as much as a test gives it. Nothing of the connection, the
feed or the ring is replaced.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from jobsvc.channel import Scope
from jobsvc.domain.words import Principal
from jobsvc.framing import LINES_UNCHUNKED
from jobsvc.http.around import Around
from jobsvc.http.catching_up import CatchingUp
from jobsvc.http.connection import Connection
from jobsvc.http.snapshots import Snapshots
from jobsvc.settings import Settings
from jobsvc.slices import Slices
from jobsvc.tokens import Bearer
from jobsvc.wheel import Wheel

if TYPE_CHECKING:
    from jobsvc.domain.job import Job
    from jobsvc.feed import Feed
    from tests.ledger.rig import Rig

ALL: Final = Scope()
PLENTY: Final = 10**9
SOMEBODY: Final = Bearer(Principal("viewer", "somebody"), expires_at=2**62)


def failed(fault: Exception) -> None:
    """
    No step of any work may fail.
    """
    raise fault


class Reader:
    """
    One who reads along, from a position or afresh.

    Attributes:
        room_for: How many more writes there is room for.
        frames: What was written, as lines of JSON read back.
        lines: The same as bytes.
        jobs: What it holds: id to (version, state).
        aborted_s: When it was cut.
    """

    def __init__(
        self,
        rig: Rig,
        scope: Scope = ALL,
        *,
        after: int | str | None = None,
        feed: Feed | None = None,
        room_for: int = PLENTY,
        single: Job | None = None,
        settings: Settings | None = None,
        catching_up: CatchingUp | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        feed = feed or rig.feed
        settings = settings or Settings()
        around = Around(
            feed,
            settings,
            rig.clock,
            loop,
            Wheel(Slices(failed=failed), tick_s=0.01),
            Snapshots(
                feed, rig.ledger, rig.clock, part_bytes_max=settings.snapshot_part_bytes_max, shared_bytes_max=2**20
            ),
            catching_up or CatchingUp(feed, at_once_max=2),
            retry_ms=lambda _: 1,
            left=lambda _: None,
            stalled=Connection.abort,
        )
        self._around = around
        self.feed = feed
        self.room_for = room_for
        self.over = False
        self.aborted_s = 0.0
        self.frames: list[dict[str, Any]] = []
        self.lines: list[bytes] = []
        self.jobs: dict[str, tuple[int, str]] = {}
        self._snapshot: list[dict[str, Any]] = []
        self.connection = Connection(
            around,
            self,
            LINES_UNCHUNKED,
            scope=scope,
            single=single,
            after=feed.cursor(after) if isinstance(after, int) else after,
            bearer=SOMEBODY,
        )
        self.began = self.connection.position
        self.connection.advance()

    # What a connection asks of its sink

    @property
    def room(self) -> bool:
        """
        Whether more may be written.
        """
        return self.room_for > 0 and not self.over

    @property
    def buffered(self) -> int:
        """
        Nothing waits: what is written is taken.
        """
        return 0

    @property
    def untaken(self) -> int:
        """
        The same.
        """
        return 0

    def write(self, content: bytes, *, news: bool) -> None:
        """
        It is taken, line by line. A step of a connection's life may write twice, the second time a small frame.
        """
        del news
        self.room_for -= 1
        for line in content.splitlines():
            self.lines.append(line)
            self.frames.append(json.loads(line))
            self._take(self.frames[-1])

    def full(self) -> None:
        """
        Whoever waits is told by ``give_room``.
        """

    def finish(self) -> None:
        """
        Nothing more comes.
        """
        self.over = True

    def abort(self) -> None:
        """
        Nothing more comes.
        """
        self.over = True
        self.aborted_s = asyncio.get_running_loop().time()

    # What a test asks

    def give_room(self, writes: int = PLENTY) -> None:
        """
        There is room for so many more writes.
        """
        self.room_for += writes
        self.connection.advance()

    async def settled(self) -> Reader:
        """
        Returns once everything is told that there is room for.
        """
        while self.room and (self.connection.state != "live" or self.connection.channel.quiet is not None):  # noqa: ASYNC110  # turns of the loop, until a state
            await asyncio.sleep(0)
        return self

    async def close(self) -> None:
        """
        It goes away.
        """
        self.over = True
        self.connection.lost()
        self._around.wheel.stop()
        await self._around.catching_up.stop()

    @property
    def told(self) -> list[dict[str, Any]]:
        """
        The data of its ``job`` frames.
        """
        return [frame["data"] for frame in self.frames if frame["event"] == "job"]

    @property
    def positions(self) -> list[int]:
        """
        Where in the log the events stand that it was told of.
        """
        return [one["position"] for one in self.told]

    @property
    def types(self) -> list[str]:
        """
        What kinds of events they were.
        """
        return [one["type"] for one in self.told]

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["event"]:
            case "snapshot":
                # As of its cursor: what is committed and not published yet is not in it.
                as_of = int(frame["data"]["cursor"].partition(".")[2])
                assert all(job["position"] <= as_of for job in frame["data"]["jobs"])
                self._snapshot += frame["data"]["jobs"]
                if not frame["data"]["more"]:
                    self.jobs = {job["id"]: (job["version"], job["state"]) for job in self._snapshot if job["active"]}
                    self._snapshot = []
            case "job":
                job = frame["data"]["job"]
                self.jobs.pop(job["id"], None)
                if job["active"] and self.connection.channel.scope.owner in {None, job["owner"]}:
                    self.jobs[job["id"]] = (job["version"], job["state"])
            case _:
                pass


def active_of(rig: Rig, owner: str | None = None) -> dict[str, tuple[int, str]]:
    """
    What a reader of *owner*, or of all, should hold now.
    """
    return {job.id: (job.version, job.state) for job in rig.ledger.memory.jobs.values() if owner in {None, job.owner}}
