"""
The sweeper: one timer to the next due moment, and commands like anyone's when it comes.

Due are leases (on the clock of elapsed time), and what has a date: the end of a wait, a deadline, a first start, the
longest a job may be active, the grace after a cancel, a mark that may be forgotten. Nothing is scanned: each active job
has one place in a heap, at the first moment at which something could be due, and is asked again then. Whether something
really is due is the machine's to say.
"""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from jobsvc.domain import commands as c
from jobsvc.domain.errors import JobsvcError, Unavailable
from jobsvc.domain.machine import CANCEL_GRACE_US
from jobsvc.domain.words import ACTIVE
from jobsvc.telemetry import log_failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobsvc.changes import Change
    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId, Micros
    from jobsvc.ledger import Ledger
    from jobsvc.store.seam import Store

PATIENCE_S: Final = 0.25
"""The longest sleep: a wall clock that is stepped forward is noticed this soon."""

DUE_AT_ONCE_MAX: Final = 500
"""How many jobs are brought to the ledger in one go; the rest follow at once."""

_RETRY_S: Final = 0.5
_STALE_MAX: Final = 64
_FORGET_EVERY_US: Final = 60_000_000
_NEVER: Final = 2**63


class Sweeper:
    """Brings what is due to the ledger, within half a second. One per ledger."""

    def __init__(self, ledger: Ledger, store: Store, clock: Clock) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._awake_since = ledger.now()
        self._moments: dict[JobId, Micros] = {}
        self._heap: list[tuple[Micros, JobId]] = []
        self._woken = asyncio.Event()
        self._awaited = (_NEVER, _NEVER)
        """The first moment and the first lapse that the loop sleeps towards."""
        self._forget_at = 0
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Everything that was due while the service was away is found at once."""
        self._awake_since = self._ledger.now()
        for job in self._ledger.memory.jobs.values():
            self._place(job)
        self._ledger.on_commit.append(self.notice)
        self._loop = asyncio.create_task(self._run(), name="sweeper")

    async def stop(self) -> None:
        """Nothing is swept any more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    def notice(self, changes: Iterable[Change]) -> None:
        """The jobs of *changes* have their places in the heap as they stand now."""
        for change in changes:
            self._place(change.job)
        if len(self._heap) > 2 * len(self._moments) + _STALE_MAX:
            self._tidy()
        moment, lapse = self._first_due()
        if moment < self._awaited[0] or lapse < self._awaited[1]:
            self._woken.set()

    def _place(self, job: Job, *, not_before: Micros = 0) -> None:
        job_id = job.id
        moment = self._first_moment(job) if job.state in ACTIVE else _NEVER
        if moment == _NEVER:
            self._moments.pop(job_id, None)
            return
        if not_before:
            moment = max(moment, not_before)
        if self._moments.get(job_id) != moment:
            self._moments[job_id] = moment
            heappush(self._heap, (moment, job_id))

    def _tidy(self) -> None:
        """Forget the places of jobs that ended or moved: else each would stay for the week that it might have lived."""
        self._heap = [(moment, job_id) for job_id, moment in self._moments.items()]
        heapify(self._heap)

    def _first_moment(self, job: Job) -> Micros:
        """The first moment at which something about *job* could be due."""
        first = _NEVER if job.active_until is None else job.active_until
        if job.due_at is not None:
            first = min(first, job.due_at)
        if job.deadline is not None:
            first = min(first, job.deadline)
        if job.start_by is not None and job.first_started_at is None:
            first = min(first, job.start_by)
        if job.grace_until is not None:
            first = min(first, max(job.grace_until, self._awake_since + CANCEL_GRACE_US))
        return first

    async def _run(self) -> None:
        while True:
            try:
                await self._sweep()
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
            except Exception as fault:  # noqa: BLE001  # the loop must outlive a fault in one sweep, and say so
                log_failure("sweeper.failed", fault)
                await asyncio.sleep(_RETRY_S)
            await self._sleep()

    async def _sleep(self) -> None:
        """Until the next moment, a commit that has brought an earlier one, or the end of patience."""
        self._woken.clear()
        self._awaited = self._first_due()
        try:
            async with asyncio.timeout(self._wait_s()):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _wait_s(self) -> float:
        moment, lapse = self._awaited
        wait_us = min(PATIENCE_S * 1e6, moment - self._ledger.now(), lapse - self._clock.elapsed())
        return max(0, wait_us) / 1e6

    def _first_due(self) -> tuple[Micros, int]:
        """The first moment at which something could be due, and the first lapse of a lease on the elapsed clock."""
        lapse = self._ledger.leases.next_lapse()
        return self._heap[0][0] if self._heap else _NEVER, _NEVER if lapse is None else lapse

    async def _sweep(self) -> None:
        await self._sweep_leases()
        await self._sweep_moments()
        if self._clock.now() >= self._forget_at:
            forgotten = await self._store.forget_marks(expired_at=self._clock.now())
            if not forgotten:
                # Else there may be more, and the next sweep goes on.
                self._forget_at = self._clock.now() + _FORGET_EVERY_US

    async def _sweep_leases(self) -> None:
        leases = self._ledger.leases
        lapsed = leases.take_lapsed(elapsed=self._clock.elapsed(), limit=DUE_AT_ONCE_MAX)
        if not lapsed:
            return
        try:
            await self._bring([c.Lapse(job_id) for job_id in lapsed])
        except JobsvcError:
            for job_id in lapsed:
                leases.put_back(job_id)
            raise

    async def _sweep_moments(self) -> None:
        now = self._ledger.now()
        due: list[JobId] = []
        while self._heap and self._heap[0][0] <= now and len(due) < DUE_AT_ONCE_MAX:
            moment, job_id = heappop(self._heap)
            if self._moments.get(job_id) == moment:
                del self._moments[job_id]
                due.append(job_id)
        commands = [self._due(job, now) for job in map(self._ledger.memory.jobs.get, due) if job is not None]
        try:
            await self._bring(commands)
        finally:
            self._replace_unchanged(due, now)

    def _replace_unchanged(self, due: list[JobId], now: Micros) -> None:
        """A job about which nothing was due after all, or could not be written, is asked again a little later."""
        for job_id in due:
            job = self._ledger.memory.jobs.get(job_id)
            if job is not None and job_id not in self._moments:
                self._place(job, not_before=now + int(PATIENCE_S * 1e6))

    def _due(self, job: Job, now: Micros) -> c.JobCommand:
        """What is due about *job*: that it is over comes before that it may go on."""
        if self._is_over(job, now):
            return c.Expire(job.id)
        return c.EndGrace(job.id) if job.due_at is None else c.ComeDue(job.id)

    def _is_over(self, job: Job, now: Micros) -> bool:
        return any(moment is not None and moment <= now for moment in self._ends(job))

    @staticmethod
    def _ends(job: Job) -> tuple[Micros | None, ...]:
        return (job.deadline, job.start_by if job.first_started_at is None else None, job.active_until)

    async def _bring(self, commands: list[c.JobCommand]) -> None:
        if not commands:
            return
        try:
            await self._ledger.execute_all(commands)
        except JobsvcError:
            raise
        except Exception as fault:  # noqa: BLE001  # one job that nobody can decide about must not keep the others
            log_failure("sweeper.failed", fault)
            await self._bring_singly(commands)

    async def _bring_singly(self, commands: list[c.JobCommand]) -> None:
        for command in commands:
            try:
                await self._ledger.execute(command)
            except Unavailable:
                raise
            except Exception as fault:  # noqa: BLE001  # as above
                log_failure("sweeper.failed", fault)
