"""
Small histories for the store's tests: events in order, and the batches that put them into a log with their rows.

The rows are made by ``evolve`` and three lines each, not by the projections, so that the store is tested by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw
from msgspec.structs import replace

from jobsvc.domain.events import (
    Completed,
    Created,
    Event,
    LateResult,
    OwnerChanged,
    Payload,
    Progressed,
    Released,
    Report,
    Started,
    Submission,
    Terms,
)
from jobsvc.domain.job import evolve
from jobsvc.store import chain
from jobsvc.store.seam import Batch, HistoryRow, KeyRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.domain.events import Facts
    from jobsvc.domain.job import Job
    from jobsvc.store.seam import Record

START = 1_764_000_000_000_000
SECOND = 1_000_000


def job_id(number: int) -> str:
    """
    The id of the *number*-th job; ids rise with it.
    """
    return f"019ab000-0000-7000-8000-{number:012x}"


class History:
    """
    What has happened so far, by this test's own reckoning: the model that a store is compared with.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.owners: list[str] = []
        self.jobs: dict[str, Job] = {}
        self._taken = 0

    @property
    def position(self) -> int:
        """
        Of the newest event.
        """
        return len(self.events)

    def create(self, number: int, *, owner: str = "user:ada", key: str | None = None, raw: bytes = b"{}") -> Event:
        """
        A job was born; without *key* it has one of its own.
        """
        submission = Submission(owner=owner, key=key or f"key-{number}", input=Raw(raw))
        payload = Payload(actor=owner, submission=submission)
        return self._add(number, Created(kind="post", state="queued", terms=Terms()), payload)

    def start(self, number: int, *, fence: int = 1) -> Event:
        """
        A worker took it.
        """
        facts = Started(fence=fence, attempt=1, lease_us=30 * SECOND, worker="w1")
        return self._add(number, facts, Payload(actor="worker:w1"))

    def progress(self, number: int, *, percent: float) -> Event:
        """
        The worker told how far it is.
        """
        return self._add(number, Progressed(), Payload(actor="worker:w1", percent=percent))

    def complete(self, number: int, *, fence: int = 1, digest: str = "d1") -> Event:
        """
        It ended with a result.
        """
        payload = Payload(actor="worker:w1", result=Raw(b'{"ok": true}'))
        return self._add(number, Completed(report=Report("complete", fence, digest)), payload)

    def release(self, number: int, *, fence: int = 1) -> Event:
        """
        The worker gave it back.
        """
        facts = Released(report=Report("release", fence, f"r{fence}"), fence=fence + 1, attempt=0)
        return self._add(number, facts, Payload(actor="worker:w1"))

    def move(self, number: int, *, owner: str) -> Event:
        """
        It became another's.
        """
        before = self.jobs[job_id(number)].owner
        return self._add(number, OwnerChanged(), Payload(actor=owner, owner=owner, previous_owner=before))

    def late_result(self, number: int, *, fence: int, digest: str) -> Event:
        """
        A success came too late.
        """
        payload = Payload(actor="worker:w0", result=Raw(b"1"))
        return self._add(number, LateResult(report=Report("complete", fence, digest)), payload)

    def batch(self) -> Batch:
        """
        Everything since the last batch, with the rows as they are now.
        """
        events, owners = self.events[self._taken :], self.owners[self._taken :]
        self._taken = len(self.events)
        touched = {event.job_id: self.jobs[event.job_id] for event in events}
        return Batch(
            events=events,
            owners=owners,
            active={key: job if job.active else None for key, job in touched.items()},
            keys={key: key_row(job) if job.active else None for key, job in touched.items()},
            history={key: history_row(job) for key, job in touched.items() if not job.active},
        )

    def job_at(self, number: int, *, version: int) -> Job:
        """
        The job as it stood after that version, folded from all its events.
        """
        job: Job | None = None
        for event in self.events:
            if event.job_id == job_id(number) and event.version <= version:
                job = evolve(job, event)
        assert job is not None
        return job

    def jobs_at(self, position: int) -> dict[str, Job]:
        """
        Every job as it stood at *position*, folded from all events up to there.
        """
        jobs: dict[str, Job] = {}
        for event in self.events[:position]:
            jobs[event.job_id] = evolve(jobs.get(event.job_id), event)
        return jobs

    def _add(self, number: int, facts: Facts, payload: Payload) -> Event:
        name = job_id(number)
        before = self.jobs.get(name)
        version = before.version + 1 if before else 1
        event = Event(self.position + 1, name, version, START + self.position * SECOND, facts, payload)
        self.jobs[name] = evolve(before, event)
        self.events.append(event)
        self.owners.append(self.jobs[name].owner)
        return event


def chain_of(records: Sequence[Record]) -> bytes:
    """
    The chain up to the last of *records*, recomputed from the first event of the log.
    """
    link = chain.GENESIS
    for record in records:
        link = chain.link(
            link,
            record.position,
            job_id=record.job_id,
            version=record.version,
            type=record.type,
            schema=record.schema,
            at=record.at,
            facts=record.facts,
            payload_digest=record.payload_digest,
        )
    return link


def key_row(job: Job) -> KeyRow:
    """
    The key that *job* holds.
    """
    return KeyRow(job.id, job.owner, job.kind, str(job.key))


def ended_row(job: Job) -> HistoryRow:
    """
    How *job* would be found if it had ended.
    """
    return replace(history_row(job), state="failed", finished_at=job.created_at + 1)


def history_row(job: Job) -> HistoryRow:
    """
    How *job*, which has ended, is found.
    """
    return HistoryRow(job.id, job.owner, job.kind, job.key, job.state, job.created_at, job.finished_at)
