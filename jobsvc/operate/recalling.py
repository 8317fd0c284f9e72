"""
Recalling: the newest events of the log, told again to the tally of a service that has just started.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from jobsvc.changes import read_changes
from jobsvc.domain.errors import Corrupt, Unavailable
from jobsvc.domain.moments import SECOND_US
from jobsvc.operate.places import Place, position_of
from jobsvc.tally import DAY_S

if TYPE_CHECKING:
    from jobsvc.store.seam import Store
    from jobsvc.tally import Tally

_EVENTS_PER_READ: Final = 200
"""About 2 ms; others get a turn between two."""


async def recall(tally: Tally, store: Store, *, until: int, events_max: int) -> None:
    """
    *tally* knows what happened in the day before it was made, as far as the newest *events_max* up to *until* go.

    What cannot be read is not known; whoever verifies the log is told why.
    """
    day_before = tally.since - DAY_S * SECOND_US
    with suppress(Unavailable, Corrupt):
        first = await position_of(store, Place(at=day_before))
        position = after = max(first, until - events_max)
        since = day_before
        while position < until:
            # Before, and not after: with the last of them it is known at once from when on nothing is missing.
            await asyncio.sleep(0)
            changes = await read_changes(store, after=position, limit=_EVENTS_PER_READ, until=until)
            if not changes:
                break
            if position == after > first:
                since = changes[0].event.at
            tally.add(changes)
            position = changes[-1].event.position
        tally.since = since
