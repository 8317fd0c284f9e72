"""
The archiver: what ended long enough ago is archived, every now and then, without anybody waiting for it.

It has no say in anything: the settings name the age, and operate/archive.py does the rest, in steps between two batches
of the writer and with a pause after each. A service that was away begins with the first look after its start.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import Unavailable
from jobsvc.domain.moments import SECOND_US
from jobsvc.operate.archive import archive
from jobsvc.telemetry import log, log_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.clock import Clock
    from jobsvc.ledger import Ledger
    from jobsvc.operate.archive import ArchiveReport
    from jobsvc.store.seam import Store

PAUSE_S: Final = 0.05
"""How long others have the store to themselves after each step: about 3,000 events a second are archived."""

_PATIENCE_S: Final = 1.0
"""The longest sleep: a wall clock that is stepped forward is noticed this soon."""


class Archiver:
    """Archives what is older than a given age. One per ledger."""

    def __init__(self, ledger: Ledger, store: Store, clock: Clock, *, older_than_s: float, every_s: float) -> None:
        """
        Nothing moves before ``start``, and nothing at all by itself if *older_than_s* is 0.

        Args:
            ledger: Between whose batches the steps come.
            store: Whose streams move.
            clock: Says when it is time again, and what is old.
            older_than_s: How long ago the last event of a job has to have been.
            every_s: How often it looks.
        """
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._older_than_s = older_than_s
        self._every_us = int(every_s * SECOND_US)
        self._look_at = 0
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """What is old enough is archived from now on."""
        if self._older_than_s:
            self._loop = asyncio.create_task(self._run(), name="archiver")

    async def stop(self) -> None:
        """No step is under way, and none begins."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def look(
        self, older_than_s: float | None = None, *, progress: Callable[[int, int], None] | None = None
    ) -> ArchiveReport:
        """
        Everything that is old enough now has moved.

        Args:
            older_than_s: How old that is; None for what the archiver was made with.
            progress: Told up to which position of how many it has looked.

        Raises:
            Draining: The service stops.
        """
        now, memory = self._clock.now(), self._ledger.memory
        age_s = self._older_than_s if older_than_s is None else older_than_s

        def note(through: int) -> None:
            memory.archived_through = through

        return await archive(
            self._store,
            ended_before=now - int(age_s * SECOND_US),
            now=now,
            between=self._ledger.between,
            note=note,
            pause_s=PAUSE_S,
            progress=progress,
        )

    async def _run(self) -> None:
        while True:
            if self._clock.now() >= self._look_at:
                self._look_at = self._clock.now() + self._every_us
                await self._try()
            await asyncio.sleep(_PATIENCE_S)

    async def _try(self) -> None:
        """A look, or another when it is time again."""
        try:
            report = await self.look()
        except Unavailable:
            return
        except Exception as fault:  # noqa: BLE001  # the loop must outlive a fault in one look, and say so
            log_failure("archiver.failed", fault)
            return
        if report.events:
            log("log.archived", position=report.archived_through, count=report.events)
