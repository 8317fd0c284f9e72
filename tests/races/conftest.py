"""
How many schedules of a race are played, and from which seeds.

``RACE_SCHEDULES`` says how many a race; the soak plays 100,000 in all. ``RACE_SEED`` plays one again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from jobsvc import writer
from tests.races.schedule import Play, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.ledger.rig import Rig

FEW: Final = 40
SOAK_TOTAL: Final = 100_000
SOAK_TIMEOUT_S: Final = 3_600
LOG_SCHEDULES_MAX: Final = 500
"""
After so many schedules the next begins on a fresh log: the last thing checked of a log is all of it.
"""

_FAST_DISK: Final = Path("/dev/shm")  # noqa: S108  # a folder of its own is made there


class Explore:
    """
    Plays a race many times, each time as another seed says.
    """

    def __init__(self, folder: Path, seeds: range) -> None:
        self._folder = folder
        self._seeds = seeds

    async def __call__(self, race: Callable[[Play], Awaitable[None]]) -> None:
        """
        *race* was played from every seed, and then the whole log, memory and views agreed.
        """
        for first in range(0, len(self._seeds), LOG_SCHEDULES_MAX):
            world = await World(self._folder / f"{first}.db").open()
            try:
                for seed in self._seeds[first : first + LOG_SCHEDULES_MAX]:
                    await world.play(race, seed=seed)
                await _checked(world.rig)
            finally:
                await world.close()


async def _checked(rig: Rig) -> None:
    await rig.settled()
    await rig.check()


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """
    A folder in memory where the system has such a thing: the store still syncs each commit, and waits for no disk.
    """
    if not _FAST_DISK.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="jobsvc-races-", dir=_FAST_DISK))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def explore(fast_folder: Path, seeds: range) -> Explore:
    """
    What plays a race; the seeds come from ``pytest_generate_tests``.
    """
    return Explore(fast_folder, seeds)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    Each race is played a few times, and many times under the mark ``soak``.
    """
    if "explore" not in metafunc.fixturenames:
        return
    few = pytest.param(_few(), id="few")
    start = int.from_bytes(os.urandom(4), "big")
    soak = [pytest.mark.soak, pytest.mark.timeout(SOAK_TIMEOUT_S)]
    many = pytest.param(range(start, start + -(-SOAK_TOTAL // _races())), id="many", marks=soak)
    metafunc.fixturenames.append("seeds")
    metafunc.parametrize("seeds", [few, many])


def _few() -> range:
    seed = os.environ.get("RACE_SEED")
    if seed is not None:
        return range(int(seed), int(seed) + 1)
    return range(int(os.environ.get("RACE_SCHEDULES", str(FEW))))


def _races() -> int:
    """
    How many races there are, counted in this folder's files.
    """
    texts = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    return sum(text.count("(explore: Explore") for text in texts)


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A store that went away is tried again at once.
    """
    monkeypatch.setattr(writer, "_PROBE_S", 0.001)
