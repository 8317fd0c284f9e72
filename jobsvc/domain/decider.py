"""
The decider: a command and the situation in, the events that follow and the answer out, or a refusal.

Pure: time, ids and chance come in with the situation; nothing is changed. Whether something may happen is asked of the
machine by firing a trigger, so no state is named here and no guard lives here. What this file adds is who may ask
(ownership holds at every door because it is decided here) and what the events say.
"""

from __future__ import annotations

from typing import Any, Final, Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.errors import (
    AccessDenied,
    DuplicateActiveJob,
    InvalidCommand,
    JobActive,
    JobNotFound,
    LeaseLost,
    Rejected,
    RejectedWithJob,
    SlowDown,
    SpentGuest,
    VersionMismatch,
)
from jobsvc.domain.events import (
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Completed,
    Created,
    Due,
    Erased,
    Expired,
    Facts,
    Failed,
    Failure,
    FollowupRequested,
    LateResult,
    LeaseExpired,
    NewEvent,
    OwnerChanged,
    Payload,
    Progressed,
    Released,
    Report,
    Started,
)
from jobsvc.domain.job import Job
from jobsvc.domain.machine import CANCEL_GRACE_US, Case, fire
from jobsvc.domain.words import SYSTEM, JobId, Micros, Reason, Verb

FOLLOWUPS_MAX: Final = 100
"""
How often a holder's follow-up request may be replaced before the caller is told to slow down.
"""

RETRY_FIRST_US: Final = 2_000_000
RETRY_LONGEST_US: Final = 60_000_000
RETRY_DOUBLINGS_MAX: Final = 16
"""
Enough to reach the longest delay, and few enough that no shift grows without bound.
"""

Outcome = Literal[
    "created", "attached", "fresh_result", "followup", "granted", "renewed", "changed", "unchanged", "repeated"
]


class Situation(Struct, frozen=True, gc=False):
    """
    All that a decision may depend on besides its command.

    Attributes:
        now: The moment of the decision, and ``at`` of its events.
        spare_id: The id of a job that comes about by the way (a follow-up).
        chance: A random number in [0, 1), for the jitter of a retry.
        job: The job that the command names; None if there is none.
        holder: The active job that has the key of the job to be made, or to be moved, where that is to be; for a retry
            also an active retry of *job*; for a merge the one that stays.
        completed: The newest completed job with that key, looked up only if the command asks.
        reported: The job as it stood after the same report the first time, if there was a first time.
        lease_live: True while the lease of *job* runs.
        spent: The owner whose job would be made is a guest that was taken over.
        awake_since: When the service started.
        active_max_us: The longest that a job may be active.
    """

    now: Micros
    spare_id: JobId
    chance: float = 0.0
    job: Job | None = None
    holder: Job | None = None
    completed: Job | None = None
    reported: Job | None = None
    lease_live: bool = False
    spent: bool = False
    awake_since: Micros = 0
    active_max_us: int = 7 * 86_400_000_000


class Decision(Struct, frozen=True, gc=False):
    """
    What follows from a command: the events, in order, and the answer once they are committed.

    Attributes:
        job_id: The job that the answer shows.
        outcome: What became of the command.
        events: May be empty; may concern more than one job.
        job: The job as of an earlier moment, where that is the answer; else the answer shows it as committed.
        input_differs: The job that was attached to has another input than was asked for.
        refusal: What the caller is told in spite of the events, after their commit.
    """

    job_id: JobId
    outcome: Outcome
    events: tuple[NewEvent, ...] = ()
    job: Job | None = None
    input_differs: bool = False
    refusal: RejectedWithJob | None = None


