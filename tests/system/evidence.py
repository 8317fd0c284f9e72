"""
The evidence: what callers were told and watchers saw, held against the log that is on the disk.

The log is read past the service, from its file; what an answer showed must be in it, to the field. Nothing here sends
anything.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from jobsvc.domain.events import Created, Event, Progressed
from jobsvc.domain.job import Job, evolve
from jobsvc.operate.verify import verify
from jobsvc.resource import encode, job_resource
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from projections.active import Active
from projections.runner import replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsvc.store.seam import Store
    from tests.system.raw import JSON, Answer, Request
    from tests.system.watching import Watcher


def plain(job: Job) -> JSON:
    """
    *job* as every answer shows it, but for the lease, which is laid over when it is read.
    """
    return without_lease(json.loads(encode(job_resource(job))))


def without_lease(job: JSON) -> JSON:
    """
    *job* without the one field that is in no event.
    """
    return {name: value for name, value in job.items() if name != "lease_expires_at"}


def jobs_in(body: JSON) -> Iterator[JSON]:
    """
    Every job that an answer shows, in grants and results too.
    """
    if isinstance(body, dict):
        if isinstance(body.get("job"), dict):
            yield body["job"]
        for name in ("jobs", "results"):
            for one in body.get(name, ()):
                yield from jobs_in(one)


class Evidence:
    """
    The log as read so far, each event with the job as it stood after it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chain: bytes | None = None
        self._jobs: dict[str, Job] = {}
        self._log: list[tuple[Event, Job]] = []

    @property
    def position(self) -> int:
        """
        Of the newest event that was read.
        """
        return len(self._log)

    async def read_on(self) -> None:
        """
        Everything up to the head has been read; the log is whole, and begins with all that was read before.
        """
        against = None if self._chain is None else (self.position, self._chain)
        verified = await verify(self._store, against=against)
        assert [] == verified.findings
        while events := await self._store.read_events(after=self.position, limit=ROWS_PER_PAGE_MAX):
            for event in events:
                assert self.position + 1 == event.position
                job = evolve(self._jobs.get(event.job_id), event)
                self._jobs[event.job_id] = job
                self._log.append((event, job))
        (last,) = await self._store.read_records(after=self.position - 1, limit=1)
        self._chain = last.chain

    def holds(self, request: Request, answer: Answer) -> None:
        """
        Every job that *answer* showed is in the log, exactly as it was shown.
        """
        for shown in jobs_in(answer.body):
            assert shown["position"] <= self.position, f"acked and lost: {request} {answer}"
            _, job = self._log[shown["position"] - 1]
            assert plain(job) == without_lease(shown), request

    def no_request_made_two_jobs(self) -> None:
        """
        What came of each create is at most one job, however often it was sent.
        """
        births = Counter(
            bytes(event.payload.submission.input)
            for event, _ in self._log
            if isinstance(event.facts, Created) and event.facts.retry_of is None
            if event.payload is not None and event.payload.submission is not None
        )
        assert [] == [body for body, count in births.items() if count > 1]

    def job(self, job_id: str) -> Job:
        """
        The job as it stands.
        """
        return self._jobs[job_id]

    async def active_at(self, position: int) -> dict[str, JSON]:
        """
        The active jobs as of *position*, replayed from the beginning.
        """
        replayed = await replay(self._store, Active(), until=position)
        assert position == replayed.position
        return {job_id: plain(job) for job_id, job in replayed.rows.items()}

    def was_seen_by(self, watcher: Watcher) -> None:
        """
        *watcher* saw each event of its scope once, in order, as it was; progress only may be left out if superseded.
        """
        assert [] == watcher.wrong, watcher.wrong
        place = min(watcher.place, self.position)
        expected = self._log[watcher.started_at : place]
        told_so_far = [told for told in watcher.seen if told["position"] <= place]
        seen = {told["position"]: told for told in told_so_far}
        assert len(told_so_far) == len(seen)
        newest = {job.id: event.position for event, job in expected}
        for event, job in expected:
            told = seen.pop(event.position, None)
            if not watcher.shows(job):
                assert told is None
            elif told is None:
                assert isinstance(event.facts, Progressed), event
                assert event.position < newest[job.id]
            else:
                assert (event.type, event.version) == (told["type"], told["version"])
                assert plain(job) == without_lease(told["job"])
        assert {} == seen
