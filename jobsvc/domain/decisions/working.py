"""
The decisions on what a worker asks and reports: a claim's start, and every report under its fence.

The fence says whose report counts; a success that comes too late is kept as a late result where there is room.
What must never live here: which job a claim gets, or whether the very same report came before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobsvc.domain.decisions.birth import end
from jobsvc.domain.decisions.decision import Decision, Situation, changed, payload_of, workable
from jobsvc.domain.decisions.ending import cancelled, given_up
from jobsvc.domain.errors import JobActive, LeaseLost
from jobsvc.domain.events import (
    AttemptFailed,
    Completed,
    Failed,
    LateResult,
    NewEvent,
    Payload,
    Progressed,
    Released,
    Report,
    Started,
)
from jobsvc.domain.machine import Case, fire

if TYPE_CHECKING:
    from jobsvc.domain import commands as c
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Micros, Verb

RETRY_FIRST_US: Final = 2_000_000
RETRY_LONGEST_US: Final = 60_000_000
RETRY_DOUBLINGS_MAX: Final = 16
"""
Enough to reach the longest delay, and few enough that no shift grows without bound.
"""


def start(command: c.Start, situation: Situation) -> Decision:
    """
    The decision on a claim's start: a lease with a fence that no earlier one had.

    Raises:
        JobActive: The job waits for no worker.
    """
    job = workable(command, situation)
    if not fire("claim", Case(job, situation.now)):
        raise JobActive("the job waits for no worker", job=job)
    facts = Started(job.fence + 1, job.attempt + 1, command.lease_us, command.worker, command.claim)
    payload = Payload(command.who.actor, command.request_id)
    return Decision(job.id, "granted", (NewEvent(job.id, facts, payload),))


def heartbeat(command: c.Heartbeat, situation: Situation) -> Decision:
    """
    The decision on a sign of life: the lease is renewed, and nothing is written.

    Raises:
        LeaseLost: The fence is an old one.
    """
    job = workable(command, situation)
    if not fire("heartbeat", Case(job, situation.now, fence=command.fence)):
        raise _lease_lost(command, job, now=situation.now)
    return Decision(job.id, "renewed")


def progress(command: c.ReportProgress, situation: Situation) -> Decision:
    """
    The decision on a report of progress, which renews the lease too.

    Raises:
        LeaseLost: The fence is an old one.
    """
    job = workable(command, situation)
    if not fire("progress", Case(job, situation.now, fence=command.fence)):
        raise _lease_lost(command, job, now=situation.now)
    payload = payload_of(command, percent=command.percent, message=command.message, progress_data=command.progress_data)
    return Decision(job.id, "renewed", (NewEvent(job.id, Progressed(), payload),))


def complete(command: c.Complete, situation: Situation) -> Decision:
    """
    The decision on a success; the same report again gets the answer that it got first.

    Raises:
        LeaseLost: The fence is an old one, and a late result is kept already.
    """
    job = workable(command, situation)
    if situation.reported is not None:
        return Decision(job.id, "repeated", job=situation.reported)
    if not fire("complete", Case(job, situation.now, fence=command.fence)):
        return _keep_late(command, job, now=situation.now)
    payload = Payload(command.who.actor, command.request_id, result=command.result)
    return end(job, Completed(_report(command, verb="complete")), payload=payload, situation=situation)


def _keep_late(command: c.Complete, job: Job, *, now: Micros) -> Decision:
    """
    The refusal of a success under an old fence, and its result kept where there is room.
    """
    refusal = _lease_lost(command, job, now=now)
    if not fire("keep_late_result", Case(job, now, fence=command.fence, digest=command.digest)):
        raise refusal
    facts = LateResult(_report(command, verb="complete"))
    kept = NewEvent(job.id, facts, payload_of(command, result=command.result))
    return Decision(job.id, "changed", (kept,), refusal=refusal)


def fail(command: c.Fail, situation: Situation) -> Decision:
    """
    The decision on a failed attempt: another one later, or the end; the same report again gets its first answer.

    Raises:
        LeaseLost: The fence is an old one.
    """
    job = workable(command, situation)
    if situation.reported is not None:
        return Decision(job.id, "repeated", job=situation.reported)
    retry_at = _retry_at(command, job, situation=situation)
    case = Case(job, situation.now, fence=command.fence, retry_at=retry_at)
    if not fire("fail", case):
        raise _lease_lost(command, job, now=situation.now)
    fence, report = job.fence + 1, _report(command, verb="fail")
    payload = payload_of(command, failure=command.failure)
    match case.emitted:
        case "job.attempt_failed" if retry_at is not None:
            return changed(job, AttemptFailed(fence, retry_at, report), payload=payload)
        case "job.failed":
            return end(job, Failed(fence, job.lost_leases, report), payload=payload, situation=situation)
        case _:
            return changed(job, cancelled(job, report), payload=replace(payload, reason=job.reason))


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


def release(command: c.Release, situation: Situation) -> Decision:
    """
    The decision on a job given back: it waits again, and the attempt does not count.

    Raises:
        LeaseLost: The fence is an old one.
    """
    job = workable(command, situation)
    if situation.reported is not None:
        return Decision(job.id, "repeated", job=situation.reported)
    case = Case(job, situation.now, fence=command.fence)
    if not fire("release", case):
        raise _lease_lost(command, job, now=situation.now)
    report = _report(command, verb="release")
    if case.emitted == "job.released":
        return changed(job, Released(job.fence + 1, job.attempt - 1, report), payload=payload_of(command))
    return changed(job, given_up(job, report), payload=payload_of(command, reason=job.reason))


def _report(command: c.EndingReport, *, verb: Verb) -> Report:
    return Report(verb, command.fence, command.digest)


def _lease_lost(command: c.Heartbeat | c.ReportProgress | c.EndingReport, job: Job, *, now: Micros) -> LeaseLost:
    may_complete = fire("complete", Case(job, now, fence=command.fence))
    return LeaseLost(job=job, may_complete=may_complete)
