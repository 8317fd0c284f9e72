"""
What a batch writes into the views is what a rebuild of them would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobsvc import memory
from jobsvc.domain.events import Event, Started
from jobsvc.memory import Memory, Stage
from jobsvc.store.seam import Found, Head, HistoryRow, KeyRow, Opening
from projections.folding import Rows, take
from projections.history import History
from tests.unit.specification import RUNNING, record

if TYPE_CHECKING:
    import pytest


class Taken(History):
    """
    A history that also knows which jobs a worker has taken.
    """

    def apply(self, row: HistoryRow | None, event: Event) -> HistoryRow | None:
        """
        The entry after *event*.
        """
        after = super().apply(row, event)
        return replace(after, state="running") if after is not None and isinstance(event.facts, Started) else after


def test_a_view_is_asked_of_every_event_as_a_rebuild_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whatever a view comes to make of an event that it ignored before, live rows and replayed ones stay the same.
    """
    view, rows = Taken(), Rows()
    monkeypatch.setattr(memory, "HISTORY", view)
    stage = Stage(Memory(), Found())

    for event in (events := record(RUNNING)):
        stage.take(event)
    take(view, rows, events)

    assert rows == stage.history
    assert "running" in {row.state for row in rows.values()}


def test_rows_of_jobs_that_are_not_active_stay_the_store_s() -> None:
    """
    A view that is damaged, and names a job that has ended or never was, gives nobody's key away.
    """
    rows = Opening(
        Head(1, bytes(32), 1, "log"),
        [],
        keys={"gone": KeyRow("gone", "user:ada", "work", "key")},
        history={"gone": HistoryRow("gone", "user:ada", "work", "key", "queued", 1)},
    )
    loaded = Memory()

    loaded.load(rows)

    assert not loaded.holders
    assert not loaded.keys
    assert not loaded.history