def decide(command: c.JobCommand, situation: Situation) -> Decision:  # one return a command
    """
    The decision on *command*, whatever the order in which things happen.

    Raises:
        Rejected: The caller may not, or the machine refuses; nothing follows from the command.

    Cost: 4-8 µs.
    """
    match command:
        case c.Create():
            return _create(command, situation)
        case c.Retry():
            return _retry(command, situation)
        case c.Cancel():
            return _cancel(command, situation)
        case c.CleanUp():
            return _clean_up(command, situation)
        case c.Start():
            return _start(command, situation)
        case c.Heartbeat():
            return _heartbeat(command, situation)
        case c.ReportProgress():
            return _progress(command, situation)
        case c.Complete():
            return _complete(command, situation)
        case c.Fail():
            return _fail(command, situation)
        case c.Release():
            return _release(command, situation)
        case c.ComeDue() | c.Lapse() | c.Expire() | c.EndGrace():
            return _moment(command, situation)
        case c.ChangeOwner():
            return _change_owner(command, situation)
        case c.Merge():
            return _merge(command, situation)
        case c.Erase():
            return _erase(command, situation)
        case _:
            assert_never(command)


# Creating


def _create(command: c.Create, situation: Situation) -> Decision:
    if not command.who.may_change(command.submission.owner):
        raise AccessDenied
    _check_not_spent(command, situation)
    if situation.holder is not None:
        return _create_beside(command, situation.holder, situation=situation)
    if situation.completed is not None:
        return _create_after(command, situation.completed, situation=situation)
    return Decision(command.job_id, "created", (_born(command, situation),))


def _check_not_spent(command: c.Create | c.Retry, situation: Situation) -> None:
    """
    Refuses a job for a guest that was taken over: it would be nobody's. The guest itself is told that it is no more.
    """
    if not situation.spent:
        return
    if command.who.role == "guest":
        raise SpentGuest
    raise InvalidCommand("this guest was claimed by a user, who is the owner to name now", pointer="/owner")


def _create_beside(command: c.Create, holder: Job, *, situation: Situation) -> Decision:
    """
    The decision where an active job has the key.
    """
    if fire("give_way", Case(holder, situation.now)):
        return _replace(command, holder, situation=situation)
    match command.dedup.on_active:
        case "attach":
            return _attach(command, holder, outcome="attached")
        case "reject":
            raise DuplicateActiveJob(job=holder)
        case "replace":
            return _replace(command, holder, situation=situation)
        case "run_after":
            return _ask_followup(command, holder, situation=situation)
        case _:
            assert_never(command.dedup.on_active)


def _create_after(command: c.Create, completed: Job, *, situation: Situation) -> Decision:
    """
    The decision where the key is free and a completed job had it.
    """
    match command.dedup.on_completed:
        case "reject":
            message = "this work was completed before, and the request said to reject it then"
            raise DuplicateActiveJob(message, job=completed)
        case "reuse" if _is_fresh(completed, command.dedup.max_age_us, now=situation.now):
            return _attach(command, completed, outcome="fresh_result")
        case "reuse" | "rerun":
            return Decision(command.job_id, "created", (_born(command, situation),))
        case _:
            assert_never(command.dedup.on_completed)


def _is_fresh(completed: Job, max_age_us: int | None, *, now: Micros) -> bool:
    return max_age_us is None or (completed.finished_at or 0) + max_age_us > now


def _attach(command: c.Create, job: Job, *, outcome: Outcome) -> Decision:
    return Decision(job.id, outcome, input_differs=_input_differs(command, job))


def _input_differs(command: c.Create, job: Job) -> bool:
    return bytes(job.submission.input) != bytes(command.submission.input)


def _replace(command: c.Create, holder: Job, *, situation: Situation, retry_of: JobId | None = None) -> Decision:
    ended = _superseded(command, holder, now=situation.now, by=command.job_id)
    return Decision(command.job_id, "created", (ended, _born(command, situation, retry_of=retry_of)))


def _superseded(command: c.Create | c.Merge, job: Job, *, now: Micros, by: JobId) -> NewEvent:
    _fire("supersede", Case(job, now))
    reason: Reason = "superseded"
    return NewEvent(job.id, Cancelled(fence=job.fence + 1, superseded_by=by), _payload(command, reason=reason))


