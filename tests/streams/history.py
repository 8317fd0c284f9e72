"""
Histories of a few jobs of a few owners, as changes: what a ring keeps and a channel tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from jobsvc.changes import Change, change
from jobsvc.domain.job import evolve
from tests.store.histories import History, job_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

    from jobsvc.domain.job import Job

OWNERS: Final = ("user:a", "user:b", "guest:g")
_LIVES: Final[tuple[Callable[[History, int], object], ...]] = (
    lambda log, job: log.start(job),
    lambda log, job: log.progress(job, percent=1.0),
    lambda log, job: log.progress(job, percent=2.0),
    lambda log, job: log.move(job, owner="user:b"),
    lambda log, job: log.complete(job),
    lambda log, job: log.late_result(job, fence=1, digest="late"),
)


@st.composite
def history(draw: DrawFn, *, jobs_max: int = 4, events_max: int = 30) -> list[Change]:
    """
    Each job is born, and then goes through its life as far as it is drawn.
    """
    log = History()
    reached: dict[int, int] = {}
    for number in draw(st.lists(st.integers(0, jobs_max - 1), max_size=events_max)):
        step = reached.get(number)
        if step is None:
            size = draw(st.sampled_from([2, 300, 5_000]))
            log.create(number, owner=OWNERS[number % len(OWNERS)], raw=b'"%b"' % (b"x" * size))
            reached[number] = 0
        elif step < len(_LIVES):
            _LIVES[step](log, number)
            reached[number] += 1
    return changes_of(log)


def changes_of(log: History) -> list[Change]:
    """
    Every event of *log*, with its job as it stood after it.
    """
    standing: dict[str, Job] = {}
    changes: list[Change] = []
    for event in log.events:
        before = standing.get(event.job_id)
        job = standing[event.job_id] = evolve(before, event)
        changes.append(change(before, event, job))
    return changes


def name(number: int) -> str:
    """
    The id of a job of a history.
    """
    return job_id(number)
