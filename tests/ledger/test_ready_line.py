"""
The ready line gives by priority, then owners in turn, then who has waited longest; checked against a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobsvc.domain.events import Submission, Terms
from jobsvc.domain.job import Job
from jobsvc.ready import ReadyLine

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("a", "b", "c")


def job(name: str, *, owner: str = "o", kind: str = "a", priority: int = 0, ready_at: int = 0) -> Job:
    """
    A queued job.
    """
    return Job(name, kind, "queued", 1, 1, Submission(owner), Terms(priority=priority), 0, ready_at)


class NaiveLine:
    """
    What the line promises, said with lists: a list of jobs, and for each (kind, priority) the owners in turn.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.turns: dict[tuple[str, int], list[str]] = {}
        self.served: list[str] = []

    def put(self, job: Job) -> None:
        """
        An owner that did not wait there comes to the end of the turns.
        """
        self.jobs[job.id] = job
        self._settle()
        turn = self.turns.setdefault((job.kind, job.terms.priority), [])
        if job.owner not in turn:
            turn.append(job.owner)

    def drop(self, name: str) -> None:
        """
        It waits no more; nobody moves up for that before it is their turn.
        """
        self.jobs.pop(name, None)

    def take(self, kinds: Iterable[str]) -> Job | None:
        """
        The best of the first of each kind.
        """
        self._settle()
        firsts = [first for kind in kinds or KINDS if (first := self._first(kind)) is not None]
        if not firsts:
            return None
        best = min(firsts, key=lambda one: (-one.terms.priority, self._served_at(one.owner), one.ready_at, one.id))
        turn = self.turns[best.kind, best.terms.priority]
        turn.remove(best.owner)
        del self.jobs[best.id]
        if self._of(best.kind, best.terms.priority, best.owner):
            turn.append(best.owner)
        self.served.append(best.owner)
        return best

    def _first(self, kind: str) -> Job | None:
        waiting = [one for one in self.jobs.values() if one.kind == kind]
        if not waiting:
            return None
        priority = max(one.terms.priority for one in waiting)
        owner = self.turns[kind, priority][0]
        return min(self._of(kind, priority, owner), key=lambda one: (one.ready_at, one.id))

    def _of(self, kind: str, priority: int, owner: str) -> list[Job]:
        return [
            one for one in self.jobs.values() if (one.kind, one.terms.priority, one.owner) == (kind, priority, owner)
        ]

    def _served_at(self, owner: str) -> int:
        places = [place for place, served in enumerate(self.served, start=1) if served == owner]
        return places[-1] if places else 0

    def _settle(self) -> None:
        """
        Owners that wait for nothing any more are in no turn.
        """
        for (kind, priority), turn in self.turns.items():
            turn[:] = [owner for owner in turn if self._of(kind, priority, owner)]


jobs = st.builds(
    job,
    st.sampled_from([f"j{number}" for number in range(12)]),
    owner=st.sampled_from(["x", "y", "z"]),
    kind=st.sampled_from(KINDS),
    priority=st.integers(-1, 1),
    ready_at=st.integers(0, 5),
)
steps = st.one_of(
    st.tuples(st.just("put"), jobs),
    st.tuples(st.just("drop"), st.sampled_from([f"j{number}" for number in range(12)])),
    st.tuples(st.just("take"), st.sets(st.sampled_from(KINDS), max_size=2).map(sorted)),
)


@given(st.lists(steps, max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_line_waits_for_exactly_the_jobs_that_wait(history: list[tuple[str, object]]) -> None:
    """
    Whatever is put, put elsewhere, dropped and taken: each job once, of a kind asked for, none while there are some.
    """
    line = ReadyLine()
    waiting: dict[str, Job] = {}
    for act, subject in history:
        if isinstance(subject, Job):
            line.put(subject)
            waiting[subject.id] = subject
        elif isinstance(subject, str):
            line.drop(subject)
            waiting.pop(subject, None)
        elif isinstance(subject, list):
            fitting = [one for one in waiting.values() if not subject or one.kind in subject]
            assert bool(fitting) == line.waiting(subject)
            taken = line.take(subject)
            assert (taken is None) == (not fitting), act
            if taken is not None:
                best = max(one.terms.priority for one in fitting)
                assert best == waiting.pop(taken).terms.priority
    assert len(waiting) == len(line)


@given(st.lists(steps, max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_line_gives_in_the_order_of_the_naive_one(history: list[tuple[str, object]]) -> None:
    """
    Jobs that wait once each: priority, then owners in turn, then the longest wait, then the older.
    """
    line, naive = ReadyLine(), NaiveLine()
    for place, (_, subject) in enumerate(history):
        if isinstance(subject, Job):
            fresh = replace(subject, id=f"{place:03}")
            line.put(fresh)
            naive.put(fresh)
        elif isinstance(subject, list):
            expected = naive.take(subject)
            assert (None if expected is None else expected.id) == line.take(subject)
    while (expected := naive.take(())) is not None:
        assert expected.id == line.take(())
    assert line.take(()) is None


def test_owners_take_turns_whatever_they_heap_up() -> None:
    """
    A hundred jobs of one owner do not hold up the one of another.
    """
    line = ReadyLine()
    for number in range(100):
        line.put(job(f"x{number:03}", owner="x"))
    line.put(job("y", owner="y", ready_at=9))

    taken = [line.take(()) for _ in range(3)]

    assert ["x000", "y", "x001"] == taken


def test_priority_comes_before_turns_and_waiting() -> None:
    """
    The larger number first, whoever waits.
    """
    line = ReadyLine()
    for name, priority in (("low", -100), ("middle", 0), ("high", 100)):
        line.put(job(name, priority=priority, ready_at=-priority))

    assert ["high", "middle", "low", None] == [line.take(()) for _ in range(4)]


@pytest.mark.parametrize("owners", [1, 1000])
def test_jobs_that_left_otherwise_take_no_room(owners: int) -> None:
    """
    A hundred thousand jobs that came and were cancelled behind one that nobody takes leave nothing behind.
    """
    line = ReadyLine()
    line.put(job("stays", owner="first", ready_at=-1))
    for number in range(100_000):
        line.put(job(f"j{number}", owner=f"o{number % owners}", ready_at=number))
        line.drop(f"j{number}")

    assert 1 == len(line)
    kept = sum(
        len(heap)
        for turns in line._turns.values()  # noqa: SLF001  # the bound is the promise
        for turn in turns.values()
        for heap in turn.values()
    )
    assert kept < 100
    assert "stays" == line.take(())