def _ask_followup(command: c.Create, holder: Job, *, situation: Situation) -> Decision:
    count = 1 if holder.followup is None else holder.followup.count + 1
    if count > FOLLOWUPS_MAX:
        raise SlowDown(f"this job's follow-up was replaced {FOLLOWUPS_MAX} times; wait until the job has ended")
    _fire("ask_followup", Case(holder, situation.now))
    facts = FollowupRequested(kind=command.kind, terms=command.terms, count=count)
    asked = NewEvent(holder.id, facts, _payload(command, submission=command.submission))
    return Decision(holder.id, "followup", (asked,), input_differs=_input_differs(command, holder))


def _born(
    command: c.Create, situation: Situation, *, retry_of: JobId | None = None, follows: JobId | None = None
) -> NewEvent:
    """
    The event by which a new job exists.
    """
    terms, now = command.terms, situation.now
    case = _fire("create", Case(None, now, run_at=terms.run_at))
    start = now if terms.run_at is None else max(now, terms.run_at)
    facts = Created(
        kind=command.kind,
        state=case.state,  # type: ignore[arg-type]  # create leads to these two states only
        terms=terms,
        deadline=None if terms.deadline_us is None else start + terms.deadline_us,
        start_by=None if terms.start_within_us is None else start + terms.start_within_us,
        active_until=start + situation.active_max_us,
        retry_of=retry_of,
        follows=follows,
    )
    return NewEvent(command.job_id, facts, _payload(command, submission=command.submission, reason=command.reason))


def _retry(command: c.Retry, situation: Situation) -> Decision:
    job, holder = _changeable(command, situation), situation.holder
    _check_not_spent(command, situation)
    if not fire("retry", Case(job, situation.now)):
        raise _no_retry(job)
    again = _asked_again(command, job)
    if holder is None:
        return Decision(again.job_id, "created", (_born(again, situation, retry_of=job.id),))
    if job.key is not None and fire("give_way", Case(holder, situation.now)):
        return _replace(again, holder, situation=situation, retry_of=job.id)
    return Decision(holder.id, "attached")


def _no_retry(job: Job) -> Rejected:
    if job.active:
        return JobActive("the job is still active; a retry is for ended ones", job=job)
    return InvalidCommand("the job was erased; nothing is known any more of what it was to do")


def _asked_again(command: c.Retry, job: Job) -> c.Create:
    return c.Create(
        job_id=command.new_id,
        who=command.who,
        kind=job.kind,
        submission=job.submission,
        terms=replace(job.terms, run_at=None),
        reason=command.reason,
        request_id=command.request_id,
    )


# Ending from the front


def _cancel(command: c.Cancel, situation: Situation) -> Decision:
    job = _changeable(command, situation)
    case = _fire("cancel", Case(job, situation.now, force=command.force))
    reason: Reason = "forced" if command.force else "requested"
    payload = _payload(command, reason=command.reason or reason)
    match case.emitted:
        case None:
            return Decision(job.id, "unchanged")
        case "job.cancel_requested":
            facts = CancelRequested(grace_until=situation.now + CANCEL_GRACE_US)
            return _changed(job, facts, payload=payload)
        case _:
            return _changed(job, _cancelled(job), payload=payload)


def _clean_up(command: c.CleanUp, situation: Situation) -> Decision:
    job = _changeable(command, situation)
    case = Case(job, situation.now, force=command.force, lease_live=situation.lease_live)
    if not fire("clean_up", case):
        still_active = "the job is waiting or its worker is alive; cancel it, or clean it up with force"
        raise JobActive(still_active, job=job)
    match case.emitted:
        case None:
            return Decision(job.id, "unchanged")
        case "job.expired":
            payload = _payload(command, reason=command.reason or _why_expired(case))
            return _changed(job, Expired(job.fence + 1), payload=payload)
        case _:
            reason: Reason = "cleaned_up"
            return _changed(job, _cancelled(job), payload=_payload(command, reason=command.reason or reason))


