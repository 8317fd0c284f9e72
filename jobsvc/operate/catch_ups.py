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
from projections.folding import Rows, take

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Parked, Store, ViewProgress
    from projections.projection import Projection

_ATTEMPTS_MAX: Final = 50
"""How often a projection is read again because it moved on meanwhile."""


class CatchUp:
    """A projection's rows as a replay makes them, up to where its checkpoint was when that began, or later."""

    def __init__(self, store: Store, projection: Projection) -> None:
        """Nothing has been folded yet, and nothing will be before ``begin``."""
        self._store = store
        self._projection = projection
        self._failure: Exception | None = None
        self._begin_anew(0, ())

    async def begin(self) -> None:
        """It is known how far there is to go, and what the projection itself left out."""
        standing = (await self._store.read_checkpoints()).get(self._projection.name)
        self._begin_anew(
            0 if standing is None else standing.position, await self._store.read_parked(self._projection.name)
        )

    def take(self, events: Sequence[Event]) -> None:
        """*events*, which follow on those before, are folded, but none above the checkpoint."""
        wanted = [event for event in events if event.position <= self._until]
        if not wanted or self._failure is not None:
            return
        try:
            take(self._projection, self._rows, [event for event in wanted if not self._left_out(event)])
        except Exception as failure:  # noqa: BLE001  # anyone may write a projection
            self._failure = failure
        self._reached = wanted[-1].position

    async def findings(self) -> list[Finding]:
        """
        What is wrong with the rows as stored; nothing if the projection has not begun.

        Whether it has rows that no replay makes is seen by their number. One that never stands still is left at that.
        """
        name = self._projection.name
        for _ in range(_ATTEMPTS_MAX):
            keys = list(self._rows)
            before, stored, parked, then = await asyncio.gather(
                self._store.read_checkpoints(),
                self._store.read_rows(name, keys),
                self._store.read_parked(name),
                self._store.read_checkpoints(),
            )
            standing = then.get(name)
            if standing is None or standing.version != self._projection.version:
                return []
            if standing.position < self._reached or parked != self._parked:
                self._begin_anew(standing.position, parked)
            await self._fold_to(standing.position)
            if self._failure is not None:
                return [Finding(None, f"{name} cannot be replayed: it met a {type(self._failure).__name__}")]
            if before == then and self._rows.keys() <= set(keys):
                return self._compare(standing, stored)
        return []

    def _begin_anew(self, until: int, parked: Sequence[Parked]) -> None:
        self._rows: Rows = {}
        self._reached = 0
        self._until: int = until
        self._parked: Sequence[Parked] = parked
        self._waits_from = {one.job_id: one.position for one in parked if not one.passed_over}
        self._passed_over = {one.position for one in parked if one.passed_over}

    def _left_out(self, event: Event) -> bool:
        """True of what waits, and of what was passed over."""
        waits_from = self._waits_from.get(event.job_id)
        return (waits_from is not None and event.position >= waits_from) or event.position in self._passed_over

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
