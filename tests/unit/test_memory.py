"""
What a batch writes into the views is what a rebuild of them would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobsvc import memory
from jobsvc.domain.events import Event, LateResult, Report, Started
from jobsvc.memory import Memory, Stage
from jobsvc.store.seam import Found, Head, HistoryRow, KeyRow, Opening
from projections.folding import Rows, take
from projections.history import History
from projections.keys import Keys
from tests.unit.specification import COMPLETED, RUNNING, record

if TYPE_CHECKING:
    import pytest


class Taken(Keys):
    """
    Keys that also say that a worker has taken the job.
    """

    def apply(self, row: KeyRow | None, event: Event) -> KeyRow | None:
        """
        The key after *event*.
        """
        after = super().apply(row, event)
        return replace(after, key="taken") if after is not None and isinstance(event.facts, Started) else after


class Late(History):
    """
    A history that also knows of late results.
    """

    def apply(self, row: HistoryRow | None, event: Event) -> HistoryRow | None:
        """
        The entry after *event*.
        """
        after = super().apply(row, event)
        return replace(after, kind="late") if after is not None and isinstance(event.facts, LateResult) else after


def test_a_view_is_asked_of_every_event_as_a_rebuild_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whatever a view comes to make of an event that it ignored before, live rows and replayed ones stay the same.
    """
    keys, history, taken, late = Rows(), Rows(), Taken(), Late()
    monkeypatch.setattr(memory, "KEYS", taken)
    monkeypatch.setattr(memory, "HISTORY", late)
    running, ended = Stage(Memory(), Found()), Stage(Memory(), Found())

    for event in (held := record(RUNNING)):
        running.take(event)
    for event in (over := record((*COMPLETED, LateResult(Report("complete", 0, "late"))))):
        ended.take(event)
    take(taken, keys, held)
    take(late, history, over)

    assert keys == running.keys
    assert not running.history
    assert {"taken"} == {row.key for row in keys.values()}
    assert history == ended.history
    assert {"late"} == {row.kind for row in history.values()}


def test_rows_of_jobs_that_are_not_active_stay_the_store_s() -> None:
    """
    A view that is damaged, and names a job that has ended or never was, gives nobody's key away.
    """
    rows = Opening(
        Head(1, bytes(32), 1, "log"),
        [],
        keys={"gone": KeyRow("gone", "user:ada", "work", "key")},
    )
    loaded = Memory()

    loaded.load(rows)

    assert not loaded.holders
    assert not loaded.keys
