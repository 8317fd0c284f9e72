"""
The takeovers: how a guest's jobs become a user's, as commands a job, and how the guest is spent with them.

The desk carries the commands out one after the other on the stage; which they are, and in which order, is said here.
Whether two jobs may stand side by side, and which of two gives way, is the domain's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.answers import TakenOver
from jobsvc.domain import commands as c
from jobsvc.domain.decisions.owning import gives_way
from jobsvc.domain.errors import InvalidCommand, Rejected
from jobsvc.domain.words import JobId, Micros, Principal
from jobsvc.memory import CLAIMED, HANDOVERS
from jobsvc.store.seam import Mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.domain.job import Job
    from jobsvc.memory import Stage
    from jobsvc.store.seam import MarkKey

_NEVER: Final = 2**62
_OVER: Final = 0


class TakeOver(Struct, frozen=True):
    """
    A guest's active jobs are to be the owner's, all at once, and the guest is spent, as is known until *spent_until*.

    Resolved to a ``ChangeOwner`` a job, and a ``Merge`` where the owner has an active one for the same work.
    """

    who: Principal
    guest: str
    owner: str
    spent_until: Micros
    request_id: str | None = None


class HandOver(Struct, frozen=True):
    """These ended jobs of a guest that was taken over are to be the owner's too; with the *last* nothing is left."""

    who: Principal
    guest: str
    owner: str
    job_ids: tuple[JobId, ...]
    last: bool


def take_over(work: TakeOver, stage: Stage, carry_out: Callable[[c.JobCommand], None]) -> TakenOver | Rejected:
    """
    The guest's active jobs are the owner's, and the guest is spent: nothing is made for it from here on.

    An owner may have more active jobs by this than it may make: what is there is never refused for that. A job gives at
    most five events: progress held of both, the end of the one, a follow-up for the other, the move.
    """
    if stage.is_spent(work.guest):
        return InvalidCommand("this guest was claimed already", pointer="/guest_token")
    jobs = stage.owned(work.guest)
    merged = sum(_move(job, work, stage, carry_out) for job in jobs)
    owner = work.owner.encode()
    stage.spent[work.guest] = work.owner
    stage.remember(Mark(work.guest, CLAIMED, "", "", owner, work.spent_until))
    stage.remember(Mark(HANDOVERS, work.guest, "", "", owner, _NEVER))
    return TakenOver(len(jobs) - merged, merged)


def hand_over(work: HandOver, stage: Stage, carry_out: Callable[[c.JobCommand], None]) -> int:
    """How many of the jobs were the guest's and are the owner's; after the last the mark of what is left may go."""
    handed = 0
    for job_id in work.job_ids:
        job = stage.job(job_id)
        if job is not None and job.owner == work.guest:
            carry_out(c.ChangeOwner(job_id, work.who, work.owner))
            handed += 1
    if work.last:
        stage.remember(Mark(HANDOVERS, work.guest, "", "", work.owner.encode(), _OVER))
    return handed


def holder_under(owner: str, job: Job, stage: Stage) -> Job | None:
    """The active job of *owner* that has the key which *job*, if it is active, would bring along."""
    return None if job.key is None or not job.active else stage.holder((owner, job.kind, job.key))


def claimed_key(guest: str) -> MarkKey:
    """Under which the mark stands that says that *guest* was taken over."""
    return (guest, CLAIMED, "")


def _move(job: Job, work: TakeOver, stage: Stage, carry_out: Callable[[c.JobCommand], None]) -> bool:
    """
    True if *job* met another of the owner's for the same work, and the two are one.

    Of two the one that ends does so before *job* moves, so that at no position a key has two holders.
    """
    holder = holder_under(work.owner, job, stage)
    if holder is not None:
        ends, stays = (job, holder) if gives_way(job, holder, now=stage.last_at) else (holder, job)
        carry_out(c.Merge(ends.id, stays.id, work.who, work.request_id))
    carry_out(c.ChangeOwner(job.id, work.who, work.owner, work.request_id))
    return holder is not None
