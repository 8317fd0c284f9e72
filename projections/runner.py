"""
The runner: feeds the log to projections, from the beginning into memory or from a checkpoint into the store.

Rows and checkpoint go down in one transaction, so a crash in between repeats nothing and skips nothing. A projection
that raises stays where it is, and says so; nothing is ever skipped. This is the one file here that does IO.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, json

from jobsvc.domain.errors import Conflict
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from projections.projection import row_key, row_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Store
    from projections.projection import Projection

Rows = dict[str, Any]
"""A projection's rows by key."""

if TYPE_CHECKING:
    Recent = Callable[[int, int], Sequence[Event] | None]
    """The next events above a position, up to a limit, if they are at hand; None if the store has to be asked."""

_NEVER: Final = -1
"""A version that no projection has: writing it makes the store forget the rows of every other."""

_IDLE_S: Final = 1.0
"""The longest that a projection waits for word of a commit before it looks by itself."""

_PACE_S: Final = 0.5
"""
How long a projection near the head lets events gather.

Its every write is a transaction on the connection by which everything else is written, so it takes few, and large ones.
"""

_RETRY_S: Final = 5.0
"""How long a projection that raised is left alone."""


class Replayed(Struct, frozen=True):
    """A projection's rows as of a position."""

    projection: str
    position: int
    rows: Rows


def take(projection: Projection, rows: Rows, events: Iterable[Event]) -> set[str]:
    """*rows* after *events*; the keys that they touched."""
    touched: set[str] = set()
    for event in events:
        key = row_key(projection, event)
        row = projection.apply(rows.get(key), event)
        touched.add(key)
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row
    return touched


async def replay(
    store: Store,
    projection: Projection,
    *,
    until: int | None = None,
    until_at: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Replayed:
    """
    The rows of *projection* over the log from its beginning.

    Args:
        store: Only read from.
        projection: Any.
        until: Up to this position; None for the head as it is met.
        until_at: Not past this moment; None for any.
        progress: Told the position after each page.

    Cost: about 5 µs an event, and the rows in memory.
    """
    rows: Rows = {}
    position = 0
    while until is None or position < until:
        events = await store.read_events(after=position, limit=ROWS_PER_PAGE_MAX, until=until)
        wanted = events if until_at is None else [event for event in events if event.at <= until_at]
        take(projection, rows, wanted)
        if wanted:
            position = wanted[-1].position
        if progress is not None:
            progress(position)
        if not events or len(wanted) < len(events):
            break
    return Replayed(projection.name, position, rows)


async def catch_up(store: Store, projection: Projection, *, checkpoint: int, recent: Recent | None = None) -> int:
    """
    The checkpoint of *projection* after one page of the log above *checkpoint*; the same if there was nothing.

    Args:
        store: Where rows and checkpoint stand, and the log.
        projection: Any.
        checkpoint: Where it stands.
        recent: Spares the reading of what was committed a moment ago, 1.5 µs an event; committed events only.

    Raises:
        Conflict: Another runner moved the checkpoint; nothing was written.
    """
    events = None if recent is None else recent(checkpoint, ROWS_PER_PAGE_MAX)
    if events is None:
        events = await store.read_events(after=checkpoint, limit=ROWS_PER_PAGE_MAX)
    if not events:
        return checkpoint
    keys = list({row_key(projection, event) for event in events})
    # At the beginning, what is stored under this name is another version's, and goes with this write.
    stored = await store.read_rows(projection.name, keys) if checkpoint else {}
    shape = row_type(projection)
    rows: Rows = {key: json.decode(body, type=shape) for key, body in stored.items()}
    touched = take(projection, rows, events)
    await store.write_rows(
        projection.name,
        {key: json.encode(rows[key]) if key in rows else None for key in touched},
        version=projection.version,
        checkpoint=events[-1].position,
        resumed_from=checkpoint,
    )
    return events[-1].position


async def forget(store: Store, projection: Projection) -> None:
    """*projection* has neither rows nor a checkpoint in the store."""
    checkpoints = await store.read_checkpoints()
    if projection.name in checkpoints:
        await store.write_rows(projection.name, {}, version=_NEVER, checkpoint=0, resumed_from=0)


class Standing(Struct):
    """How a catch-up projection stands: its checkpoint, and what it stumbled over, if it did."""

    name: str
    version: int
    position: int = 0
    failure: str | None = None


class Runner:
    """
    Keeps catch-up projections at the head of the log, each at its own pace.

    Attributes:
        standings: By name, how each stands. Its lag is head minus position, derived from the truth, never a flag.
    """

    def __init__(
        self,
        store: Store,
        projections: Sequence[Projection],
        *,
        tell: Callable[[str, Exception], None],
        recent: Recent | None = None,
    ) -> None:
        self._store = store
        self._recent = recent
        self._by_name = {one.name: one for one in projections}
        self._tell = tell
        self._woken: dict[str, asyncio.Event] = {}
        self._loops: list[asyncio.Task[None]] = []
        self.standings = {one.name: Standing(one.name, one.version) for one in projections}

    async def start(self) -> None:
        """Every projection runs on from its checkpoint; one whose version was raised begins anew."""
        for projection in self._by_name.values():
            self.standings[projection.name].position = await self._checkpoint(projection)
            self._woken[projection.name] = asyncio.Event()
            loop = asyncio.create_task(self._run(projection), name=f"projection.{projection.name}")
            self._loops.append(loop)

    async def stop(self) -> None:
        """Nothing runs any more; what was written stays."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def begin_anew(self, name: str) -> None:
        """The projection *name* has no rows and catches up from the beginning of the log."""
        standing = self.standings[name]
        await forget(self._store, self._by_name[name])
        standing.position = 0
        self._woken[name].set()

    def notice(self, _: object = None) -> None:
        """The log has grown."""
        for woken in self._woken.values():
            woken.set()

    async def _checkpoint(self, projection: Projection) -> int:
        """Where the store says that *projection* is; 0 if it has no rows of this version."""
        stored = (await self._store.read_checkpoints()).get(projection.name)
        return stored.position if stored is not None and stored.version == projection.version else 0

    async def _go_to_checkpoint(self, projection: Projection) -> None:
        """The standing is where the store says, or says why that could not be asked; never raises."""
        standing = self.standings[projection.name]
        try:
            standing.position = await self._checkpoint(projection)
        except Exception as failure:  # noqa: BLE001  # the loop goes on, and the failure is shown
            standing.failure = repr(failure)

    async def _run(self, projection: Projection) -> None:
        standing, woken = self.standings[projection.name], self._woken[projection.name]
        while True:
            woken.clear()
            resumed_from = standing.position
            try:
                reached = await catch_up(self._store, projection, checkpoint=resumed_from, recent=self._recent)
                standing.failure = None
            except Exception as failure:  # noqa: BLE001  # the loop must outlive a projection that anyone may write
                if not isinstance(failure, Conflict) or standing.failure is not None:
                    standing.failure = repr(failure)
                    self._tell(projection.name, failure)
                    await asyncio.sleep(_RETRY_S)
                # Where the store says that it is: another runner, or a rebuild, may have moved it.
                await self._go_to_checkpoint(projection)
                continue
            # Not above the position as it stands now: it is 0 if this was begun anew while we looked.
            if reached > resumed_from:
                standing.position = reached
                if reached - resumed_from < ROWS_PER_PAGE_MAX // 2:
                    await asyncio.sleep(_PACE_S)
                continue
            try:
                async with asyncio.timeout(_IDLE_S):
                    await woken.wait()
            except TimeoutError:
                continue
