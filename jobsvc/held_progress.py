"""
Held progress: what workers said of how far they are and is not written yet. The latest wins.

Of a job at most so much is written a second, and past so many events nothing before its next other event. Held by
elapsed time; only the ledger's writer sees it. What must never live here: whether the worker may still say it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from jobsvc.domain.events import NewEvent

if TYPE_CHECKING:
    from collections.abc import Container

    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId, Micros


class _Held(Struct, frozen=True):
    """Progress held back, until a moment of the elapsed clock; None for until the job's next other event."""

    event: NewEvent
    until: int | None


class HeldProgress:
    """The progress that waits, by job. One per desk."""

    def __init__(self, clock: Clock, *, interval_us: int, events_per_job_max: int) -> None:
        """
        Nothing is held.

        Args:
            clock: The time that passes.
            interval_us: How long progress is held after the last that was written.
            events_per_job_max: Past so many events of a job, its progress waits for the next other one.
        """
        self._clock = clock
        self._interval_us = interval_us
        self._events_per_job_max = events_per_job_max
        self._held: dict[JobId, _Held] = {}
        self._order: deque[tuple[int, JobId]] = deque()

    def is_due(self, job: Job, *, at: Micros) -> bool:
        """True if progress of *job* may be written at once: the last was long enough ago."""
        if self._is_full(job):
            return False
        return job.progress is None or job.leased_at is None or at - job.leased_at >= self._interval_us

    def hold(self, job: Job, event: NewEvent) -> None:
        """*event* waits, instead of what waited of *job* before, and no longer than that would have."""
        held = self._held.get(job.id)
        until = None if held is None else held.until
        if until is None and not self._is_full(job):
            until = self._clock.elapsed() + self._interval_us
            self._order.append((until, job.id))
        self._held[job.id] = _Held(event, until)

    def take(self, job_id: JobId) -> NewEvent | None:
        """The progress of the job, which waits no more."""
        held = self._held.pop(job_id, None)
        return None if held is None else held.event

    def keep_only(self, job_ids: Container[JobId]) -> None:
        """Nothing is held of other jobs."""
        self._held = {job_id: held for job_id, held in self._held.items() if job_id in job_ids}

    @property
    def job_ids(self) -> tuple[JobId, ...]:
        """Of which jobs any is held."""
        return tuple(self._held)

    def next_due(self) -> int | None:
        """When some is to be written, on the elapsed clock; None if there is none."""
        while self._order:
            moment, job_id = self._order[0]
            if self._is_held_until(moment, job_id):
                return moment
            self._order.popleft()
        return None

    def take_due(self) -> tuple[JobId, ...]:
        """The jobs whose progress is to be written now; each is named once, and still held."""
        due: list[JobId] = []
        elapsed = self._clock.elapsed()
        while self._order and self._order[0][0] <= elapsed:
            moment, job_id = self._order.popleft()
            if self._is_held_until(moment, job_id):
                due.append(job_id)
        return tuple(due)

    def _is_full(self, job: Job) -> bool:
        return job.version >= self._events_per_job_max

    def _is_held_until(self, moment: int, job_id: JobId) -> bool:
        """False for a place in the order of progress that was written, or overtaken, in the meantime."""
        held = self._held.get(job_id)
        return held is not None and held.until == moment
