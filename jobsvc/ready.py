"""
The ready line: which queued job the next claim gets.

Order: priority, then round robin over owners, then who has been ready longest. Memory only, private to the ledger's
writer, and always rebuilt from the active jobs; the log knows nothing of it.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from jobsvc.domain.words import JobId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobsvc.domain.job import Job

_STALE_MAX: Final = 64
"""How many entries of jobs that left otherwise the line may carry besides as many as there are jobs."""

_Place = tuple[str, int, str, int]
"""(kind, priority, owner, ready_at): where in the line a job stands."""


_Rank = tuple[int, int, int, str]
"""(−priority, when the owner was last served, ready_at, id): the least of all first jobs comes first."""


_Turns = dict[str, list[tuple[int, JobId]]]
"""The owners that wait at one (kind, priority), in the order of their turns, each with a heap of (ready_at, id)."""


class ReadyLine:
    """
    All jobs that wait for a worker.

    Cost: a put or drop is O(log n); a take is O(kinds asked for) plus O(log n).
    """

    def __init__(self) -> None:
        self._places: dict[JobId, _Place] = {}
        self._turns: dict[str, dict[int, _Turns]] = {}
        self._served: dict[str, int] = {}
        self._round = 0
        self._entries = 0

    def __len__(self) -> int:
        return len(self._places)

    def put(self, job: Job) -> None:
        """*job* waits. Putting it again where it stands changes nothing."""
        job_id, place = job.id, (job.kind, job.terms.priority, job.submission.owner, job.ready_at)
        if self._places.get(job_id) == place:
            return
        self._places[job_id] = place
        kind, priority, owner, ready_at = place
        try:
            heap = self._turns[kind][priority][owner]
        except KeyError:
            heap = self._turns.setdefault(kind, {}).setdefault(priority, {}).setdefault(owner, [])
        heappush(heap, (ready_at, job_id))
        self._entries += 1
        if self._entries > 2 * len(self._places) + _STALE_MAX:
            self._tidy()

    def drop(self, job_id: JobId) -> None:
        """The job does not wait, if it did. Its entry is passed over when it comes up."""
        self._places.pop(job_id, None)

    def take(self, kinds: Iterable[str]) -> JobId | None:
        """The next job of *kinds* (none named: of any), which no longer waits; None if there is none."""
        best: _Rank | None = None
        best_kind = ""
        for kind in kinds or tuple(self._turns):
            rank = self._rank(kind)
            if rank is not None and (best is None or rank < best):
                best, best_kind = rank, kind
        return None if best is None else self._serve(best_kind, -best[0])

    def waiting(self, kinds: Iterable[str]) -> bool:
        """True if a take of *kinds* would give a job."""
        return any(self._rank(kind) is not None for kind in kinds or tuple(self._turns))

    def _rank(self, kind: str) -> _Rank | None:
        """Of the first job of *kind*."""
        by_priority = self._turns.get(kind, {})
        for priority in sorted(by_priority, reverse=True):
            turns = by_priority[priority]
            while turns:
                owner, heap = next(iter(turns.items()))
                self._skip_stale(heap, kind, priority, owner)
                if heap:
                    return (-priority, self._served.get(owner, 0), *heap[0])
                del turns[owner]
            del by_priority[priority]
        self._turns.pop(kind, None)
        return None

    def _serve(self, kind: str, priority: int) -> JobId:
        turns = self._turns[kind][priority]
        owner = next(iter(turns))
        heap = turns.pop(owner)
        _, job_id = heappop(heap)
        self._entries -= 1
        del self._places[job_id]
        self._round += 1
        self._served[owner] = self._round
        if heap:
            turns[owner] = heap
        elif len(self._served) > 2 * len(self._places) + _STALE_MAX:
            self._forget_served()
        return job_id

    def _forget_served(self) -> None:
        """Owners that wait for nothing need no memory of their last turn."""
        waiting = {place[2] for place in self._places.values()}
        self._served = {owner: turn for owner, turn in self._served.items() if owner in waiting}

    def _skip_stale(self, heap: list[tuple[int, JobId]], kind: str, priority: int, owner: str) -> None:
        while heap and self._places.get(heap[0][1]) != (kind, priority, owner, heap[0][0]):
            heappop(heap)
            self._entries -= 1

    def _tidy(self) -> None:
        """Forget what left otherwise, wherever it stands; nobody's turn changes."""
        self._entries = 0
        for kind, by_priority in list(self._turns.items()):
            for priority, turns in list(by_priority.items()):
                self._tidy_turns(turns, kind, priority)
                if not turns:
                    del by_priority[priority]
            if not by_priority:
                del self._turns[kind]

    def _tidy_turns(self, turns: _Turns, kind: str, priority: int) -> None:
        for owner, heap in list(turns.items()):
            place = (kind, priority, owner)
            heap[:] = {entry for entry in heap if self._places.get(entry[1]) == (*place, entry[0])}
            heapify(heap)
            self._entries += len(heap)
            if not heap:
                del turns[owner]