def _cancelled(job: Job, report: Report | None = None) -> Cancelled:
    return Cancelled(fence=job.fence + 1, report=report)


def _given_up(job: Job, report: Report | None = None) -> Cancelled:
    """The end of a cancelled job by a release or a lapse, which give the attempt back as they do of any other job."""
    return Cancelled(fence=job.fence + 1, report=report, attempt=job.attempt - 1)


# Working


def _start(command: c.Start, situation: Situation) -> Decision:
    job = _workable(command, situation)
    if not fire("claim", Case(job, situation.now)):
        raise JobActive("the job waits for no worker", job=job)
    facts = Started(
        fence=job.fence + 1,
        attempt=job.attempt + 1,
        lease_us=command.lease_us,
        worker=command.worker,
        claim=command.claim,
    )
    return Decision(job.id, "granted", (NewEvent(job.id, facts, _payload(command)),))


def _heartbeat(command: c.Heartbeat, situation: Situation) -> Decision:
    job = _workable(command, situation)
    if not fire("heartbeat", Case(job, situation.now, fence=command.fence)):
        raise _lease_lost(command, job, now=situation.now)
    return Decision(job.id, "renewed")


def _progress(command: c.ReportProgress, situation: Situation) -> Decision:
    job = _workable(command, situation)
    if not fire("progress", Case(job, situation.now, fence=command.fence)):
        raise _lease_lost(command, job, now=situation.now)
    payload = _payload(command, percent=command.percent, message=command.message, progress_data=command.progress_data)
    return Decision(job.id, "renewed", (NewEvent(job.id, Progressed(), payload),))


def _complete(command: c.Complete, situation: Situation) -> Decision:
    job = _workable(command, situation)
    if situation.reported is not None:
        return Decision(job.id, "repeated", job=situation.reported)
    if not fire("complete", Case(job, situation.now, fence=command.fence)):
        return _keep_late(command, job, now=situation.now)
    payload = _payload(command, result=command.result)
    return _end(job, Completed(_report(command, verb="complete")), payload=payload, situation=situation)


def _keep_late(command: c.Complete, job: Job, *, now: Micros) -> Decision:
    """
    The refusal of a success under an old fence, and its result kept where there is room.
    """
    refusal = _lease_lost(command, job, now=now)
    if not fire("keep_late_result", Case(job, now, fence=command.fence, digest=command.digest)):
        raise refusal
    facts = LateResult(_report(command, verb="complete"))
    kept = NewEvent(job.id, facts, _payload(command, result=command.result))
    return Decision(job.id, "changed", (kept,), refusal=refusal)


def _fail(command: c.Fail, situation: Situation) -> Decision:
    job = _workable(command, situation)
    if situation.reported is not None:
        return Decision(job.id, "repeated", job=situation.reported)
    retry_at = _retry_at(command, job, situation=situation)
    case = Case(job, situation.now, fence=command.fence, retry_at=retry_at)
    if not fire("fail", case):
        raise _lease_lost(command, job, now=situation.now)
    fence, report = job.fence + 1, _report(command, verb="fail")
    payload = _payload(command, failure=command.failure)
    match case.emitted:
        case "job.attempt_failed" if retry_at is not None:
            return _changed(job, AttemptFailed(fence, retry_at, report), payload=payload)
        case "job.failed":
            return _end(job, Failed(fence, job.lost_leases, report), payload=payload, situation=situation)
        case _:
            return _changed(job, _cancelled(job, report), payload=replace(payload, reason=job.reason))


def _retry_at(command: c.Fail, job: Job, *, situation: Situation) -> Micros | None:
    """
    When the next attempt would start: as told, else exponentially later with full jitter; None for never.
    """
    if not command.retryable:
        return None
    if command.retry_after_us is not None:
        return situation.now + command.retry_after_us
    # A fail that comes too late finds the attempt given back: it is refused, but only after this.
    doublings = min(max(job.attempt - 1, 0), RETRY_DOUBLINGS_MAX)
    longest_us = min(RETRY_LONGEST_US, RETRY_FIRST_US << doublings)
    return situation.now + int(longest_us * situation.chance)


