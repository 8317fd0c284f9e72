"""
How a job comes about: the event by which it exists, be it asked for or left behind by another that ends.

Both ways lead through one function, so that a follow-up has the same terms and dates as a job that was created.
What must never live here: whether a job may be made for a key, which is creating.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.decisions.decision import Decision, Situation, allow, changed
from jobsvc.domain.events import Completed, Created, Expired, Failed, NewEvent, Payload
from jobsvc.domain.machine import Case
from jobsvc.domain.words import SYSTEM, JobId

if TYPE_CHECKING:
    from jobsvc.domain.job import Job


def born(
    command: c.Create, situation: Situation, *, retry_of: JobId | None = None, follows: JobId | None = None
) -> NewEvent:
    """
    The event by which a new job exists.
    """
    terms, now = command.terms, situation.now
    case = allow("create", Case(None, now, run_at=terms.run_at))
    start = now if terms.run_at is None else max(now, terms.run_at)
    facts = Created(
        command.kind,
        case.state,  # type: ignore[arg-type]  # create leads to these two states only
        terms,
        None if terms.deadline_us is None else start + terms.deadline_us,
        None if terms.start_within_us is None else start + terms.start_within_us,
        start + situation.active_max_us,
        retry_of,
        follows,
    )
    payload = Payload(command.who.actor, command.request_id, command.submission, reason=command.reason)
    return NewEvent(command.job_id, facts, payload)


def end(job: Job, facts: Completed | Failed | Expired, *, payload: Payload, situation: Situation) -> Decision:
    """
    *job* ended by itself: a follow-up that was asked for becomes a job in the same breath.
    """
    followup = job.followup
    if followup is None:
        return changed(job, facts, payload=payload)
    again = c.Create(
        job_id=situation.spare_id,
        who=SYSTEM,
        kind=followup.kind,
        submission=followup.submission,
        terms=followup.terms,
        request_id=payload.request_id,
    )
    ended = NewEvent(job.id, replace(facts, followed_by=again.job_id), payload)
    return Decision(job.id, "changed", (ended, born(again, situation, follows=job.id)))
