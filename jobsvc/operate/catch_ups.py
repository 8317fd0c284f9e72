"""
The projections that catch up, each against a replay up to its own checkpoint.

Their rows lie under keys of their own, so a replay's are kept in memory: as much as the projection itself has.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import json

from jobsvc.operate.findings import FINDINGS_MAX, Finding
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from projections.runner import Rows, take

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Store, ViewProgress
    from projections.projection import Projection

_ATTEMPTS_MAX: Final = 50
"""How often a projection is read again because it moved on meanwhile."""


class CatchUp:
    """A projection's rows as a replay makes them, up to where its checkpoint was when that began, or later."""

    def __init__(self, store: Store, projection: Projection, standing: ViewProgress | None) -> None:
        """
        Nothing has been folded yet.

        Args:
            store: Opened, if only for reading.
            projection: One that catches up.
            standing: Its checkpoint now; None if it has none.
        """
        self._store = store
        self._projection = projection
        self._until = 0 if standing is None else standing.position
        self._rows: Rows = {}
        self._reached = 0

    def take(self, events: Sequence[Event]) -> None:
        """*events*, which follow on those before, are folded, but none above the checkpoint."""
        wanted = events if events and events[-1].position <= self._until else self._up_to(events, self._until)
        take(self._projection, self._rows, wanted)
        if wanted:
            self._reached = wanted[-1].position

    async def findings(self) -> list[Finding]:
        """
        What is wrong with the rows as stored; nothing if the projection has not begun.

        Whether it has rows that no replay makes is seen by their number. One that never stands still is left at that.
        """
        for _ in range(_ATTEMPTS_MAX):
            keys = list(self._rows)
            before, stored, then = await asyncio.gather(
                self._store.read_checkpoints(),
                self._store.read_rows(self._projection.name, keys),
                self._store.read_checkpoints(),
            )
            standing = then.get(self._projection.name)
            if standing is None or standing.version != self._projection.version:
                return []
            if standing.position < self._reached:
                self._rows, self._reached = {}, 0
            await self._fold_to(standing.position)
            if before == then and self._rows.keys() <= set(keys):
                return self._compare(standing, stored)
        return []

    async def _fold_to(self, position: int) -> None:
        self._until = position
        while self._reached < position:
            events = await self._store.read_events(after=self._reached, limit=ROWS_PER_PAGE_MAX, until=position)
            if not events:
                return
            self.take(events)

    def _compare(self, standing: ViewProgress, stored: Mapping[str, bytes]) -> list[Finding]:
        name = standing.name
        if self._reached < standing.position:
            return [Finding(None, f"{name} stands past the end of the log; rebuild {name}")]
        found: list[Finding] = []
        for key, row in self._rows.items():
            if key not in stored:
                found.append(Finding(None, f"{name} lacks the row for {key} that a replay makes; rebuild {name}"))
            elif stored[key] != json.encode(row):
                found.append(Finding(None, f"{name} has another row for {key} than a replay makes; rebuild {name}"))
        if not found and standing.rows != len(self._rows):
            many = f"{name} has {standing.rows} rows where a replay makes {len(self._rows)}; rebuild {name}"
            found.append(Finding(None, many))
        return found[:FINDINGS_MAX]

    @staticmethod
    def _up_to(events: Sequence[Event], position: int) -> Sequence[Event]:
        return [event for event in events if event.position <= position]
