"""
Taking events into rows: all at once, or, if the projection cannot bear one of them, one by one around it.

An event that makes a projection raise parks its job: that event and every later one of the same job wait, in order,
and the others go on. Nothing is ever skipped, and a later event never overtakes one of its own job that waits
(sequenced dead letters, as Axon has them). Pure: what is parked is written down by the runner.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from msgspec import json

from jobsvc.store.seam import Parked
from projections.projection import row_key, row_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobsvc.domain.events import Event
    from jobsvc.domain.words import JobId
    from projections.projection import Projection

Rows = dict[str, Any]
"""A projection's rows by key."""


def take(projection: Projection, rows: Rows, events: Iterable[Event]) -> set[str]:
    """*rows* after *events*; the keys that they touched. Raises whatever the projection does."""
    touched: set[str] = set()
    key_of, apply = row_key(projection), projection.apply
    for event in events:
        key = str(key_of(event))
        row = apply(rows.get(key), event)
        touched.add(key)
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row
    return touched


class Folding:
    """
    One page of events on its way into the rows of a projection.

    Attributes:
        parked: By job, where its sequence waits, those of before and those that this page met.
        failures: What this page met, with the exceptions.
    """

    def __init__(self, projection: Projection, parked: Iterable[Parked] = ()) -> None:
        self._projection = projection
        self.parked: dict[JobId, Parked] = {one.job_id: one for one in parked}
        self.failures: list[tuple[Parked, Exception]] = []

    def keyed(self, events: Iterable[Event]) -> dict[str, list[Event]]:
        """Those of *events* that can be taken in, in order, by the key of the row that they belong to."""
        keyed: dict[str, list[Event]] = {}
        key_of = row_key(self._projection)
        for event in events:
            if event.job_id not in self.parked:
                try:
                    keyed.setdefault(str(key_of(event)), []).append(event)
                except Exception as failure:  # noqa: BLE001  # anyone may write a projection
                    self._park(event, failure)
        return keyed

    def rows(self, keyed: Mapping[str, list[Event]], stored: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """The rows that *keyed* touches, as they are to be stored; None for those that are none any more."""
        try:
            return {key: self._folded(stored.get(key), events) for key, events in keyed.items()}
        except Exception:  # noqa: BLE001  # which event it was, and whether it fails again, is seen one by one
            return self._one_by_one(keyed, stored)

    def _one_by_one(self, keyed: Mapping[str, list[Event]], stored: Mapping[str, bytes]) -> dict[str, bytes | None]:
        rows: dict[str, bytes | None] = {}
        # In the order of the log: one that fails parks what comes later of its job, whatever rows that belongs to.
        for _, key, event in sorted((event.position, key, event) for key, events in keyed.items() for event in events):
            if event.job_id not in self.parked:
                try:
                    rows[key] = self._folded(rows[key] if key in rows else stored.get(key), [event])
                except Exception as failure:  # noqa: BLE001  # as above
                    self._park(event, failure)
        return rows

    def _folded(self, body: bytes | None, events: list[Event]) -> bytes | None:
        row = None if body is None else json.decode(body, type=row_type(self._projection))
        apply = self._projection.apply
        for event in events:
            row = apply(row, event)
        return None if row is None else json.encode(row)

    def _park(self, event: Event, failure: Exception) -> None:
        parked = Parked(self._projection.name, event.position, event.job_id, _told(failure))
        self.parked[event.job_id] = parked
        self.failures.append((parked, failure))


def _told(failure: Exception) -> str:
    """What *failure* is and where it was raised. Not what it says: that may be of the payload."""
    place = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{type(failure).__name__} in {place.name}, line {place.lineno}"
