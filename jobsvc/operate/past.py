"""
The past: jobs as they stood at a position of the log.

What was is read from the events alone, never from a view, so that it is also what a view can be held against. One job
costs one look at its own stream; all active jobs cost a pass over the log, in which only their ids are kept.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.domain.events import Cancelled, Completed, Created, Expired, Failed, OwnerChanged
from jobsvc.resource import JobResource
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.store.seam import Store

JOBS_PER_LOOK: Final = 64
"""Jobs that are folded in one look: as large as each may be, they are in memory together."""


class StateAt(Struct, frozen=True):
    """Jobs as they stood at a position."""

    position: int
    jobs: list[JobResource]


async def job_at(store: Store, job_id: JobId, *, position: int) -> Job | None:
    """The job as it stood at *position*; None if there was none yet. Cost: one look at its stream."""
    return (await store.read_jobs({job_id: None}, until=position)).get(job_id)


async def active_at(
    store: Store,
    position: int,
    *,
    owner: str | None = None,
    after: JobId | None = None,
    progress: Callable[[int], None] | None = None,
) -> AsyncIterator[Job]:
    """
    The jobs that were active at *position*, by id.

    Args:
        store: Only read from.
        position: Not above the head.
        owner: Those that were this owner's then; None for all.
        after: Only those with a higher id.
        progress: Told the position after each page.

    Cost: about 3 µs an event up to *position* (with *owner*: of its events), and the ids of what is active in memory.
    """
    living: set[JobId] = set()
    reached = 0
    while events := await store.read_events(after=reached, limit=ROWS_PER_PAGE_MAX, owner=owner, until=position):
        for event in events:
            _take(living, event, owner=owner)
        reached = events[-1].position
        if progress is not None:
            progress(reached)
    async for job in _folded(store, sorted(each for each in living if after is None or each > after), position):
        yield job


def _take(living: set[JobId], event: Event, *, owner: str | None) -> None:
    """*living*, the ids of the active jobs (of *owner*), after *event*."""
    match event.facts:
        case Created():
            living.add(event.job_id)
        case Completed() | Failed() | Cancelled() | Expired():
            living.discard(event.job_id)
        case OwnerChanged() if owner is not None and event.payload is not None:
            # Without a payload it was erased since, and is nobody's.
            if event.payload.owner == owner:
                living.add(event.job_id)
            else:
                living.discard(event.job_id)
        case _:
            return


async def _folded(store: Store, job_ids: Sequence[JobId], position: int) -> AsyncIterator[Job]:
    """Those of *job_ids*, in their order, that were active at *position*."""
    for chunk in chunked(job_ids):
        jobs = await store.read_jobs(dict.fromkeys(chunk), until=position)
        for job in in_order(jobs, chunk):
            # An ended job too may change hands.
            if job.active:
                yield job


def chunked(job_ids: Iterable[JobId]) -> Iterable[list[JobId]]:
    """*job_ids* in lists that may be folded in one look."""
    rest = iter(job_ids)
    while chunk := list(islice(rest, JOBS_PER_LOOK)):
        yield chunk


def in_order(jobs: Mapping[JobId, Job], job_ids: Iterable[JobId]) -> list[Job]:
    """Those of *jobs* that exist, in the order of *job_ids*."""
    return [jobs[job_id] for job_id in job_ids if job_id in jobs]
