"""
What must hold after any race, read off the log itself: one stream a job, one end, one holder a key, rising fences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.events import Started
from jobsvc.domain.job import evolve
from jobsvc.domain.machine import would_refuse
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from tests.ledger.rig import Rig


async def check_laws(rig: Rig, *, after: int, published_whole: bool = True) -> dict[str, Job]:
    """
    The jobs of the events above position *after*, which keep every law; memory is what they add up to.

    Before *after* no job was active. With *published_whole* the feed has told each event once.
    """
    events = await rig.store.read_events(after=after, limit=ROWS_PER_PAGE_MAX)
    jobs = folded(events, after=after)
    active = {job.id: job for job in jobs.values() if job.active}
    memory = rig.ledger.memory
    assert active == memory.jobs
    assert {job.id for job in active.values() if job.key is not None} == set(memory.keys)
    assert {job.id for job in active.values() if job.lease_us is not None} == set(rig.ledger.leases)
    assert sum(job.ready for job in active.values()) == rig.ledger.ready
    assert memory.position == rig.feed.position == after + len(events)
    if published_whole:
        assert [event.position for event in events] == [change.event.position for change in rig.changes]
    return jobs


def folded(events: Sequence[Event], *, after: int) -> dict[str, Job]:
    """
    The jobs of *events*, each of which was lawful when it happened.
    """
    jobs: dict[str, Job] = {}
    holders: dict[tuple[str, str, str], str] = {}
    last_at = 0
    for place, event in enumerate(events, start=after + 1):
        assert (place, True) == (event.position, event.at >= last_at)
        before = jobs.get(event.job_id)
        assert event.version == (1 if before is None else before.version + 1)
        job = jobs[event.job_id] = evolve(before, event)
        last_at = event.at
        if before is not None:
            _check_step(before, event, job)
        _check_holder(holders, before, job)
    return jobs


def _check_step(before: Job, event: Event, job: Job) -> None:
    assert not would_refuse(before.state, event.type), (before.state, event.type)
    if isinstance(event.facts, Started):
        assert job.fence > before.fence
    assert job.fence >= before.fence
    assert 0 <= job.attempt <= job.terms.max_attempts


def _check_holder(holders: dict[tuple[str, str, str], str], before: Job | None, job: Job) -> None:
    """
    At no position do two active jobs have one key.
    """
    if job.key is None:
        return
    if before is not None and before.active and before.key is not None:
        del holders[before.owner, before.kind, before.key]
    if job.active:
        assert (job.owner, job.kind, job.key) not in holders
        holders[job.owner, job.kind, job.key] = job.id
