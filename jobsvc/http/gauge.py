"""
The gauge: looks every now and then at how many streams are open and how far behind who reads along is, for the tally.

Between two looks something may have been higher. Whoever asks for the statistics has a look taken first, so that the
step that is not over is as of now. What must never live here: what is made of the looks, which is the tally's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobsvc.tally import Levels
from jobsvc.telemetry import log_failure

if TYPE_CHECKING:
    from jobsvc.http.streams import Streams
    from jobsvc.ledger import Ledger
    from jobsvc.tally import Tally
    from projections.runner import Runner


class Gauge:
    """What looks. One per service."""

    def __init__(self, tally: Tally, ledger: Ledger, streams: Streams, runner: Runner, *, every_s: float) -> None:
        """
        Nothing is looked at before ``start``.

        Args:
            tally: Told what was met.
            ledger: Whose clock and head count.
            streams: Those that are open.
            runner: Of the projections that catch up.
            every_s: How long after one look the next is taken.
        """
        self._tally = tally
        self._ledger = ledger
        self._streams = streams
        self._runner = runner
        self._every_s = every_s
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The first look was taken, and others follow."""
        self.look()
        self._looking = asyncio.create_task(self._keep_looking(), name="gauge")

    async def stop(self) -> None:
        """No look is taken any more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def look(self) -> None:
        """The tally knows how things stand in this turn. Cost: as ``Streams.lag_max``."""
        levels = Levels(len(self._streams), self._streams.lag_max, self._projection_lag())
        self._tally.see(self._ledger.now(), levels)

    def _projection_lag(self) -> int:
        head = self._ledger.memory.position
        return max((head - one.position for one in self._runner.standings.values()), default=0)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                self.look()
            except Exception as fault:  # noqa: BLE001  # the loop must outlive a fault in one look, and say so
                log_failure("gauge.failed", fault)