def _release(command: c.Release, situation: Situation) -> Decision:
    job = _workable(command, situation)
    if situation.reported is not None:
        return Decision(job.id, "repeated", job=situation.reported)
    case = Case(job, situation.now, fence=command.fence)
    if not fire("release", case):
        raise _lease_lost(command, job, now=situation.now)
    report = _report(command, verb="release")
    if case.emitted == "job.released":
        return _changed(job, Released(job.fence + 1, job.attempt - 1, report), payload=_payload(command))
    return _changed(job, _given_up(job, report), payload=_payload(command, reason=job.reason))


def _report(command: c.EndingReport, *, verb: Verb) -> Report:
    return Report(verb, command.fence, command.digest)


def _lease_lost(command: c.Heartbeat | c.ReportProgress | c.EndingReport, job: Job, *, now: Micros) -> LeaseLost:
    may_complete = fire("complete", Case(job, now, fence=command.fence))
    return LeaseLost(job=job, may_complete=may_complete)


# Time passing


def _moment(command: c.ComeDue | c.Lapse | c.Expire | c.EndGrace, situation: Situation) -> Decision:
    """
    The decision on a moment that the sweeper thinks has come; nothing follows if something else came first.
    """
    job = _found(situation)
    case = Case(job, situation.now, lease_live=situation.lease_live, awake_since=situation.awake_since)
    payload = _payload(command)
    match command:
        case c.ComeDue() if fire("come_due", case):
            return _changed(job, Due(), payload=payload)
        case c.Lapse() if fire("lapse", case):
            return _lapsed(job, case, payload=payload, situation=situation)
        case c.Expire() if fire("expire", case):
            payload = replace(payload, reason=_why_expired(case))
            return _end(job, Expired(job.fence + 1), payload=payload, situation=situation)
        case c.EndGrace() if fire("end_grace", case):
            return _changed(job, _cancelled(job), payload=replace(payload, reason=job.reason))
        case c.ComeDue() | c.Lapse() | c.Expire() | c.EndGrace():
            return Decision(job.id, "unchanged")
        case _:
            assert_never(command)


def _lapsed(job: Job, case: Case, *, payload: Payload, situation: Situation) -> Decision:
    lost = job.lost_leases + 1
    match case.emitted:
        case "job.lease_expired":
            return _changed(job, LeaseExpired(job.attempt - 1, lost, situation.now), payload=payload)
        case "job.failed":
            failure = Failure("worker_lost", f"{lost} workers fell silent while they held this job")
            payload = replace(payload, failure=failure)
            facts = Failed(job.fence + 1, lost, attempt=job.attempt - 1)
            return _end(job, facts, payload=payload, situation=situation)
        case _:
            return _changed(job, _given_up(job), payload=replace(payload, reason=job.reason))


def _why_expired(case: Case) -> Reason:
    """
    The first of the bounds that the job is past, in a word.
    """
    if case.is_past_deadline():
        return "deadline"
    if case.is_past_first_start():
        return "not_started"
    return "active_too_long" if case.is_overdue() else "lease_expired"


# Owners and forgetting


def _change_owner(command: c.ChangeOwner, situation: Situation) -> Decision:
    job = _found(situation)
    if not command.who.may_change(command.owner):
        raise AccessDenied("a job can be claimed for oneself only")
    if job.owner == command.owner:
        return Decision(job.id, "unchanged")
    if not fire("change_owner", Case(job, situation.now, holder=situation.holder)):
        raise _immovable(job, situation.holder)
    payload = _payload(command, owner=command.owner, previous_owner=job.owner)
    return _changed(job, OwnerChanged(), payload=payload)


