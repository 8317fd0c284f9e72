"""
A shadow: a view that is made anew beside the live one, out of the log, and takes its place.

It takes in page after page while the service goes on, and holds in memory only what it has not written yet, and rows of
active jobs that the view does not keep: so a rebuild costs the same memory however long the log is. Only the last few
events are taken in under the writer's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import Corrupt
from jobsvc.domain.events import Created
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Behind
from projections.folding import Rows, take
from projections.projection import is_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Store, ViewName
    from projections.projection import Projection

_ROWS_UNWRITTEN_MAX: Final = 5_000
_ROWS_PER_FILL: Final = 1_000
"""A fill is one transaction, on the connection by which everything else is written."""

_LAST_FEW_MAX: Final = 100
"""How many events may be left for the writer's lock; more are taken in before it is asked for."""


class Shadow:
    """
    The rows of a view as a replay makes them, in a table of their own.

    Attributes:
        position: Everything up to here is taken in.
    """

    def __init__(self, store: Store, projection: Projection) -> None:
        """
        There is no shadow before ``begin``.

        Args:
            store: Opened for writing.
            projection: Of a view that is written with the events.
        """
        self._store = store
        self._projection = projection
        self._view: ViewName = projection.name  # type: ignore[assignment]  # as the seam names the inline views
        self._rows: Rows = {}
        self._keeps = is_kept(projection)
        self._unwritten: set[str] = set()
        self._written = False
        self.position = 0

    async def begin(self) -> None:
        """It is empty; one that was left by a broken rebuild is gone."""
        await self._store.begin_shadow(self._view)

    async def catch_up(self, progress: Callable[[int], None] | None) -> None:
        """All but the last few events of the log are taken in; the views are of what is not archived."""
        while True:
            events = await self._store.read_events(after=self.position, limit=ROWS_PER_PAGE_MAX, archived=False)
            await self._take(events)
            if progress is not None:
                progress(self.position)
            if len(events) <= _LAST_FEW_MAX:
                break
        await self._write()

    async def swap(self) -> None:
        """The shadow is the view. Ends, because under the writer's lock the log does not grow."""
        while True:
            await self._write()
            try:
                await self._store.swap_shadow(self._view, built_to=self.position)
            except Behind as behind:
                if not behind.events:
                    message = "the head of the log is not where its last event is; verify the log first"
                    raise Corrupt(message) from behind
                await self._take(behind.events)
            else:
                return

    async def _take(self, events: Sequence[Event]) -> None:
        if not events:
            return
        if self._written:
            unknown = self._unknown(events)
            self._rows |= await self._store.read_shadow(self._view, unknown) if unknown else {}
        self._unwritten |= take(self._projection, self._rows, events)
        self.position = events[-1].position
        if len(self._unwritten) > _ROWS_UNWRITTEN_MAX:
            await self._write()

    def _unknown(self, events: Iterable[Event]) -> list[str]:
        """The jobs whose rows are not in memory: they were born before these events, and are written."""
        born = {event.job_id for event in events if isinstance(event.facts, Created)}
        return sorted({event.job_id for event in events} - born - self._unwritten - self._rows.keys())

    async def _write(self) -> None:
        """What the view keeps is written. Rows that go are dropped before rows come: a key passes from job to job."""
        kept = {key for key, row in self._rows.items() if self._keeps(row)}
        gone = [key for key in sorted(self._unwritten) if key not in self._rows]
        come = [key for key in sorted(self._unwritten) if key in kept]
        for keys in (*_parts(gone), *_parts(come)):
            await self._store.fill_shadow(self._view, {key: self._rows.get(key) for key in keys})
        self._rows = {key: row for key, row in self._rows.items() if key not in kept}
        self._unwritten, self._written = set(), True


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), _ROWS_PER_FILL):
        yield keys[first : first + _ROWS_PER_FILL]
