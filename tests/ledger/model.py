"""
What the ledger promises, said with plain records and no machine: each command's outcome and what becomes of the job.

Deliberately simple, and written from the contract and the state table, not from the code: one record a job, fields
changed in place. Time comes in. Ids of jobs that come about by the way (a follow-up) are taken from the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.moments import SECOND_US

if TYPE_CHECKING:
    from jobsvc.domain.job import Job

ENDED: Final = {"completed", "failed", "cancelled", "expired"}
HELD: Final = {"running", "cancelling"}
GRACE_US: Final = 30 * SECOND_US


@dataclass
class Known:
    """
    A job, as far as the model cares.
    """

    id: str
    owner: str
    key: str | None
    max_attempts: int
    deadline_us: int | None = None
    deadline: int | None = None
    state: str = "queued"
    fence: int = 0
    attempt: int = 0
    losses: int = 0
    due: int = 0
    grace: int = 0
    lease_end: int = 0
    finished: int = 0
    followup: c.Create | None = None
    retry_of: str | None = None
    born: int = 0
    granted: list[int] = field(default_factory=list)
    reports: set[tuple[str, int, str]] = field(default_factory=set)

    @property
    def active(self) -> bool:
        """
        It has not ended.
        """
        return self.state not in ENDED

    def over(self, now: int) -> bool:
        """
        It is past its deadline.
        """
        return self.deadline is not None and self.deadline <= now


class Model:
    """
    All jobs there ever were, by id.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Known] = {}
        self.now = 0
        self.elapsed = 0
        self.lease_us = 0
        self.spent: dict[str, str] = {}
        self._ends = 0

    # Looking

    def holder(self, owner: str, key: str | None) -> Known | None:
        """
        The one active job with that key; that there is one only is asserted.
        """
        if key is None:
            return None
        holders = [job for job in self.jobs.values() if job.active and (job.owner, job.key) == (owner, key)]
        assert len(holders) <= 1
        return holders[0] if holders else None

    def completed(self, owner: str, key: str | None) -> Known | None:
        """
        The job with that key that completed last.
        """
        done = [
            job
            for job in self.jobs.values()
            if key is not None and job.state == "completed" and (job.owner, job.key) == (owner, key)
        ]
        return max(done, key=lambda job: job.finished, default=None)

    def startable(self) -> set[str]:
        """
        What a claim may give.
        """
        return {job.id for job in self.jobs.values() if job.state == "queued" and not job.over(self.now)}

    # What becomes of commands: each returns the outcome, or the code of the refusal

    def create(self, command: c.Create, *, retry_of: str | None = None) -> str:
        """
        Attach, reject, replace, run after, reuse, or a new job.
        """
        owner, key = command.submission.owner, command.submission.key
        if owner in self.spent:
            return "invalid"
        holder, completed = self.holder(owner, key), self.completed(owner, key)
        if holder is not None:
            if holder.state == "cancelling" or command.dedup.on_active == "replace":
                self._end(holder, "cancelled", fence=1)
                return self._born(command, retry_of=retry_of)
            if command.dedup.on_active == "run_after":
                holder.followup = command
                return "followup"
            return "attached" if command.dedup.on_active == "attach" else "duplicate-job"
        if completed is not None and command.dedup.on_completed != "rerun":
            return "fresh_result" if command.dedup.on_completed == "reuse" else "duplicate-job"
        return self._born(command, retry_of=retry_of)

    def retry(self, command: c.Retry) -> str:
        """
        A create for an ended job, attached to its key's holder or to an earlier retry.
        """
        job = self.jobs[command.job_id]
        if job.owner in self.spent:
            return "invalid"
        if job.active:
            return "job-active"
        if job.key is None and any(one.active and one.retry_of == job.id for one in self.jobs.values()):
            return "attached"
        holder = self.holder(job.owner, job.key)
        if holder is not None and holder.state == "cancelling":
            self._end(holder, "cancelled", fence=1)
        elif holder is not None:
            return "attached"
        self.jobs[command.new_id] = Known(
            command.new_id, job.owner, job.key, job.max_attempts, job.deadline_us, retry_of=job.id, born=self.now
        )
        self._set_deadline(self.jobs[command.new_id])
        return "created"

    def cancel(self, command: c.Cancel) -> str:
        """
        At once, or by asking the worker.
        """
        job = self.jobs[command.job_id]
        if not job.active or (job.state == "cancelling" and not command.force):
            return "unchanged"
        if job.state == "running" and not command.force:
            job.state, job.grace, job.followup = "cancelling", self.now + GRACE_US, None
        else:
            self._end(job, "cancelled", fence=1)
        return "changed"

    def clean_up(self, command: c.CleanUp) -> str:
        """
        Only what has no right to be there, or with force.
        """
        job = self.jobs[command.job_id]
        if not job.active:
            return "unchanged"
        if job.over(self.now) or (job.state in HELD and job.lease_end <= self.elapsed):
            self._end(job, "expired", fence=1)
        elif command.force:
            self._end(job, "cancelled", fence=1)
        else:
            return "job-active"
        return "changed"

    def renew(self, command: c.Heartbeat | c.ReportProgress) -> str:
        """
        The lease runs its whole length from now.
        """
        job = self.jobs[command.job_id]
        if job.state not in HELD or command.fence != job.fence:
            return "lease-lost"
        job.lease_end = self.elapsed + self.lease_us
        return "renewed"

    def complete(self, command: c.Complete, shown: Job | None) -> str:
        """
        By the holder, or by the last one if nobody claimed since.
        """
        job = self.jobs[command.job_id]
        report = ("complete", command.fence, command.digest)
        if report in job.reports:
            return "repeated"
        if job.state not in {"running", "cancelling", "retrying", "queued"} or command.fence != job.fence:
            return "lease-lost"
        job.reports.add(report)
        self._end(job, "completed", shown=shown)
        return "changed"

    def fail(self, command: c.Fail, shown: Job | None) -> str:
        """
        Another attempt, or the end.
        """
        job = self.jobs[command.job_id]
        report = ("fail", command.fence, command.digest)
        if report in job.reports:
            return "repeated"
        if job.state not in HELD or command.fence != job.fence:
            return "lease-lost"
        job.reports.add(report)
        retry_at = self.now + (command.retry_after_us or 0)
        if job.state == "cancelling":
            self._end(job, "cancelled", fence=1)
        elif command.retryable and job.attempt < job.max_attempts and not job.over(retry_at):
            job.state, job.due = "retrying", retry_at
            job.fence += 1
        else:
            self._end(job, "failed", fence=1, shown=shown)
        return "changed"

    def release(self, command: c.Release) -> str:
        """
        Unharmed.
        """
        job = self.jobs[command.job_id]
        report = ("release", command.fence, command.digest)
        if report in job.reports:
            return "repeated"
        if job.state not in HELD or command.fence != job.fence:
            return "lease-lost"
        job.reports.add(report)
        job.attempt -= 1
        if job.state == "cancelling":
            self._end(job, "cancelled", fence=1)
        else:
            job.state = "queued"
            job.fence += 1
        return "changed"

    def granted(self, job_id: str) -> None:
        """
        A claim gave it.
        """
        job = self.jobs[job_id]
        job.state, job.lease_end = "running", self.elapsed + self.lease_us
        job.fence += 1
        job.attempt += 1
        job.granted.append(job.fence)

    # Guests that become users

    def take_over(self, guest: str, owner: str) -> tuple[int, int] | str:
        """
        Each active job moves; of two for one key the younger ends, unless only the older was given up.
        """
        if guest in self.spent:
            return "invalid"
        self.spent[guest] = owner
        jobs = sorted((job for job in self.jobs.values() if job.active and job.owner == guest), key=lambda job: job.id)
        merged = sum(self._move(job, owner) for job in jobs)
        return len(jobs) - merged, merged

    def handed_over(self) -> None:
        """
        Ended jobs follow.
        """
        for job in self.jobs.values():
            job.owner = self.spent.get(job.owner, job.owner)

    def _move(self, job: Known, owner: str) -> bool:
        holder = self.holder(owner, job.key)
        if holder is not None:
            by_age = sorted((job, holder), key=lambda one: (one.state == "cancelling", one.born, one.id))
            stays, ends = by_age
            stays.followup = stays.followup or ends.followup
            ends.followup = None
            self._end(ends, "cancelled", fence=1)
        job.owner = owner
        for one in (job, holder):
            if one is not None and one.followup is not None:
                submission = replace(one.followup.submission, owner=owner)
                one.followup = replace(one.followup, submission=submission)
        return holder is not None

    # Time

    def swept(self, after: dict[str, Job]) -> None:
        """
        All that is due has happened; *after* shows the jobs as they stand, for the ids of follow-ups.
        """
        for job in list(self.jobs.values()):
            if job.state in HELD and job.lease_end <= self.elapsed:
                self._lapse(job, after)
            if job.active and job.over(self.now):
                self._end(job, "expired", fence=1, shown=after[job.id])
            if job.state == "retrying" and job.due <= self.now:
                job.state = "queued"
            if job.state == "cancelling" and job.grace <= self.now:
                self._end(job, "cancelled", fence=1)

    def restarted(self) -> None:
        """
        Every lease has its whole length again, and every grace.
        """
        for job in self.jobs.values():
            job.lease_end = self.elapsed + self.lease_us
            job.grace = max(job.grace, self.now + GRACE_US)

    def _lapse(self, job: Known, after: dict[str, Job]) -> None:
        job.attempt -= 1
        if job.state == "cancelling":
            self._end(job, "cancelled", fence=1)
            return
        job.losses += 1
        if job.losses == 3:
            self._end(job, "failed", fence=1, shown=after[job.id])
        else:
            job.state, job.due = "retrying", self.now

    def _end(self, job: Known, state: str, *, fence: int = 0, shown: Job | None = None) -> None:
        self._ends += 1
        job.state, job.finished = state, self._ends
        job.fence += fence
        followup, job.followup = job.followup, None
        if followup is not None and shown is not None:
            assert shown.followed_by is not None
            self._born(followup, job_id=shown.followed_by)

    def _born(self, command: c.Create, *, retry_of: str | None = None, job_id: str | None = None) -> str:
        terms, submission = command.terms, command.submission
        job = Known(
            job_id or command.job_id,
            submission.owner,
            submission.key,
            terms.max_attempts,
            terms.deadline_us,
            retry_of=retry_of,
            born=self.now,
        )
        self._set_deadline(job)
        self.jobs[job.id] = job
        return "created"

    def _set_deadline(self, job: Known) -> None:
        job.deadline = None if job.deadline_us is None else self.now + job.deadline_us
