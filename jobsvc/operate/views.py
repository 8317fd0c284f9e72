"""
The inline views as projections: which there are, and how one is rebuilt beside the live one.

Plan first, act through the store. A rebuild never sets the live view aside: it folds the log into a shadow while writes
go on, takes in the last few events under the writer's lock, and swaps. What is swapped in is what a replay makes, so a
row that no replay can make is gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from msgspec import Struct

from jobsvc.domain.errors import Corrupt
from jobsvc.memory import INLINE
from jobsvc.store.seam import Behind
from projections.counts import Counts
from projections.runner import Rows, catch_up, forget, replay, take

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from jobsvc.store.seam import Store, ViewName
    from projections.projection import Projection

CATCH_UP: Final[tuple[Projection, ...]] = (Counts(),)
"""The projections that ship with the service and catch up from a checkpoint."""

BUILT_IN: Final[Mapping[str, Projection]] = {one.name: one for one in (*INLINE, *CATCH_UP)}
"""Every projection that ships with the service, by name."""

INLINE_NAMES: Final[frozenset[str]] = frozenset(one.name for one in INLINE)

_ROWS_PER_FILL: Final = 1_000

_TURNS: Final[WeakKeyDictionary[Store, asyncio.Lock]] = WeakKeyDictionary()
"""By store, whose turn it is to rebuild: two at once share a shadow, and one would swap in what the other emptied."""


class Rebuilt(Struct, frozen=True):
    """What a rebuild did: which view, how many rows it has, and as of which position it was swapped in."""

    projection: str
    rows: int
    position: int


async def rebuild(
    store: Store,
    name: str,
    *,
    alone: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rebuilt:
    """
    The view *name* is what a replay of the log makes, while reads and writes go on.

    Args:
        store: Opened for writing.
        name: Of a projection that ships with the service.
        alone: Runs an action between two batches of the writer; None where nobody else writes.
        progress: Told the position after each page.

    Raises:
        KeyError: There is no such projection.
    """
    projection = BUILT_IN[name]
    async with _TURNS.setdefault(store, asyncio.Lock()):
        if name in INLINE_NAMES:
            return await _rebuild_inline(store, projection, alone=alone, progress=progress)
        return await _rebuild_catch_up(store, projection, progress=progress)


async def _rebuild_inline(
    store: Store,
    projection: Projection,
    *,
    alone: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] | None,
    progress: Callable[[int], None] | None,
) -> Rebuilt:
    """A view that is written with the events: folded into a shadow, which takes in the last few and is swapped in."""
    name = projection.name
    view: ViewName = name  # type: ignore[assignment]  # the inline views are named as the seam names them
    built = await replay(store, projection, progress=progress)
    await store.begin_shadow(view)
    for page in _pages(built.rows):
        await store.fill_shadow(view, page)
    swap = _Swap(store, view, projection, rows=built.rows, position=built.position)
    await (swap.run() if alone is None else alone(swap.run))
    return Rebuilt(name, len(built.rows), swap.position)


class _Swap:
    """The end of a rebuild: the last few events, and the swap."""

    def __init__(self, store: Store, view: ViewName, projection: Projection, *, rows: Rows, position: int) -> None:
        self._store = store
        self._view = view
        self._projection = projection
        self._rows = rows
        self.position = position

    async def run(self) -> None:
        """The shadow is the view. Ends, because under the writer's lock the log does not grow."""
        while True:
            try:
                await self._store.swap_shadow(self._view, built_to=self.position)
            except Behind as behind:
                if not behind.events:
                    message = "the head of the log is not where its last event is; verify the log first"
                    raise Corrupt(message) from behind
                touched = take(self._projection, self._rows, behind.events)
                await self._store.fill_shadow(self._view, {key: self._rows.get(key) for key in touched})
                self.position = behind.events[-1].position
            else:
                return


async def _rebuild_catch_up(store: Store, projection: Projection, *, progress: Callable[[int], None] | None) -> Rebuilt:
    """A catch-up projection begun anew: its rows are dropped with its checkpoint, then it catches up."""
    await forget(store, projection)
    position = 0
    while (reached := await catch_up(store, projection, checkpoint=position)) > position:
        position = reached
        if progress is not None:
            progress(position)
    standing = (await store.read_checkpoints()).get(projection.name)
    return Rebuilt(projection.name, 0 if standing is None else standing.rows, position)


def _pages(rows: Rows) -> Iterator[Rows]:
    keys = list(rows)
    for first in range(0, len(keys), _ROWS_PER_FILL):
        yield {key: rows[key] for key in keys[first : first + _ROWS_PER_FILL]}
