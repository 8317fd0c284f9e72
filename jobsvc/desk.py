"""
The desk: where each command of a batch is decided against what is staged, and what follows from it is staged in turn.

It keeps what only the writer may see: the ready line, the leases, and the progress that is held. All three can be made
again from the active jobs at any time, so a failed commit costs nothing but that. No IO, no await.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from jobsvc.answers import Answer, Grants, MarkRequest, recall, remember
from jobsvc.clock import SteadyClock
from jobsvc.domain import commands as c
from jobsvc.domain.decider import decide
from jobsvc.domain.decisions.decision import Situation
from jobsvc.domain.errors import (
    IdempotencyKeyReused,
    JobActive,
    JobsvcError,
    Rejected,
    RejectedWithJob,
    TooManyActive,
)
from jobsvc.domain.events import Created, NewEvent, Progressed, Started
from jobsvc.domain.moments import SECOND_US
from jobsvc.held_progress import HeldProgress
from jobsvc.leases import Leases
from jobsvc.memory import Stage
from jobsvc.needs import dedup_key, needs_of, report_key
from jobsvc.ready import ReadyLine
from jobsvc.shares import GUEST
from jobsvc.takeovers import HandOver, TakeOver, hand_over, holder_under, take_over
from jobsvc.work import Flush, Remember, Several, Undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jobsvc.answers import Result
    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId, Micros
    from jobsvc.leases import Lease
    from jobsvc.memory import Memory
    from jobsvc.store.seam import Found, Needs
    from jobsvc.work import Work


class Limits(Struct, frozen=True):
    """The bounds that the ledger keeps; each is a setting of the same name."""

    queue_commands_max: int = 10_000
    queue_commands_per_owner_max: int = 2_500
    queue_commands_guests_max: int = 9_000
    batch_commands_max: int = 256
    active_per_owner_max: int = 1_000
    active_total_max: int = 100_000
    active_guests_max: int = 90_000
    active_max_us: int = 7 * 86_400 * SECOND_US
    progress_interval_us: int = SECOND_US // 2
    events_per_job_max: int = 9_000
    idempotency_ttl_us: int = 86_400 * SECOND_US


class Desk:
    """
    Decides. One per ledger.

    Attributes:
        leases: Who may report until when; renewed here, read by everyone.
        held: The progress that waits to be written.
        now: Called, the moment that a decision made now would have, if nothing later is in the log.
    """

    def __init__(
        self, memory: Memory, clock: Clock, limits: Limits, *, new_id: Callable[[], JobId], seed: int | None
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._limits = limits
        self._new_id = new_id
        self._random = random.Random(seed)  # noqa: S311  # jitter, not a secret
        self._ready = ReadyLine()
        self.held = HeldProgress(
            clock, interval_us=limits.progress_interval_us, events_per_job_max=limits.events_per_job_max
        )
        self._given_again: dict[JobId, int] = {}
        """By job, the fence of a grant that its claim asked for again: the worker is there."""
        self._leases_before: dict[JobId, Lease | None] = {}
        """Of the jobs whose leases this batch has changed, what they were."""
        self._steady = SteadyClock(clock)
        self.now = self._steady.now
        self._awake_since: Micros = self.now()
        self._now: Micros = self._awake_since
        self._elapsed = clock.elapsed()
        """When the batch at hand is decided, on both clocks: one moment for all of it."""
        self.leases = Leases()
        self._situations: Final[Mapping[type[c.JobCommand], Callable[[Any, Stage], Situation]]] = {
            c.Create: self._situation_of_create,
            c.Retry: self._situation_of_retry,
            c.Merge: self._situation_of_merge,
            c.ChangeOwner: self._situation_of_change,
            c.Complete: self._situation_of_report,
            c.Fail: self._situation_of_report,
            c.Release: self._situation_of_report,
        }
        """By the command's type, what its decision may depend on; any other depends on the job that it names."""

    def reset(self) -> None:
        """The lines are what the committed jobs say; every lease has its whole length again."""
        self._leases_before.clear()
        self.leases.__init__()  # type: ignore[misc]  # the same object, empty: readers hold it
        self.realign()
        self._awake_since = self.now()

    def realign(self) -> None:
        """The lines are what the committed jobs say, nothing staged is left; what runs or is held for those goes on."""
        for job_id, lease in self._leases_before.items():
            self.leases.restore(job_id, lease)
        self._leases_before.clear()
        jobs, elapsed = self._memory.jobs, self._clock.elapsed()
        leased = {job.id: job.lease_us for job in jobs.values() if job.lease_us is not None}
        for job_id in [job_id for job_id in self.leases if job_id not in leased]:
            self.leases.end(job_id)
        for job_id, lease_us in leased.items():
            if self.leases.remaining_us(job_id, elapsed=elapsed) is None:
                self.leases.grant(job_id, lease_us=lease_us, elapsed=elapsed)
        self.held.keep_only(leased)
        self._given_again = {job_id: fence for job_id, fence in self._given_again.items() if job_id in leased}
        self._ready = ReadyLine()
        for job in jobs.values():
            if job.ready:
                self._ready.put(job)
        self._steady.reach(self._memory.last_at)

    def waiting(self, kinds: frozenset[str]) -> bool:
        """True if a claim of *kinds* would be given a job."""
        return self._ready.waiting(kinds)

    @property
    def ready(self) -> int:
        """How many jobs wait for a worker."""
        return len(self._ready)

    # Deciding

    def begin(self, works: Iterable[tuple[Work, MarkRequest | None]]) -> Needs:
        """A batch begins: what the store has to be asked before *works* can be decided."""
        self._leases_before.clear()
        return needs_of(works, self._memory)

    def stage(self, found: Found) -> Stage:
        """What the batch will have done, nothing yet; it is decided on what was *found*, all of it at this moment."""
        stage = Stage(self._memory, found)
        self._now, self._elapsed = max(self.now(), stage.last_at), self._clock.elapsed()
        return stage

    def work(self, work: Work, mark: MarkRequest | None, stage: Stage) -> object:
        """
        What the caller will be told once *stage* is committed: a Result, a list of them, Grants, or Again.

        An exception that is not a Rejected is a fault of ours and comes out; nothing of the command is staged then.
        """
        if mark is not None:
            known = stage.mark(mark.mark_key)
            if known is not None and known.expires_at > self._clock.now():
                return recall(known) if known.digest == mark.digest else IdempotencyKeyReused()
        match work:
            case c.Create() if mark is None:
                return self._one(work, stage)
            case c.Claim():
                return self._grant(work, stage)
            case TakeOver():
                return take_over(work, stage, lambda command: self._certainly(command, stage))
            case HandOver():
                return hand_over(work, stage, lambda command: self._certainly(command, stage))
            case Flush():
                self._flush(work, stage)
                return None
            case Remember():
                stage.remember(work.mark)
                return None
            case Undo():
                return [self._one(command, stage) for command in work.commands if not self._arrived(command)]
            case Several():
                results = [one if isinstance(one, Rejected) else self._one(one, stage) for one in work.commands]
                if mark is not None:
                    self._remember(mark, results, stage)
                return results
            case _:
                return self._alone(work, mark, stage)

    def _alone(self, command: c.JobCommand, mark: MarkRequest | None, stage: Stage) -> Result:
        result = self._one(command, stage)
        if mark is not None and isinstance(result, Answer):
            self._remember(mark, [result], stage)
        return result

    def _remember(self, mark: MarkRequest, results: Sequence[Result], stage: Stage) -> None:
        expires_at = self._clock.now() + self._limits.idempotency_ttl_us
        stage.remember(remember(mark, results, expires_at))

    def _one(self, command: c.JobCommand, stage: Stage) -> Result:
        situation = self._situations.get(type(command), self._situation_of_job)(command, stage)
        try:
            decision = decide(command, situation)
            if decision.outcome == "created":
                self._check_bounds(decision.events, stage)
        except Rejected as refusal:
            return refusal
        self._stage(decision.events, stage)
        renewed = decision.outcome == "renewed"
        if renewed:
            self.leases.renew(decision.job_id, elapsed=self._elapsed)
        if decision.refusal is not None:
            return self._refused_now(decision.refusal, decision.job_id, stage)
        job = decision.job or stage.job(decision.job_id)
        if job is None:
            message = f"decided on job {decision.job_id}, which is nowhere"
            raise LookupError(message)
        lease_expires_at = self._lease_end(job.id) if renewed else None
        return Answer(decision.outcome, job, stage.position, lease_expires_at, decision.input_differs)

    def _lease_end(self, job_id: JobId) -> Micros | None:
        """When the lease runs out as it stands in this turn: a later command of the batch may end it."""
        remaining_us = self.leases.remaining_us(job_id, elapsed=self._clock.elapsed())
        return None if remaining_us is None else self._clock.now() + remaining_us

    def _refused_now(self, refusal: RejectedWithJob, job_id: JobId, stage: Stage) -> JobsvcError:
        """The refusal that goes with staged events, showing the job with them."""
        refusal.job = stage.job(job_id)
        return refusal

    def _situation_of_create(self, command: c.Create, stage: Stage) -> Situation:
        spent = stage.is_spent(command.submission.owner)
        if command.submission.key is None:
            return Situation(self._now, command.job_id, spent=spent, active_max_us=self._limits.active_max_us)
        key = dedup_key(command)
        return Situation(
            self._now,
            command.job_id,
            holder=stage.holder(key),
            completed=stage.completed(key),
            spent=spent,
            active_max_us=self._limits.active_max_us,
        )

    def _situation_of_retry(self, command: c.Retry, stage: Stage) -> Situation:
        job = stage.job(command.job_id)
        return Situation(
            self._now,
            command.new_id,
            job=job,
            holder=None if job is None else _holder_for_retry(job, stage),
            spent=job is not None and stage.is_spent(job.owner),
            active_max_us=self._limits.active_max_us,
        )

    def _situation_of_merge(self, command: c.Merge, stage: Stage) -> Situation:
        return Situation(self._now, command.job_id, job=stage.job(command.job_id), holder=stage.job(command.into))

    def _situation_of_change(self, command: c.ChangeOwner, stage: Stage) -> Situation:
        job = stage.job(command.job_id)
        holder = None if job is None else holder_under(command.owner, job, stage)
        return Situation(self._now, command.job_id, job=job, holder=holder)

    def _situation_of_report(self, command: c.EndingReport, stage: Stage) -> Situation:
        return self._situation_of_job(command, stage, stage.reported(report_key(command)))

    def _situation_of_job(self, command: c.JobCommand, stage: Stage, reported: Job | None = None) -> Situation:
        job = stage.job(command.job_id)
        return Situation(
            self._now,
            self._new_id() if job is not None and job.followup is not None else command.job_id,
            chance=self._random.random(),
            job=job,
            reported=reported,
            lease_live=self.leases.live(command.job_id, elapsed=self._elapsed),
            awake_since=self._awake_since,
            active_max_us=self._limits.active_max_us,
        )

    def _check_bounds(self, events: Sequence[NewEvent], stage: Stage) -> None:
        """Refuses a job too many. One that takes another's place is none."""
        if len(events) != 1:
            return
        submission = events[0].payload.submission
        owner = "" if submission is None else submission.owner
        if stage.active_of(owner) >= self._limits.active_per_owner_max:
            raise TooManyActive(f"this owner has {self._limits.active_per_owner_max} active jobs; let some end first")
        if stage.active_total >= self._limits.active_total_max:
            raise TooManyActive
        if stage.active_of_guests >= self._limits.active_guests_max and owner.startswith(GUEST):
            raise TooManyActive("guests together have as many active jobs as they may; let some end first")

    # Staging

    def _stage(self, events: Iterable[NewEvent], stage: Stage) -> None:
        for event in events:
            kind = type(event.facts)
            if kind is Created:
                # Nobody held it before, and no progress is held of it.
                job = stage.add(event, self._now)
                if job.ready:
                    self._ready.put(job)
            elif kind is Progressed:
                self._stage_progress(event, stage)
            else:
                self._write_held(event.job_id, stage)
                self._follow(stage.add(event, self._now), event)

    def _write_held(self, job_id: JobId, stage: Stage) -> None:
        """Progress that was held of the job is staged, if its worker still holds the job."""
        event = self.held.take(job_id)
        if event is None:
            return
        job = stage.job(job_id)
        if job is not None and job.lease_us is not None:
            stage.add(event, self._now)

    def _stage_progress(self, event: NewEvent, stage: Stage) -> None:
        """Latest wins: written at once if the last was long enough ago, else held until then or until another event."""
        job = stage.job(event.job_id)
        if job is None:
            return
        if self.held.is_due(job, at=self._now):
            self.held.take(job.id)
            stage.add(event, self._now)
        else:
            self.held.hold(job, event)

    def _follow(self, job: Job, event: NewEvent) -> None:
        """The lines follow what was staged."""
        job_id = job.id
        self._leases_before.setdefault(job_id, self.leases.of(job_id))
        if job.ready:
            self._ready.put(job)
        else:
            self._ready.drop(job_id)
        if isinstance(event.facts, Started):
            self.leases.grant(job.id, lease_us=event.facts.lease_us, elapsed=self._elapsed)
        elif job.lease_us is None:
            self.leases.end(job_id)
            self._given_again.pop(job_id, None)

    def _flush(self, work: Flush, stage: Stage) -> None:
        for job_id in work.job_ids:
            self._write_held(job_id, stage)

    # Claims

    def _grant(self, claim: c.Claim, stage: Stage) -> Grants:
        again = self._granted_before(claim, stage)
        if again:
            return Grants(again, ())
        granted: list[Job] = []
        passed_over: list[Job] = []
        while len(granted) < claim.limit:
            job_id = self._ready.take(claim.kinds)
            if job_id is None:
                break
            start = c.Start(job_id, claim.who, claim.lease_us, claim.worker, claim.claim, claim.request_id)
            result = self._one(start, stage)
            if isinstance(result, Answer):
                granted.append(result.job)
            elif not isinstance(result, JobActive) and (job := stage.job(job_id)) is not None and job.ready:
                # Not one that nobody wants any more: that is expired in a moment, and would be taken again until then.
                passed_over.append(job)
        for job in passed_over:
            self._ready.put(job)
        return Grants(granted, granted)

    def _granted_before(self, claim: c.Claim, stage: Stage) -> list[Job]:
        """What the same claim was given, as far as its leases live."""
        if claim.claim is None:
            return []
        found: list[Job] = []
        for job_id in stage.claimed(claim.claim):
            job = stage.job(job_id)
            if job is not None and job.claim == claim.claim and self.leases.live(job_id, elapsed=self._elapsed):
                found.append(job)
                self._given_again[job_id] = job.fence
        return found

    def _arrived(self, grant: c.Release) -> bool:
        return self._given_again.get(grant.job_id) == grant.fence

    # Guests that become users

    def _certainly(self, command: c.JobCommand, stage: Stage) -> None:
        """*command* is staged; that it is refused would be a fault of ours, by which the whole batch is undone."""
        result = self._one(command, stage)
        if not isinstance(result, Answer):
            raise result


def _holder_for_retry(job: Job, stage: Stage) -> Job | None:
    """The active job that stands in the way of retrying *job*: its key's holder, or an earlier retry."""
    if job.key is not None:
        holder = stage.holder((job.owner, job.kind, job.key))
        if holder is not None:
            return holder
    return stage.active_retry(job.id)
