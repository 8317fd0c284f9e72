"""
The decisions on what front ends ask of a job: cancel and cleanup.

And what an end by either is called, which a worker's report and the passing of time lead to as well.
What must never live here: the ends that a worker reports, which are working.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.decisions.decision import Decision, Situation, allow, changeable, changed, payload_of
from jobsvc.domain.errors import JobActive
from jobsvc.domain.events import Cancelled, CancelRequested, Expired, Report
from jobsvc.domain.machine import CANCEL_GRACE_US, Case, fire

if TYPE_CHECKING:
    from jobsvc.domain import commands as c
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Reason


def cancel(command: c.Cancel, situation: Situation) -> Decision:
    """
    The decision on a cancel: ended at once, asked of the worker with a time of grace, or nothing where it was before.

    Raises:
        JobActive: The machine does not let the job be cancelled.
    """
    job = changeable(command, situation)
    case = allow("cancel", Case(job, situation.now, force=command.force))
    reason: Reason = "forced" if command.force else "requested"
    payload = payload_of(command, reason=command.reason or reason)
    match case.emitted:
        case None:
            return Decision(job.id, "unchanged")
        case "job.cancel_requested":
            facts = CancelRequested(grace_until=situation.now + CANCEL_GRACE_US)
            return changed(job, facts, payload=payload)
        case _:
            return changed(job, cancelled(job), payload=payload)


def clean_up(command: c.CleanUp, situation: Situation) -> Decision:
    """
    The decision on a cleanup: a job that nobody drives any more ends; of an ended one nothing follows.

    Raises:
        JobActive: The job waits or its worker is alive, and no force was asked for.
    """
    job = changeable(command, situation)
    case = Case(job, situation.now, force=command.force, lease_live=situation.lease_live)
    if not fire("clean_up", case):
        still_active = "the job is waiting or its worker is alive; cancel it, or clean it up with force"
        raise JobActive(still_active, job=job)
    match case.emitted:
        case None:
            return Decision(job.id, "unchanged")
        case "job.expired":
            payload = payload_of(command, reason=command.reason or why_expired(case))
            return changed(job, Expired(job.fence + 1), payload=payload)
        case _:
            reason: Reason = "cleaned_up"
            return changed(job, cancelled(job), payload=payload_of(command, reason=command.reason or reason))


def cancelled(job: Job, report: Report | None = None) -> Cancelled:
    """
    The end of *job* because it was cancelled.
    """
    return Cancelled(fence=job.fence + 1, report=report)


def given_up(job: Job, report: Report | None = None) -> Cancelled:
    """The end of a cancelled job by a release or a lapse, which give the attempt back as they do of any other job."""
    return Cancelled(fence=job.fence + 1, report=report, attempt=job.attempt - 1)


def why_expired(case: Case) -> Reason:
    """
    The first of the bounds that the job is past, in a word.
    """
    if case.is_past_deadline():
        return "deadline"
    if case.is_past_first_start():
        return "not_started"
    return "active_too_long" if case.is_overdue() else "lease_expired"