def _immovable(job: Job, holder: Job | None) -> Rejected:
    if job.active:
        return DuplicateActiveJob("the new owner has an active job for the same work", job=holder)
    return InvalidCommand("the job was erased; it is nobody's any more")


def gives_way(job: Job, other: Job, *, now: Micros) -> bool:
    """
    True if of two active jobs for the same work *job* is the one to end: the younger, unless the other is given up.
    """
    given_up = [fire("give_way", Case(each, now)) for each in (job, other)]
    if given_up[0] != given_up[1]:
        return given_up[0]
    return (other.created_at, other.id) < (job.created_at, job.id)


def _merge(command: c.Merge, situation: Situation) -> Decision:
    """
    The decision on two jobs for one key: *job* ends for *holder*, and hands on what was to follow it.
    """
    job, survivor = _found(situation), situation.holder
    if survivor is None:
        raise JobNotFound
    if not (command.who.may_change(job.owner) or command.who.may_change(survivor.owner)):
        raise AccessDenied
    ended = _superseded(command, job, now=situation.now, by=survivor.id)
    if job.followup is None or survivor.followup is not None:
        return Decision(survivor.id, "changed", (ended,))
    _fire("ask_followup", Case(survivor, situation.now))
    facts = FollowupRequested(kind=job.followup.kind, terms=job.followup.terms, count=job.followup.count)
    submission = replace(job.followup.submission, owner=survivor.owner)
    handed_on = NewEvent(survivor.id, facts, _payload(command, submission=submission))
    return Decision(survivor.id, "changed", (ended, handed_on))


def _erase(command: c.Erase, situation: Situation) -> Decision:
    job = _changeable(command, situation)
    if not fire("erase", Case(job, situation.now)):
        raise JobActive("an active job cannot be erased; cancel it first", job=job)
    return _changed(job, Erased(), payload=_payload(command, reason=command.reason))


# What they share


def _end(job: Job, facts: Completed | Failed | Expired, *, payload: Payload, situation: Situation) -> Decision:
    """
    *job* ended by itself: a follow-up that was asked for becomes a job in the same breath.
    """
    followup = job.followup
    if followup is None:
        return _changed(job, facts, payload=payload)
    again = c.Create(
        job_id=situation.spare_id,
        who=SYSTEM,
        kind=followup.kind,
        submission=followup.submission,
        terms=followup.terms,
        request_id=payload.request_id,
    )
    end = NewEvent(job.id, replace(facts, followed_by=again.job_id), payload)
    return Decision(job.id, "changed", (end, _born(again, situation, follows=job.id)))


def _found(situation: Situation) -> Job:
    if situation.job is None:
        raise JobNotFound
    return situation.job


def _changeable(command: c.Cancel | c.CleanUp | c.Retry | c.Erase, situation: Situation) -> Job:
    """
    The job, if there is one, the caller may change it, and it is the version that the caller has seen.
    """
    job = _found(situation)
    if not command.who.may_change(job.owner):
        raise AccessDenied
    if_version = None if isinstance(command, c.Erase) else command.if_version
    if if_version is not None and if_version != job.version:
        raise VersionMismatch(job=job)
    return job


def _workable(command: c.Start | c.Heartbeat | c.ReportProgress | c.EndingReport, situation: Situation) -> Job:
    job = _found(situation)
    if not command.who.may_work_on(job.kind):
        raise AccessDenied("this worker's token does not name the kind of this job")
    return job


def _fire(trigger: str, case: Case) -> Case:
    """
    *case* after *trigger*, which the machine always allows here.
    """
    if not fire(trigger, case):
        raise JobActive(f"the job as it stands does not allow {trigger}", job=case.job)
    return case


def _changed(job: Job, facts: Facts, *, payload: Payload) -> Decision:
    return Decision(job.id, "changed", (NewEvent(job.id, facts, payload),))


def _payload(command: c.JobCommand, **fields: Any) -> Payload:  # noqa: ANN401  # Payload's own fields
    return Payload(actor=command.who.actor, request_id=command.request_id, **fields)
