"""
The news of a commit: who hears of it, in the loop turn in which it becomes visible.

What is committed stays so, whoever cannot bear to hear of it: a listener that raises is logged, and the next is told.
What must never live here: an await, since whoever hears must know of the commit before anybody else can ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.telemetry import log_failure
from jobsvc.waiters import JobWaiters, WorkerWaiters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jobsvc.changes import Change
    from jobsvc.desk import Desk


class News:
    """
    Everyone who wants to know what was committed.

    Attributes:
        job_waiters: Woken when a job moves on.
        worker_waiters: Woken when a job is ready.
        on_commit: Called with the changes of each commit.
        on_spent: Called with each guest that was taken over and its new owner, after ``on_commit``.
    """

    def __init__(self) -> None:
        self.job_waiters = JobWaiters()
        self.worker_waiters = WorkerWaiters()
        self.on_commit: list[Callable[[Sequence[Change]], None]] = []
        self.on_spent: list[Callable[[str, str], None]] = []

    def publish(self, changes: Sequence[Change], *, spent: Mapping[str, str]) -> None:
        """Those who wait for a job, then all who read along, know of *changes* and of the guests *spent*."""
        self.job_waiters.wake(changes)
        for hear in self.on_commit:
            tell(hear, changes)
        for guest, owner in spent.items():
            for learn in self.on_spent:
                tell(learn, guest, owner)

    def wake_workers(self, desk: Desk) -> None:
        """As many waiting claims are woken as *desk* has jobs for."""
        if len(self.worker_waiters) and desk.ready:
            self.worker_waiters.wake(desk.waiting, limit=desk.ready)

    def wake_all(self) -> None:
        """All waits have ended."""
        self.job_waiters.wake_all()
        self.worker_waiters.wake_all()


def tell(hear: Callable[..., None], *news: object) -> None:
    """*hear* was called with *news*; that it raised stands in the log and stops nobody."""
    try:
        hear(*news)
    except Exception as fault:  # noqa: BLE001  # as it says
        log_failure("ledger.fault", fault)
