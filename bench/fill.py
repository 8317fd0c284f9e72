"""
A log of any length in seconds: whole lifecycles, appended through the store in batches, with every row that follows.

Each job is created, started, reports progress once and completes: four events, nothing left active. The rows are those
that the service itself would have written, made by the same domain and staged by the same memory.
Run as ``python -m bench.fill DATABASE EVENTS``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Raw

from jobsvc.clock import SystemClock
from jobsvc.domain.events import Completed, Created, NewEvent, Payload, Progressed, Report, Started, Submission, Terms
from jobsvc.domain.ids import RANDOM_BYTES, IdMaker
from jobsvc.memory import Memory, Stage
from jobsvc.store.seam import Batch, Found
from jobsvc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsvc.domain.words import JobId

EVENTS_PER_JOB: Final = 4
_EVENTS_PER_BATCH: Final = 1_000
_OWNERS: Final = 1_000
_WEEK_US: Final = 7 * 86_400_000_000
_FIRST_POST: Final = 1_700_000_000_000_000_000
_DIGEST: Final = sha256(b'{"saved":true}').hexdigest()


async def fill(database: Path, events: int) -> None:
    """*database* is new and its log holds *events* events, or up to three fewer."""
    store, clock, ids, memory = SqliteStore(database), SystemClock(), IdMaker(), Memory()
    memory.load(await store.open())
    try:
        for first in range(0, events // EVENTS_PER_JOB, _EVENTS_PER_BATCH // EVENTS_PER_JOB):
            last = min(first + _EVENTS_PER_BATCH // EVENTS_PER_JOB, events // EVENTS_PER_JOB)
            stage = Stage(memory, Found())
            for number in range(first, last):
                now = clock.now()
                for event in lifecycle(ids.make(now, os.urandom(RANDOM_BYTES)), number, now=now):
                    stage.add(event, max(now, stage.last_at))
            memory.commit(stage, await store.append(batch_of(stage), decided_at=memory.position))
    finally:
        await store.close()


def lifecycle(job_id: JobId, number: int, *, now: int) -> Iterator[NewEvent]:
    """The four events of the *number*-th job."""
    owner, post = f"guest:filled-{number % _OWNERS}", _FIRST_POST + number
    request_id = f"fill-{number:x}"
    wanted = Submission(owner, f"x:post:{post}", "x-post/1", f"https://x.com/somebody/status/{post}?s=20")
    born = Created("x-post", "queued", Terms(), active_until=now + _WEEK_US)
    yield NewEvent(job_id, born, Payload(actor=owner, request_id=request_id, submission=wanted))
    work = Payload(actor="worker:fill", request_id=request_id)
    yield NewEvent(job_id, Started(fence=1, attempt=1, lease_us=30_000_000, worker="fill"), work)
    half = Payload(actor="worker:fill", request_id=request_id, percent=50.0, message="half of it")
    yield NewEvent(job_id, Progressed(), half)
    done = Payload(actor="worker:fill", request_id=request_id, result=Raw(b'{"saved":true}'))
    yield NewEvent(job_id, Completed(Report("complete", 1, _DIGEST)), done)


def batch_of(stage: Stage) -> Batch:
    """What is to be appended of *stage*."""
    return Batch(
        events=[change.event for change in stage.changes],
        owners=[change.job.owner for change in stage.changes],
        active=stage.active,
        keys=stage.keys,
        history=stage.history,
    )


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[1]), int(sys.argv[2])))
