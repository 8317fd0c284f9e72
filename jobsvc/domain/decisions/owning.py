"""
The decisions on whose a job is, and on forgetting what it was about.

A change of owner takes the key with it, so that two active jobs for one key meet here: one stays, and gets what was to
follow the other. What must never live here: which jobs of a guest are moved, and in which order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobsvc.domain.decisions.creating import superseded
from jobsvc.domain.decisions.decision import Decision, Situation, allow, changeable, changed, found, payload_of
from jobsvc.domain.errors import AccessDenied, DuplicateActiveJob, InvalidCommand, JobActive, JobNotFound, Rejected
from jobsvc.domain.events import Erased, FollowupRequested, NewEvent, OwnerChanged
from jobsvc.domain.machine import Case, fire

if TYPE_CHECKING:
    from jobsvc.domain import commands as c
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Micros


def change_owner(command: c.ChangeOwner, situation: Situation) -> Decision:
    """
    The decision on *job* becoming another owner's.

    Raises:
        AccessDenied: The caller is not that owner.
        DuplicateActiveJob: The new owner has an active job with the same key.
        InvalidCommand: The job was erased.
    """
    job = found(situation)
    if not command.who.may_change(command.owner):
        raise AccessDenied("a job can be claimed for oneself only")
    if job.owner == command.owner:
        return Decision(job.id, "unchanged")
    if not fire("change_owner", Case(job, situation.now, holder=situation.holder)):
        raise _immovable(job, situation.holder)
    payload = payload_of(command, owner=command.owner, previous_owner=job.owner)
    return changed(job, OwnerChanged(), payload=payload)


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


def merge(command: c.Merge, situation: Situation) -> Decision:
    """
    The decision on two jobs for one key: *job* ends for *holder*, and hands on what was to follow it.
    """
    job, survivor = found(situation), situation.holder
    if survivor is None:
        raise JobNotFound
    if not (command.who.may_change(job.owner) or command.who.may_change(survivor.owner)):
        raise AccessDenied
    ended = superseded(command, job, now=situation.now, by=survivor.id)
    if job.followup is None or survivor.followup is not None:
        return Decision(survivor.id, "changed", (ended,))
    allow("ask_followup", Case(survivor, situation.now))
    facts = FollowupRequested(kind=job.followup.kind, terms=job.followup.terms, count=job.followup.count)
    submission = replace(job.followup.submission, owner=survivor.owner)
    handed_on = NewEvent(survivor.id, facts, payload_of(command, submission=submission))
    return Decision(survivor.id, "changed", (ended, handed_on))


def erase(command: c.Erase, situation: Situation) -> Decision:
    """
    The decision on forgetting what an ended job was about; that it was stays.

    Raises:
        JobActive: The job has not ended.
    """
    job = changeable(command, situation)
    if not fire("erase", Case(job, situation.now)):
        raise JobActive("an active job cannot be erased; cancel it first", job=job)
    return changed(job, Erased(), payload=payload_of(command, reason=command.reason))
