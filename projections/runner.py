"""
The runner: feeds the log to projections, from the beginning into memory or from a checkpoint into the store.

Rows, checkpoint and what is parked go down in one transaction, so a crash in between repeats nothing and skips nothing.
An event that a projection cannot bear parks its job's sequence until an operator has it tried again or passed over;
whatever else goes wrong, the projection stays where it is and says so. This is the one file here that does IO.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from msgspec.structs import replace

from jobsvc.domain.errors import Conflict
from jobsvc.domain.words import JobId
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Parked
from projections.folding import Folding, Rows, take
from projections.projection import is_kept

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Store
    from projections.projection import Projection

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


PARKED_MAX: Final = 1_000
"""How many jobs a projection may have parked where nobody says otherwise."""


class Replayed(Struct, frozen=True):
    """A projection's rows as of a position."""

    projection: str
    position: int
    rows: Rows


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
    keeps = is_kept(projection)
    return Replayed(projection.name, position, {key: row for key, row in rows.items() if keeps(row)})


class TooManyParked(Exception):
    """So many jobs are parked that the projection itself must be at fault; it stays where it is."""


class CaughtUp(Struct, frozen=True):
    """Where a projection stands after a page of the log, and what it could not take in of that page."""

    position: int
    failures: Sequence[tuple[Parked, Exception]] = ()


async def catch_up(
    store: Store,
    projection: Projection,
    *,
    checkpoint: int,
    recent: Recent | None = None,
    parked_max: int = PARKED_MAX,
) -> CaughtUp:
    """
    *projection* has taken in one page of the log above *checkpoint*; it stands there still if there was nothing.

    Args:
        store: Where rows and checkpoint stand, and the log.
        projection: Any.
        checkpoint: Where it stands.
        recent: Spares the reading of what was committed a moment ago, 1.5 µs an event; committed events only.
        parked_max: How many jobs may be parked.

    Raises:
        Conflict: Another runner moved the checkpoint; nothing was written.
        TooManyParked: Nothing was written.
    """
    events = None if recent is None else recent(checkpoint, ROWS_PER_PAGE_MAX)
    if events is None:
        events = await store.read_events(after=checkpoint, limit=ROWS_PER_PAGE_MAX)
    if not events:
        return CaughtUp(checkpoint)
    # At the beginning, what is stored under this name is another version's, and goes with this write.
    folding = Folding(projection, await read_parked(store, projection) if checkpoint else ())
    keyed = folding.keyed(events)
    stored = await store.read_rows(projection.name, list(keyed)) if checkpoint else {}
    rows = folding.rows(keyed, stored)
    if folding.failures and len(folding.parked) > parked_max:
        message = f"{len(folding.parked)} jobs could not be taken in, and {parked_max} may be parked"
        raise TooManyParked(message) from folding.failures[-1][1]
    await store.write_rows(
        projection.name,
        rows,
        version=projection.version,
        checkpoint=events[-1].position,
        resumed_from=checkpoint,
        parked=[one for one, _ in folding.failures],
    )
    return CaughtUp(events[-1].position, folding.failures)


async def read_parked(store: Store, projection: Projection) -> list[Parked]:
    """Where sequences of *projection* wait, by position."""
    return [one for one in await store.read_parked(projection.name) if not one.passed_over]


async def release(store: Store, projection: Projection, parked: Parked, *, pass_over: bool) -> CaughtUp:
    """
    What waited of the job of *parked* is taken in, in order, up to the checkpoint, or up to where it fails again.

    A row that jobs share takes these events later than a replay would; where their order matters, rebuild it.

    Args:
        store: Where rows and checkpoint stand, and the log.
        projection: Whose.
        parked: Where the sequence waits.
        pass_over: Leave out the event that it waits at, for good.

    Raises:
        Conflict: The projection moved on or began anew meanwhile; nothing was written.
    """
    standing = (await store.read_checkpoints()).get(projection.name)
    if standing is None or standing.version != projection.version:
        raise Conflict(f"{projection.name} began anew")
    checkpoint = standing.position
    after = parked.position if pass_over else parked.position - 1
    folding, rows = Folding(projection), dict[str, bytes | None]()
    while not folding.failures:
        events = await store.read_events(after=after, limit=ROWS_PER_PAGE_MAX, job_id=parked.job_id, until=checkpoint)
        if not events:
            break
        keyed = folding.keyed(events)
        stored = await store.read_rows(projection.name, [key for key in keyed if key not in rows])
        known = dict(stored) | {key: body for key, body in rows.items() if body is not None}
        rows |= folding.rows(keyed, known)
        after = events[-1].position
    await store.write_rows(
        projection.name,
        rows,
        version=projection.version,
        checkpoint=checkpoint,
        resumed_from=checkpoint,
        freed=[parked.position],
        parked=[*([replace(parked, passed_over=True)] if pass_over else []), *(one for one, _ in folding.failures)],
    )
    return CaughtUp(checkpoint, folding.failures)


