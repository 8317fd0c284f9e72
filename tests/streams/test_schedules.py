"""
Schedules of everything that can happen between a service and those who follow it, from seeds: a few in each run of the
tests, a thousand in a soak.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.streams.places import InLoop, Process
from tests.streams.schedule import Schedule

if TYPE_CHECKING:
    from pathlib import Path

FEW: Final = (25, 2)
"""
How many in the test's own loop, and how many with a process.
"""

MANY: Final = (950, 50)
SOAK_TIMEOUT_S: Final = 3_600
_AGAIN: Final = os.environ.get("STREAM_SEED")


async def test_whatever_happens_a_follower_misses_and_repeats_nothing(fast_folder: Path) -> None:
    """
    Cuts, stalls, kills, restarts, other logs and bad cursors, with a ring that is left behind by half of all resumes.
    """
    resumes = await _played(fast_folder, FEW[0])

    assert resumes["below"] * 2 >= resumes["all"] > 0


@pytest.mark.process
async def test_whatever_happens_to_the_process_a_follower_misses_and_repeats_nothing(tmp_path: Path) -> None:
    """
    The same with a real kill -9 and SIGTERM.
    """
    await _played(tmp_path, FEW[1], process=True)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_TIMEOUT_S)
async def test_a_thousand_schedules(fast_folder: Path) -> None:
    """
    The law over a thousand seeds that nobody has seen before.
    """
    run = os.urandom(4).hex()
    resumes = await _played(fast_folder, MANY[0], run=run)
    await _played(fast_folder, MANY[1], run=run, process=True)

    assert resumes["below"] * 2 >= resumes["all"] > 0


async def _played(folder: Path, count: int, *, run: str = "", process: bool = False) -> dict[str, int]:
    resumes = {"all": 0, "below": 0}
    seeds = [f"{'process' if process else 'loop'}{run}-{number}" for number in range(count)]
    if _AGAIN is not None:
        seeds = [_AGAIN] if _AGAIN.startswith("process") == process else []
    for seed in seeds:
        own = folder / seed
        own.mkdir()
        schedule = Schedule(seed, own, Process() if process else InLoop())
        await schedule.play()
        for name, number in schedule.resumes.items():
            resumes[name] += number
    return resumes
