"""
The changes: events joined with the job as it stood after each, which is what everyone but the log wants to see.

Made from memory while a batch is staged, and from the log for whoever reads further back; both ways give the same.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from jobsvc.domain.events import ENDS, TYPE_OF_FACTS, Event, Started
from jobsvc.domain.job import Job, evolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobsvc.domain.words import JobId
    from jobsvc.store.seam import Store


class Change(Struct, frozen=True, gc=False):
    """
    One event of the log, with the job as it stood after it.

    ``previous_owner`` is whose the job was before, if this very event changed that: both may see it.
    """

    event: Event
    job: Job
    previous_owner: str | None = None


def change(before: Job | None, event: Event, job: Job) -> Change:
    """The change that led from *before* to *job*."""
    moved = before is not None and before.owner != job.owner
    return Change(event, job, before.owner if moved and before is not None else None)


def count_types(changes: Iterable[Change]) -> dict[str, int]:
    """How many of *changes* there are of each type."""
    kinds = Counter([type(one.event.facts) for one in changes])
    return {TYPE_OF_FACTS[kind]: count for kind, count in kinds.items()}


def waits_and_runs(changes: Iterable[Change]) -> tuple[list[int], list[int]]:
    """How long the jobs had waited that began with *changes*, and those had run that ended with them; microseconds."""
    waits, runs = list[int](), list[int]()
    for one in changes:
        kind = type(one.event.facts)
        if kind is Started:
            waits.append(max(0, one.event.at - one.job.ready_at))
        elif kind in ENDS and one.job.started_at is not None:
            runs.append(one.event.at - one.job.started_at)
    return waits, runs


async def read_changes(
    store: Store,
    *,
    after: int,
    limit: int,
    owner: str | None = None,
    job_id: JobId | None = None,
    until: int | None = None,
) -> list[Change]:
    """
    Up to *limit* changes above position *after*, in order, as ``Store.read_events`` chooses them.

    Cost: one indexed page, and a fold of each job in it up to where the page begins.
    """
    events = await store.read_events(after=after, limit=limit, owner=owner, job_id=job_id, until=until)
    standing: dict[JobId, Job] = dict(await jobs_before(store, events))
    changes: list[Change] = []
    for event in events:
        before = standing.get(event.job_id)
        job = standing[event.job_id] = evolve(before, event)
        changes.append(change(before, event, job))
    return changes


async def jobs_before(store: Store, events: Sequence[Event]) -> Mapping[JobId, Job]:
    """Each job of *events* as it stood before its first event among them; none for those that begin there."""
    firsts: dict[JobId, int | None] = {}
    for event in events:
        firsts.setdefault(event.job_id, event.version - 1)
    known = {job_id: version for job_id, version in firsts.items() if version}
    return await store.read_jobs(known) if known else {}
