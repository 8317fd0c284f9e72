"""
The needs: what the store has to be asked before a batch is decided, so that it is asked once.

What memory knows for sure is not asked for; what it cannot know is: ended jobs, earlier reports, results to be reused,
marks. What must never live here: an answer, or a decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.domain import commands as c
from jobsvc.domain.errors import Rejected
from jobsvc.shares import GUEST
from jobsvc.store.seam import Needs
from jobsvc.takeovers import HandOver, TakeOver, claimed_key
from jobsvc.work import Flush, Remember, Several, Undo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobsvc.answers import MarkRequest
    from jobsvc.domain.words import JobId
    from jobsvc.memory import Memory
    from jobsvc.store.seam import DedupKey, MarkKey
    from jobsvc.work import Work

_ENDING_REPORTS: Final = {c.Complete: "complete", c.Fail: "fail", c.Release: "release"}


def needs_of(works: Iterable[tuple[Work, MarkRequest | None]], memory: Memory) -> Needs:
    """What the store has to be asked before *works* can be decided, besides what *memory* knows."""
    asked = _Asked(memory)
    for work, mark in works:
        if mark is not None:
            asked.marks.add(mark.mark_key)
        asked.add(work)
    return Needs(frozenset(asked.jobs), frozenset(asked.marks), frozenset(asked.completed), frozenset(asked.reports))


class _Asked:
    """The needs as they gather."""

    __slots__ = ("_memory", "completed", "jobs", "marks", "reports")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.jobs: set[JobId] = set()
        self.marks: set[MarkKey] = set()
        self.completed: set[DedupKey] = set()
        self.reports: set[tuple[JobId, str, int, str]] = set()

    def add(self, work: Work | Rejected) -> None:
        """What *work* needs is asked for too."""
        match work:
            case c.Create():
                self._add_create(work)
            case c.Complete() | c.Fail() | c.Release():
                self._add_report(work)
            case Several() | Undo():
                for one in work.commands:
                    self.add(one)
            case c.Claim() | Flush() | Rejected() | Remember():
                pass
            case TakeOver():
                self.marks.add(claimed_key(work.guest))
            case HandOver():
                self.jobs.update(work.job_ids)
            case _:
                if work.job_id not in self._memory.jobs:
                    self.jobs.add(work.job_id)

    def _add_create(self, create: c.Create) -> None:
        owner = create.submission.owner
        if create.who.role != "guest" and _may_be_spent(owner, self._memory):
            self.marks.add(claimed_key(owner))
        if create.dedup.on_completed != "rerun" and create.submission.key is not None:
            self.completed.add(dedup_key(create))

    def _add_report(self, report: c.EndingReport) -> None:
        job = self._memory.jobs.get(report.job_id)
        if job is None:
            self.jobs.add(report.job_id)
        # Under a lease that was current and held at the last commit, no such report can have been accepted.
        if job is None or job.fence != report.fence or job.lease_us is None:
            self.reports.add(report_key(report))


def _may_be_spent(owner: str, memory: Memory) -> bool:
    """
    True for a guest of whom nothing is known here. A guest that asks for itself was proved not to be, a moment ago.
    """
    return owner.startswith(GUEST) and owner not in memory.by_owner and owner not in memory.spent


def dedup_key(command: c.Create) -> DedupKey:
    """What the job to be made would be found by; only for a command that has a key."""
    return (command.submission.owner, command.kind, command.submission.key or "")


def report_key(report: c.EndingReport) -> tuple[JobId, str, int, str]:
    """By what this very report is found if it was accepted before."""
    return (report.job_id, _ENDING_REPORTS[type(report)], report.fence, report.digest)
