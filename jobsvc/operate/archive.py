"""
The archive: streams of jobs that ended long ago move from the live log to segments, in steps that nobody waits for.

Plan first, act through the store: the plan is a position, and below it the store moves what has ended, a segment a
step, each in a transaction of its own. Whoever is stopped anywhere goes on by beginning again. It never goes past the
checkpoint of a projection, so that none has to catch up through segments.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import Struct

from jobsvc.operate.places import Place, position_of
from jobsvc.operate.views import turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.domain.words import Micros
    from jobsvc.store.seam import Between, Store


class ArchiveReport(Struct, frozen=True):
    """
    What was archived.

    Attributes:
        jobs: How many streams moved; one that is too long for a segment counts for each part.
        events: How many events.
        archived_through: The position of the newest archived event: a stream cannot be resumed below it.
        until: Up to which position jobs had to have ended.
        held_back_by: The projection whose checkpoint lies there, if there would have been more.
    """

    jobs: int
    events: int
    archived_through: int
    until: int
    held_back_by: str | None = None


async def archive(
    store: Store,
    *,
    ended_before: Micros,
    now: Micros,
    between: Between | None = None,
    note: Callable[[int], None] | None = None,
    pause_s: float = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ArchiveReport:
    """
    Every job of which nothing has happened since *ended_before*, and that has ended, lies in a segment.

    Args:
        store: Opened for writing.
        ended_before: What is older moves.
        now: The moment that the manifest is to name.
        between: Runs each move between two batches of the writer; None where nobody else writes.
        note: Told of each step the position of the newest archived event.
        pause_s: How long others have the store to themselves after each step.
        progress: Told up to which position of how many the log was looked at.

    Cost: a step is about 20 ms for 256 events; the writer waits for half of it.
    """
    until, held_back_by = await _until(store, ended_before)
    jobs = events = reached = through = 0
    while True:
        async with turn(store):
            step = await store.archive(after=reached, until=until, at=now, between=between)
        jobs, events, reached, through = jobs + step.jobs, events + step.events, step.reached, step.through
        if note is not None:
            note(through)
        if progress is not None:
            progress(reached, until)
        if reached >= until:
            return ArchiveReport(jobs, events, through, until, held_back_by)
        await asyncio.sleep(pause_s)


async def _until(store: Store, moment: Micros) -> tuple[int, str | None]:
    """The last position not after *moment* that every projection has taken in, and which one has not taken in more."""
    until, held_back_by = await position_of(store, Place(at=moment)), None
    for one in (await store.read_checkpoints()).values():
        if one.position < until:
            until, held_back_by = one.position, one.name
    return until, held_back_by
