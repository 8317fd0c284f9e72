"""
The entries: what waits to be written, in one line, and what waits to be done between two batches.

One line for all, so nobody may stand in it so often that the others wait long: each owner has a share of it, and all
guests together. What must never live here: what becomes of an entry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from jobsvc.answers import Grants
from jobsvc.domain import commands as c
from jobsvc.domain.errors import Draining, Rejected, SlowDown, StoreBusy, StoreDown
from jobsvc.domain.words import SYSTEM
from jobsvc.shares import Shares
from jobsvc.work import Flush, Several, Undo, share_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from jobsvc.answers import MarkRequest
    from jobsvc.desk import Limits
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.work import Work

_UNGRANTED: Final = "ungranted"
"""Stands for a digest in the release of a grant that never reached its worker."""


class Entry:
    """What waits in the line, and the future of whoever wants to know what became of it."""

    __slots__ = ("future", "mark", "outcome", "owner", "weight", "work")

    def __init__(self, work: Work, mark: MarkRequest | None, future: asyncio.Future[object] | None) -> None:
        self.work = work
        self.owner, self.weight = share_of(work)
        self.mark = mark
        self.future = future
        self.outcome: object = None

    def answer(self) -> Awaitable[object]:
        """What became of it, once that is known; only for a caller who wants to know."""
        assert self.future is not None  # noqa: S101  # the caller's own
        return self.future

    @property
    def request_id(self) -> str | None:
        """The request that it came by, None for what the service wants itself."""
        if isinstance(self.work, Several):
            return next((one.request_id for one in self.work.commands if not isinstance(one, Rejected)), None)
        return getattr(self.work, "request_id", None)

    @property
    def answered(self) -> bool:
        """True once the caller was told the outcome, whether or not it was there to take it."""
        future = self.future
        return future is not None and future.done() and not future.cancelled() and future.exception() is None

    def resolve(self, outcome: object) -> bool:
        """True if the caller is still there and has its answer now."""
        if self.future is None or self.future.done():
            return False
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
        return True


class Interlude:
    """Something to be done alone: what, whether the memory is old after it, if it was begun, and who asked."""

    __slots__ = ("action", "begun", "done", "reload")

    def __init__(self, action: Callable[[], Awaitable[None]], *, reload: bool) -> None:
        self.action = action
        self.reload = reload
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = False

    async def over(self) -> None:
        """Done to its end; if the caller is cancelled while it waits, it was done to its end or is never begun."""
        try:
            await asyncio.shield(self.done)
        except asyncio.CancelledError:
            if self.begun:
                await asyncio.wait({self.done})
            self.done.cancel()
            raise


class Entries:
    """
    All that waits, oldest first; bounded in all, for each owner, and for all guests together.

    Attributes:
        stopping: Nothing more may enter, but for what the service wants itself.
        failure: Why nothing can be written at the moment; None while it can.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line: deque[Entry] = deque()
        self._interludes: deque[Interlude] = deque()
        self._held = Shares(
            each_max=limits.queue_commands_per_owner_max,
            guests_max=limits.queue_commands_guests_max,
            total_max=limits.queue_commands_max,
        )
        self._awake = asyncio.Event()
        self.stopping = False
        self.failure: StoreDown | None = None

    def __len__(self) -> int:
        return len(self._line)

    @property
    def decisions(self) -> int:
        """How many decisions wait."""
        return self._held.total

    @property
    def over(self) -> bool:
        """True once nothing more may enter, and nothing waits."""
        return self.stopping and not self._line and not self._interludes

    # Entering

    def enter(self, work: Work, mark: MarkRequest | None) -> Entry:
        """
        *work* is in the line, and its caller may wait for what becomes of it.

        Raises:
            Draining: Nothing more may enter.
            StoreDown: Nothing can be written at the moment.
            StoreBusy: The line is full.
            SlowDown: The owner has its share of the line.
        """
        if self.stopping:
            raise Draining
        if self.failure is not None:
            raise StoreDown(self.failure.message)
        if self._held.total >= self._limits.queue_commands_max:
            raise StoreBusy
        entry = Entry(work, mark, asyncio.Future())
        if not entry.owner:
            self._held.take("", entry.weight)
        elif not self._held.take_if_room(entry.owner, entry.weight):
            message = "more of this owner's is waiting to be written than may wait; send less at a time"
            raise SlowDown(message)
        self._line.append(entry)
        self._awake.set()
        return entry

    def push(self, entry: Entry) -> None:
        """*entry* is in the line, whether or not there was room."""
        self._held.take(entry.owner, entry.weight)
        self._line.append(entry)
        self._awake.set()

    def push_flush(self, job_ids: Sequence[JobId]) -> None:
        """The held progress of these jobs is in the line, in parts that a batch can hold."""
        for first in range(0, len(job_ids), self._limits.batch_commands_max):
            part = tuple(job_ids[first : first + self._limits.batch_commands_max])
            self.push(Entry(Flush(part), None, None))

    def push_undo(self, grants: Iterable[Job]) -> None:
        """These grants never reached their worker: each job waits again soon, attempt and losses as before."""
        releases = tuple(c.Release(job.id, SYSTEM, job.fence, _UNGRANTED) for job in grants)
        if releases:
            self.push(Entry(Undo(releases), None, None))

    def add(self, interlude: Interlude) -> None:
        """
        *interlude* is done after the batch that is being written.

        Raises:
            Draining: Nothing more may enter.
        """
        if self.stopping:
            raise Draining
        self._interludes.append(interlude)
        self._awake.set()

    def close(self) -> None:
        """Nothing more may enter, but for what the service wants itself."""
        self.stopping = True
        self._awake.set()

    # Leaving

    async def wait(self) -> None:
        """Something waits, or nothing more may enter."""
        self._awake.clear()
        await self._awake.wait()

    def take_interlude(self) -> Interlude | None:
        """The oldest interlude, out of its line; None if there is none."""
        return self._interludes.popleft() if self._interludes else None

    async def settle(self) -> None:
        """
        A turn of the loop has brought nothing more, or there is enough for a batch.

        Requests that came in together are parsed in one turn and answered in one commit: with 96 callers 52 commands a
        batch instead of 35, for one empty turn where there is but one caller. Never a timer: nobody waits for nobody.
        """
        seen = 0
        while seen < self._held.total < self._limits.batch_commands_max and not self.stopping:
            seen = self._held.total
            await asyncio.sleep(0)

    def take_batch(self) -> list[Entry]:
        """What entered, oldest first, as much as one batch may hold and never nothing; out of the line."""
        batch: list[Entry] = []
        room = self._limits.batch_commands_max
        if self._held.total <= room:
            batch.extend(self._line)
            self._line.clear()
            self._held.clear()
        while self._line and (not batch or self._line[0].weight <= room):
            entry = self._line.popleft()
            room -= entry.weight
            self._held.give(entry.owner, entry.weight)
            batch.append(entry)
        return batch

    def take_back(self, entry: Entry, *, stands: Callable[[Job], bool]) -> None:
        """What *entry*, whose batch failed, still needs: its undoing, or that of its grants of which each *stands*."""
        if isinstance(entry.work, Undo):
            self.push(entry)
        elif isinstance(entry.outcome, Grants):
            self.push_undo(job for job in entry.outcome.fresh if stands(job))

    def refuse(self, failure: StoreDown) -> None:
        """Whoever waits for an answer has one; what the service wants itself still waits."""
        waiting, self._line = self._line, deque(entry for entry in self._line if entry.future is None)
        for entry in waiting:
            if entry.future is not None:
                self._held.give(entry.owner, entry.weight)
            entry.resolve(StoreDown(failure.message))
