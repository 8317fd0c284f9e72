"""
The decisions on a create and on a retry: a job of its own, or the one that is there already.

One active job a key is decided here, on the holder that the situation names; that it holds at the same instant is the
desk's to see to. What must never live here: how a key is made, or the look-up of who holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.decisions.birth import born
from jobsvc.domain.decisions.decision import Decision, Outcome, Situation, allow, changeable, payload_of
from jobsvc.domain.errors import (
    AccessDenied,
    DuplicateActiveJob,
    InvalidCommand,
    JobActive,
    Rejected,
    SlowDown,
    SpentGuest,
)
from jobsvc.domain.events import Cancelled, FollowupRequested, NewEvent
from jobsvc.domain.machine import Case, fire

if TYPE_CHECKING:
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId, Micros, Reason

FOLLOWUPS_MAX: Final = 100
"""
How often a holder's follow-up request may be replaced before the caller is told to slow down.
"""


def create(command: c.Create, situation: Situation) -> Decision:
    """
    The decision on a create: a job of its own, or what the request says of the job that has its key.

    Raises:
        AccessDenied: The job would belong to somebody else.
        DuplicateActiveJob: The key is held, or was completed, and the request said to reject it then.
        SlowDown: The holder's follow-up was replaced too often.
        SpentGuest: The guest was taken over by a user.
    """
    if not command.who.may_change(command.submission.owner):
        raise AccessDenied
    if situation.spent:
        raise _spent(command)
    if situation.holder is not None:
        return _create_beside(command, situation.holder, situation=situation)
    if situation.completed is not None:
        return _create_after(command, situation.completed, situation=situation)
    return Decision(command.job_id, "created", (born(command, situation),))


def _spent(command: c.Create | c.Retry) -> Rejected:
    """
    Why a guest that was taken over gets no job: it would be nobody's. The guest itself is told that it is no more.
    """
    if command.who.role == "guest":
        return SpentGuest()
    return InvalidCommand("this guest was claimed by a user, who is the owner to name now", pointer="/owner")


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
            return Decision(command.job_id, "created", (born(command, situation),))
        case _:
            assert_never(command.dedup.on_completed)


def _is_fresh(completed: Job, max_age_us: int | None, *, now: Micros) -> bool:
    return max_age_us is None or (completed.finished_at or 0) + max_age_us > now


def _attach(command: c.Create, job: Job, *, outcome: Outcome) -> Decision:
    return Decision(job.id, outcome, input_differs=_input_differs(command, job))


def _input_differs(command: c.Create, job: Job) -> bool:
    return bytes(job.submission.input) != bytes(command.submission.input)


def _replace(command: c.Create, holder: Job, *, situation: Situation, retry_of: JobId | None = None) -> Decision:
    ended = superseded(command, holder, now=situation.now, by=command.job_id)
    return Decision(command.job_id, "created", (ended, born(command, situation, retry_of=retry_of)))


def superseded(command: c.Create | c.Merge, job: Job, *, now: Micros, by: JobId) -> NewEvent:
    """
    The end of *job* because of *by*, which has its key from now on.
    """
    allow("supersede", Case(job, now))
    reason: Reason = "superseded"
    return NewEvent(job.id, Cancelled(fence=job.fence + 1, superseded_by=by), payload_of(command, reason=reason))


def _ask_followup(command: c.Create, holder: Job, *, situation: Situation) -> Decision:
    count = 1 if holder.followup is None else holder.followup.count + 1
    if count > FOLLOWUPS_MAX:
        raise SlowDown(f"this job's follow-up was replaced {FOLLOWUPS_MAX} times; wait until the job has ended")
    allow("ask_followup", Case(holder, situation.now))
    facts = FollowupRequested(kind=command.kind, terms=command.terms, count=count)
    asked = NewEvent(holder.id, facts, payload_of(command, submission=command.submission))
    return Decision(holder.id, "followup", (asked,), input_differs=_input_differs(command, holder))


def retry(command: c.Retry, situation: Situation) -> Decision:
    """
    The decision on a retry: the work of an ended job again, or the job that does it already.

    Raises:
        JobActive: The job has not ended.
        InvalidCommand: The job was erased.
    """
    job, holder = changeable(command, situation), situation.holder
    if situation.spent:
        raise _spent(command)
    if not fire("retry", Case(job, situation.now)):
        raise _no_retry(job)
    again = _asked_again(command, job)
    if holder is None:
        return Decision(again.job_id, "created", (born(again, situation, retry_of=job.id),))
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
