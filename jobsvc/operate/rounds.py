"""
The rounds: the doctor's checks as the service makes them by itself, all the time and a little at a time.

A round walks along the log, then along the archive's manifest, then along the streams, a few events or one segment at
a step with a pause after each, so that it takes a small part of the loop's time however long the log is; the quick
checks come every few seconds. What is wrong stays known until a later look finds it right.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import StoreDown, UnreadableEvent
from jobsvc.operate.catch_ups import CatchUp
from jobsvc.operate.checks import Checked, quick_checks
from jobsvc.operate.doctor import walked
from jobsvc.operate.findings import Finding
from jobsvc.operate.log_walk import LogWalk
from jobsvc.operate.manifest import ManifestWalk
from jobsvc.operate.stream_walk import StreamWalk
from jobsvc.operate.views import CATCH_UP
from jobsvc.telemetry import log, log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from jobsvc.clock import Clock
    from jobsvc.domain.events import Event
    from jobsvc.operate.checks import Bounds
    from jobsvc.store.seam import Store

_PENDING_LOOKS: Final = 6
"""How many looks in a row must find hand-overs or a lag before that is no passing matter: as many as a minute has."""

_QUICK_EVERY_S: Final = 10.0
_PASSING: Final = frozenset({"handovers", "lag"})


class Rounds:
    """
    What is known to be wrong by now.

    Attributes:
        completed: How many rounds over all of the log there were.
        position: How far the present one is.
    """

    def __init__(
        self,
        store: Store,
        database: Path,
        clock: Clock,
        *,
        bounds: Bounds,
        slice_events: int,
        pause_s: float,
        rest_s: float,
        trusted: Callable[[], bool],
    ) -> None:
        """
        Nothing is looked at before ``start``.

        Args:
            store: Only read from.
            database: Its file.
            clock: The machine's.
            bounds: What still counts as sound.
            slice_events: How many events are looked at in one step.
            pause_s: How long others have the loop after each step.
            rest_s: How long after the end of a round the next one begins.
            trusted: Whether the store works: what is found while it does not is no finding.
        """
        self._store = store
        self._database = database
        self._clock = clock
        self._bounds = bounds
        self._slice_events = slice_events
        self._pause_s = pause_s
        self._rest_s = rest_s
        self._trusted = trusted
        self._quick: list[Checked] = []
        self._walked: list[Checked] = []
        self._in_a_row: dict[str, int] = {}
        self._loops: list[asyncio.Task[None]] = []
        self.completed = 0
        self.position = 0

    @property
    def checks(self) -> list[Checked]:
        """What each check found when it last looked."""
        return [*self._walked, *self._quick]

    @property
    def findings(self) -> list[Checked]:
        """What is wrong."""
        return [one for one in self.checks if not one.ok]

    def start(self) -> None:
        """The first round and the first look are under way."""
        self._loops = [
            asyncio.create_task(self._keep(self.look, _QUICK_EVERY_S), name="doctor.looks"),
            asyncio.create_task(self._keep(self.go_round, self._rest_s), name="doctor.rounds"),
        ]

    async def stop(self) -> None:
        """Nothing is looked at any more."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def look(self) -> None:
        """The quick checks are as of now; what may well pass by itself counts once it has not."""
        found = await quick_checks(self._store, self._database, now=self._clock.now(), bounds=self._bounds)
        lasting = []
        for one in found:
            self._in_a_row[one.check] = 0 if one.ok else self._in_a_row.get(one.check, 0) + 1
            passing = one.check in _PASSING and self._in_a_row[one.check] < _PENDING_LOOKS
            lasting.append(Checked(one.check, ok=one.ok or passing, says=one.says))
        self._quick = self._told(self._quick, lasting)

    async def go_round(self) -> None:
        """The log was walked along once, and the manifest, and the streams, and what that says is known."""
        catch_ups = [CatchUp(self._store, one) for one in CATCH_UP]
        for one in catch_ups:
            await one.begin()

        def take(events: Sequence[Event]) -> None:
            for one in catch_ups:
                one.take(events)

        # What is appended meanwhile is for the next round: on a busy log this one would never end.
        until = (await self._store.read_head()).position
        walk = LogWalk(self._store, take=take)
        while await walk.step(limit=self._slice_events) and walk.position < until:
            self.position = walk.position
            await asyncio.sleep(self._pause_s)
        in_archive = await self._along_manifest()
        findings = [one for one in (walk.finding, in_archive) if one is not None]
        compared = False
        if walk.finding is None:
            found, compared = await self._along_streams(until, catch_ups)
            if in_archive is None:
                findings += found
            elif compared:
                # What is wrong with an event may only follow from the archive; the views are of what lies outside it.
                findings += [one for one in found if one.position is None]
        if self._trusted():
            self._walked = self._told(self._walked, walked(findings, walk.position, compared=compared))
            self.completed += 1

    async def _along_manifest(self) -> Finding | None:
        """What is wrong in the archive; what is archived meanwhile is walked along too, which is little."""
        manifest = ManifestWalk(self._store)
        while await manifest.step():  # noqa: ASYNC110  # a pace
            await asyncio.sleep(self._pause_s)
        return manifest.finding

    async def _along_streams(self, events: int, catch_ups: Sequence[CatchUp]) -> tuple[list[Finding], bool]:
        """
        What is wrong in the streams and the views, and whether that is known of all.

        No further than twice as many *events* as there were.
        """
        streams = StreamWalk(self._store)
        try:
            await self._walk(streams, 2 * events)
        except UnreadableEvent as error:
            # Of a segment of the archive, through which no stream can be read; it says which.
            return [Finding(None, error.message)], False
        findings = [*([] if streams.lowest is None else [streams.lowest]), *streams.in_views]
        for one in catch_ups:
            findings += await one.findings()
        return findings, True

    async def _walk(self, streams: StreamWalk, events_max: int) -> None:
        while await streams.step(limit=self._slice_events) and streams.events < events_max:  # noqa: ASYNC110  # a pace
            await asyncio.sleep(self._pause_s)

    async def _keep(self, act: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await act()
            except StoreDown:
                # Said elsewhere; whether it answers again is seen next time.
                pass
            except Exception as fault:  # noqa: BLE001  # the loop must outlive a fault in one look, and say so
                log_failure("doctor.failed", fault)
            await asyncio.sleep(pause_s)

    @staticmethod
    def _told(before: Sequence[Checked], now: list[Checked]) -> list[Checked]:
        """*now*; a line of the log says what was not wrong before."""
        wrong = {one.check for one in before if not one.ok}
        for one in now:
            if not one.ok and one.check not in wrong:
                log("doctor.found", code=one.check, reason=one.says)
        return now
