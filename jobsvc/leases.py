"""
The leases: who may report until when. In memory only, on the clock of elapsed time.

A heartbeat is neither an event nor a row. What the log knows is that a lease was given and for how long; after a
restart each gets its whole length again, because it was the service that was away, not the worker.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsvc.domain.words import JobId


Lease = tuple[int, int]
"""(expires, length)."""

_STALE_MAX: Final = 64
"""How many entries of leases that ended the heap may carry besides as many as there are leases."""


class Leases:
    """
    The running leases by job. All moments are of the elapsed clock, in microseconds.

    Cost: grant, renew and end are O(log n) at most; the next lapse is found without a scan.
    """

    def __init__(self) -> None:
        self._leases: dict[JobId, Lease] = {}
        self._lapses: list[tuple[int, JobId]] = []
        self._scheduled: dict[JobId, int] = {}
        """By job, its one entry in the heap that counts."""

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[JobId]:
        return iter(self._leases)

    def grant(self, job_id: JobId, *, lease_us: int, elapsed: int) -> None:
        """The job is held until *elapsed* + *lease_us*, whatever was before."""
        expires = elapsed + lease_us
        self._leases[job_id] = (expires, lease_us)
        self._schedule(job_id, expires)

    def renew(self, job_id: JobId, *, elapsed: int) -> None:
        """The lease, if there is one, runs its whole length from now. The heap learns of it at the old lapse."""
        lease = self._leases.get(job_id)
        if lease is not None:
            self._leases[job_id] = (elapsed + lease[1], lease[1])
            if job_id not in self._scheduled:
                self._schedule(job_id, elapsed + lease[1])

    def end(self, job_id: JobId) -> None:
        """Nobody holds the job."""
        self._leases.pop(job_id, None)

    def of(self, job_id: JobId) -> Lease | None:
        """The job's lease as it runs, to be restored if what comes next is not to have happened."""
        return self._leases.get(job_id)

    def restore(self, job_id: JobId, lease: Lease | None) -> None:
        """The job's lease is *lease* again, and found when it is over."""
        self._leases.pop(job_id, None)
        if lease is not None:
            self._leases[job_id] = lease
            self._schedule(job_id, lease[0])

    def live(self, job_id: JobId, *, elapsed: int) -> bool:
        """True while somebody holds the job and is in time."""
        lease = self._leases.get(job_id)
        return lease is not None and lease[0] > elapsed

    def remaining_us(self, job_id: JobId, *, elapsed: int) -> int | None:
        """How long the lease still runs, negative once it is over; None if nobody holds the job."""
        lease = self._leases.get(job_id)
        return None if lease is None else lease[0] - elapsed

    def next_lapse(self) -> int | None:
        """When the next lease runs out, if no heartbeat comes; None if there are none."""
        while self._lapses:
            expires, job_id = self._lapses[0]
            lease = self._leases.get(job_id)
            if lease is not None and lease[0] == expires == self._scheduled.get(job_id):
                return expires
            heappop(self._lapses)
            if self._scheduled.get(job_id) == expires:
                del self._scheduled[job_id]
                if lease is not None:
                    self._schedule(job_id, lease[0])
        return None

    def take_lapsed(self, *, elapsed: int, limit: int) -> list[JobId]:
        """
        Up to *limit* jobs whose leases have run out, each once.

        They stay in the books until an event ends them; ``put_back`` those whose end could not be written.
        """
        lapsed: list[JobId] = []
        while len(lapsed) < limit:
            expires = self.next_lapse()
            if expires is None or expires > elapsed:
                break
            _, job_id = heappop(self._lapses)
            del self._scheduled[job_id]
            lapsed.append(job_id)
        return lapsed

    def put_back(self, job_id: JobId) -> None:
        """A taken job is found again, if its lease was neither ended nor renewed meanwhile."""
        lease = self._leases.get(job_id)
        if lease is not None and job_id not in self._scheduled:
            self._schedule(job_id, lease[0])

    def _schedule(self, job_id: JobId, expires: int) -> None:
        earlier = self._scheduled.get(job_id)
        if earlier is None or expires < earlier:
            self._scheduled[job_id] = expires
            heappush(self._lapses, (expires, job_id))
            if len(self._lapses) > 2 * len(self._leases) + _STALE_MAX:
                self._tidy()

    def _tidy(self) -> None:
        """Forget the entries of leases that ended: an hour's lease may be over in a second, a million times."""
        self._scheduled = {job_id: at for job_id, at in self._scheduled.items() if job_id in self._leases}
        self._lapses = [(expires, job_id) for job_id, expires in self._scheduled.items()]
        heapify(self._lapses)
