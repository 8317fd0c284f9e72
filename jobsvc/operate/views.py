"""
The inline views as projections: which there are, and how one is rebuilt beside the live one.

Plan first, act through the store. A rebuild never sets the live view aside: it folds the log into a shadow while writes
go on, takes in the last few events under the writer's lock, and swaps. What is swapped in is what a replay makes, so a
row that no replay can make is gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from msgspec import Struct

from jobsvc.memory import INLINE
from jobsvc.operate.shadows import Shadow
from projections.counts import Counts
from projections.runner import catch_up, forget, read_parked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Store, ViewName
    from projections.projection import Projection

CATCH_UP: Final[tuple[Projection, ...]] = (Counts(),)
"""The projections that ship with the service and catch up from a checkpoint."""

BUILT_IN: Final[Mapping[str, Projection]] = {one.name: one for one in (*INLINE, *CATCH_UP)}
"""Every projection that ships with the service, by name."""

INLINE_NAMES: Final[frozenset[str]] = frozenset(one.name for one in INLINE)

_TURNS: Final[WeakKeyDictionary[Store, asyncio.Lock]] = WeakKeyDictionary()
"""
By store, whose turn it is: two rebuilds at once share a shadow, and one would swap in what the other emptied. What is
archived meanwhile would be in the shadow that was filled before.
"""


def turn(store: Store) -> asyncio.Lock:
    """Held by whoever changes what the inline views of *store* are to hold."""
    return _TURNS.setdefault(store, asyncio.Lock())


class Rebuilt(Struct, frozen=True):
    """
    What a rebuild did: which view, how many rows it has, and as of which position it was swapped in.

    ``parked`` are the jobs that it could not take in whole.
    """

    projection: str
    rows: int
    position: int
    parked: int = 0


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
        alone: Runs an action while nobody else writes the view: between two batches of the writer, or of its runner.
            None where nobody else writes at all.
        progress: Told the position after each page.

    Raises:
        KeyError: There is no such projection.
    """
    projection = BUILT_IN[name]
    async with turn(store):
        if name in INLINE_NAMES:
            return await _rebuild_inline(store, projection, alone=alone, progress=progress)
        return await _rebuild_catch_up(store, projection, alone=alone, progress=progress)


async def _rebuild_inline(
    store: Store,
    projection: Projection,
    *,
    alone: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] | None,
    progress: Callable[[int], None] | None,
) -> Rebuilt:
    """A view that is written with the events: folded into a shadow, which takes in the last few and is swapped in."""
    shadow = Shadow(store, projection)
    await shadow.begin()
    await shadow.catch_up(progress)
    await (shadow.swap() if alone is None else alone(shadow.swap))
    view: ViewName = projection.name  # type: ignore[assignment]  # the inline views are named as the seam names them
    await store.clear_shadow(view)
    return Rebuilt(projection.name, await store.count_rows(view), shadow.position)


class _Beside:
    """A projection under a name of its own, beside the one whose rows it makes anew."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self.name = f"{projection.name} anew"
        self.version = projection.version

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever else the projection has
        return getattr(self._projection, name)

    def apply(self, row: Any, event: Event) -> Any:  # noqa: ANN401  # rows are whatever the projection says they are
        """As the projection has it."""
        return self._projection.apply(row, event)


async def _rebuild_catch_up(
    store: Store,
    projection: Projection,
    *,
    alone: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] | None,
    progress: Callable[[int], None] | None,
) -> Rebuilt:
    """A catch-up projection: another beside it catches up from the beginning, and takes its name at the head."""
    beside = _Beside(projection)
    # Whatever a rebuild that was broken off has left.
    await forget(store, beside)
    position = await _to_head(store, beside, 0, progress=progress)

    async def swap() -> None:
        await _to_head(store, beside, position, progress=progress)
        await store.swap_rows(beside.name, projection.name)

    await (swap() if alone is None else alone(swap))
    standing = (await store.read_checkpoints()).get(projection.name)
    if standing is None:
        return Rebuilt(projection.name, 0, 0)
    parked = len(await read_parked(store, projection))
    return Rebuilt(projection.name, standing.rows, standing.position, parked)


async def catch_up_with(store: Store, projection: Projection) -> None:
    """*projection* stands at the head of the log. For a file that no service holds."""
    standing = (await store.read_checkpoints()).get(projection.name)
    position = standing.position if standing is not None and standing.version == projection.version else 0
    await _to_head(store, projection, position, progress=None)


async def _to_head(
    store: Store, projection: Projection, position: int, *, progress: Callable[[int], None] | None
) -> int:
    """Where *projection*, which stands at *position*, stands once there is nothing more."""
    while (reached := (await catch_up(store, projection, checkpoint=position)).position) > position:
        position = reached
        if progress is not None:
            progress(position)
    return position
