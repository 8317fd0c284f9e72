"""
The scheduler itself: a seed says everything, and another seed says something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ledger.rig import complete, whole_log
from tests.races.schedule import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.races.schedule import Play

SEEDS = range(20)


async def _race(play: Play) -> None:
    """
    A bit of everything: failures, deaths, connections that close, and time.
    """
    held = await play.held()
    ends = play.dies() if play.chance.random() < 0.3 else play.breaks()
    await play.run(
        ends,
        play.sweeps(2),
        play.asks(complete(held)),
        play.claims_and_hangs_up(),
        *(play.late(play.asks(play.create())) for _ in range(3)),
    )


async def _played(path: Path, seed: int) -> tuple[list[str], list[tuple[str, int]]]:
    """
    Who went when, and what is in the log.
    """
    world = await World(path).open()
    told: list[list[str]] = []

    async def race(play: Play) -> None:
        told.append(play.told_apart)
        await _race(play)

    try:
        await world.play(race, seed=seed)
        events = await whole_log(world.store)
    finally:
        await world.close()
    return told[0], [(event.type, event.at) for event in events]


async def test_a_seed_plays_the_same_schedule_again(fast_folder: Path) -> None:
    """
    The same turns in the same order and the same log, so that a failure can be looked at as often as it takes.
    """
    first = [await _played(fast_folder / f"{seed}-a.db", seed) for seed in SEEDS]

    second = [await _played(fast_folder / f"{seed}-b.db", seed) for seed in SEEDS]

    assert first == second
    assert len(SEEDS) == len({tuple(turns) for turns, _ in first})
