"""
What a decision may depend on, what it is, and the words that all decisions share.

A situation is all that is known of the world at that instant, and a decision is only the events: nothing of either is
changed by deciding. Nothing is decided here: a rule about one kind of command lives in the file of its kind.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from jobsvc.domain import commands as c
from jobsvc.domain.errors import AccessDenied, JobActive, JobNotFound, RejectedWithJob, VersionMismatch
from jobsvc.domain.events import Facts, NewEvent, Payload
from jobsvc.domain.job import Job
from jobsvc.domain.machine import Case, fire
from jobsvc.domain.words import JobId, Micros

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


def found(situation: Situation) -> Job:
    """
    The job that the command names.

    Raises:
        JobNotFound: There is none.
    """
    if situation.job is None:
        raise JobNotFound
    return situation.job


def changeable(command: c.Cancel | c.CleanUp | c.Retry | c.Erase, situation: Situation) -> Job:
    """
    The job, if there is one, the caller may change it, and it is the version that the caller has seen.
    """
    job = found(situation)
    if not command.who.may_change(job.owner):
        raise AccessDenied
    if_version = None if isinstance(command, c.Erase) else command.if_version
    if if_version is not None and if_version != job.version:
        raise VersionMismatch(job=job)
    return job


def workable(command: c.Start | c.Heartbeat | c.ReportProgress | c.EndingReport, situation: Situation) -> Job:
    """
    The job, if there is one and the worker may work on its kind.

    Raises:
        JobNotFound: There is none.
        AccessDenied: The kind is not among those of the worker.
    """
    job = found(situation)
    if not command.who.may_work_on(job.kind):
        raise AccessDenied("this worker's token does not name the kind of this job")
    return job


def allow(trigger: str, case: Case) -> Case:
    """
    *case* after *trigger*, which the machine always allows here.
    """
    if not fire(trigger, case):
        raise JobActive(f"the job as it stands does not allow {trigger}", job=case.job)
    return case


def changed(job: Job, facts: Facts, *, payload: Payload) -> Decision:
    """
    The decision that *facts* happen to *job*, and nothing else.
    """
    return Decision(job.id, "changed", (NewEvent(job.id, facts, payload),))


def payload_of(command: c.JobCommand, **fields: Any) -> Payload:  # noqa: ANN401  # Payload's own fields
    """
    The payload of an event of *command*: who caused it in which request, and *fields*.

    Cost: twice that of a ``Payload`` as such, which is why what happens to every job makes its own.
    """
    return Payload(actor=command.who.actor, request_id=command.request_id, **fields)
