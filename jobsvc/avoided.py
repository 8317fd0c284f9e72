"""
How many duplicates each job has spared: requests for the same work that were given this job instead of a new one.

No event says so, since attaching writes nothing: it is counted from when the service started, and gone when it stops.
Of active jobs every count is kept, of ended ones those of the newest, so that there are never more than there may be
active jobs and as many as are asked for besides. What must never live here: the sums over time, which are the tally's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.changes import Change
    from jobsvc.domain.words import JobId


class Avoided:
    """Counts by job. One per service."""

    def __init__(self, *, is_active: Callable[[JobId], bool], ended_max: int) -> None:
        """
        Nothing was counted yet.

        Args:
            is_active: Whether a job is active now.
            ended_max: Of how many ended jobs the count is kept, those that ended or were given last.
        """
        self._is_active = is_active
        self._ended_max = ended_max
        self._active: dict[JobId, int] = {}
        self._ended: dict[JobId, int] = {}

    def __len__(self) -> int:
        """Of how many jobs there is a count."""
        return len(self._active) + len(self._ended)

    def of(self, job_id: JobId) -> int:
        """How many duplicates *job_id* has spared, as far as that is remembered."""
        return self._active.get(job_id, 0) + self._ended.get(job_id, 0)

    def add(self, job_id: JobId) -> None:
        """It has spared one more. A job may have ended since it was given."""
        if self._is_active(job_id):
            self._active[job_id] = self._active.get(job_id, 0) + 1
        else:
            self._keep(job_id, 1)

    def take(self, changes: Sequence[Change]) -> None:
        """*changes* were committed: what has ended is no longer among the active ones. Cost: 0.1 µs each."""
        for change in changes:
            if change.job.id in self._active and not change.job.active:
                self._keep(change.job.id, self._active.pop(change.job.id))

    def _keep(self, job_id: JobId, more: int) -> None:
        self._ended[job_id] = self._ended.pop(job_id, 0) + more
        if len(self._ended) > self._ended_max:
            del self._ended[next(iter(self._ended))]