async def forget(store: Store, projection: Projection) -> None:
    """*projection* has neither rows nor a checkpoint in the store."""
    checkpoints = await store.read_checkpoints()
    if projection.name in checkpoints:
        await store.write_rows(projection.name, {}, version=_NEVER, checkpoint=0, resumed_from=0)


class Standing(Struct):
    """
    How a catch-up projection stands: its checkpoint, what it holds at, if it does, and where sequences wait, by job.
    """

    name: str
    version: int
    position: int = 0
    failure: str | None = None
    parked: dict[JobId, Parked] = field(default_factory=dict)


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
        tell: Callable[[str, Exception, Parked | None], None],
        recent: Recent | None = None,
        parked_max: int = PARKED_MAX,
    ) -> None:
        """
        Nothing runs before ``start``.

        Args:
            store: Where rows and checkpoints stand, and the log.
            projections: Each with a name of its own.
            tell: Told what a projection could not take in, or, without a parked event, why it stays where it is.
            recent: As for ``catch_up``.
            parked_max: How many jobs each may have parked.
        """
        self._store = store
        self._recent = recent
        self._parked_max = parked_max
        self._by_name = {one.name: one for one in projections}
        self._tell = tell
        self._woken = {one.name: asyncio.Event() for one in projections}
        self._turns = {one.name: asyncio.Lock() for one in projections}
        self._loops: list[asyncio.Task[None]] = []
        self.standings = {one.name: Standing(one.name, one.version) for one in projections}

    async def start(self) -> None:
        """Every projection runs on from its checkpoint; one whose version was raised begins anew."""
        await self.look()
        for projection in self._by_name.values():
            loop = asyncio.create_task(self._run(projection), name=f"projection.{projection.name}")
            self._loops.append(loop)

    async def look(self) -> None:
        """The standings are what the store says."""
        for projection in self._by_name.values():
            await self._read_standing(projection)

    async def stop(self) -> None:
        """Nothing runs any more; what was written stays."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def release(self, name: str, job_id: JobId, *, pass_over: bool) -> bool:
        """
        True if the sequence of *job_id* waits no more in *name*; False if it failed again, there or at a later event.

        Raises:
            KeyError: It is not parked there.
            Conflict: The projection began anew meanwhile.
        """
        standing, projection = self.standings[name], self._by_name[name]

        async def act() -> None:
            released = await release(self._store, projection, standing.parked[job_id], pass_over=pass_over)
            for parked, failure in released.failures:
                self._tell(name, failure, parked)

        await self.alone(name, act)
        return job_id not in standing.parked

    async def alone(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        """*action* is done while *name* takes nothing in; then it goes on from where the store says that it is."""
        async with self._turns[name]:
            try:
                await action()
            finally:
                await self._go_to_checkpoint(self._by_name[name])
        self._woken[name].set()

    def notice(self, _: object = None) -> None:
        """The log has grown."""
        for woken in self._woken.values():
            woken.set()

    async def _read_standing(self, projection: Projection) -> None:
        """The standing is what the store says: nothing yet, if it has no rows of this version."""
        standing = self.standings[projection.name]
        stored = (await self._store.read_checkpoints()).get(projection.name)
        if stored is None or stored.version != projection.version:
            standing.position, standing.parked = 0, {}
        else:
            parked = await read_parked(self._store, projection)
            standing.position, standing.parked = stored.position, {one.job_id: one for one in parked}

    async def _go_to_checkpoint(self, projection: Projection) -> None:
        """The standing is what the store says, or says why that could not be asked; never raises."""
        try:
            await self._read_standing(projection)
        except Exception as failure:  # noqa: BLE001  # the loop goes on, and the failure is shown
            self.standings[projection.name].failure = repr(failure)

    async def _run(self, projection: Projection) -> None:
        standing, woken = self.standings[projection.name], self._woken[projection.name]
        while True:
            woken.clear()
            resumed_from = standing.position
            try:
                async with self._turns[projection.name]:
                    reached = await self._step(projection, resumed_from)
                standing.failure = None
            except Exception as failure:  # noqa: BLE001  # the loop must outlive a projection that anyone may write
                if not isinstance(failure, Conflict) or standing.failure is not None:
                    standing.failure = repr(failure)
                    self._tell(projection.name, failure, None)
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

    async def _step(self, projection: Projection, checkpoint: int) -> int:
        """The checkpoint of *projection* after one page above *checkpoint*."""
        caught_up = await catch_up(
            self._store, projection, checkpoint=checkpoint, recent=self._recent, parked_max=self._parked_max
        )
        for parked, failure in caught_up.failures:
            self.standings[projection.name].parked[parked.job_id] = parked
            self._tell(projection.name, failure, parked)
        return caught_up.position
