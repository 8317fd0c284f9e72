"""
The decisions on time passing: come due, lapsed, expired, out of grace.

The sweeper only thinks that a moment has come: whether it has is decided here, on the job as it stands by then, and
nothing follows if something else came first. What must never live here: a clock, or when to look again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.decisions.birth import end
from jobsvc.domain.decisions.decision import Decision, Situation, changed, found, payload_of
from jobsvc.domain.decisions.ending import cancelled, given_up, why_expired
from jobsvc.domain.events import Due, Expired, Failed, Failure, LeaseExpired, Payload
from jobsvc.domain.machine import Case, fire

if TYPE_CHECKING:
    from jobsvc.domain.job import Job


def moment(command: c.ComeDue | c.Lapse | c.Expire | c.EndGrace, situation: Situation) -> Decision:
    """
    The decision on a moment that the sweeper thinks has come; nothing follows if something else came first.
    """
    job = found(situation)
    case = Case(job, situation.now, lease_live=situation.lease_live, awake_since=situation.awake_since)
    payload = payload_of(command)
    match command:
        case c.ComeDue() if fire("come_due", case):
            return changed(job, Due(), payload=payload)
        case c.Lapse() if fire("lapse", case):
            return _lapsed(job, case, payload=payload, situation=situation)
        case c.Expire() if fire("expire", case):
            payload = replace(payload, reason=why_expired(case))
            return end(job, Expired(job.fence + 1), payload=payload, situation=situation)
        case c.EndGrace() if fire("end_grace", case):
            return changed(job, cancelled(job), payload=replace(payload, reason=job.reason))
        case c.ComeDue() | c.Lapse() | c.Expire() | c.EndGrace():
            return Decision(job.id, "unchanged")
        case _:
            assert_never(command)


def _lapsed(job: Job, case: Case, *, payload: Payload, situation: Situation) -> Decision:
    lost = job.lost_leases + 1
    match case.emitted:
        case "job.lease_expired":
            return changed(job, LeaseExpired(job.attempt - 1, lost, situation.now), payload=payload)
        case "job.failed":
            failure = Failure("worker_lost", f"{lost} workers fell silent while they held this job")
            payload = replace(payload, failure=failure)
            facts = Failed(job.fence + 1, lost, attempt=job.attempt - 1)
            return end(job, facts, payload=payload, situation=situation)
        case _:
            return changed(job, given_up(job), payload=replace(payload, reason=job.reason))
