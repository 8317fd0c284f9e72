"""
Kill -9 at any moment of an export, an import, a backup or a restore: finished or undone, and by running it again done.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.domain.errors import StoreDown
from jobsvc.store.sqlite import SqliteStore
from tests.process import SECRET, running_process
from tests.store.histories import History
from tests.system.chaos import seed
from tests.system.logs import copied, select, verified

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.process

SEED: Final = seed()
JOBS: Final = 2_500
"""Of three events each, save some that wait: an import of four pages."""
ROUNDS: Final = 3
SOAK_ROUNDS: Final = 40
CHANCES: Final = 30
"""
How often a kill may come too late before that is held to be no chance.
"""

rounds = pytest.mark.parametrize(
    "rounds", [ROUNDS, pytest.param(SOAK_ROUNDS, marks=[pytest.mark.soak, pytest.mark.timeout(1_200)])]
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log of some length; nobody may change it.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(_write(path))
    return path


async def _write(path: Path) -> None:
    store, history = SqliteStore(path), History()
    await store.open()
    for first in range(0, JOBS, 250):
        decided_at = history.position
        for number in range(first, first + 250):
            history.create(number)
            if number % 50:
                history.start(number)
                history.complete(number)
        await store.append(history.batch(), decided_at=decided_at)
    await store.close()


@pytest.fixture
def log(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    A copy of it, in the current folder.
    """
    monkeypatch.chdir(tmp_path)
    return copied(written, Path("jobs.db"))


class Campaign:
    """
    One command that is killed at a random moment of the time that it takes, once a round.
    """

    def __init__(self, *command: str) -> None:
        self._command = command
        self._chance = Random(f"{SEED} {command}")
        self._length_s = 0.0

    async def run(self, *more: str) -> int:
        """
        Its exit code when it is left alone.
        """
        began_s = time.monotonic()
        code = await (await self._start(*more)).wait()
        self._length_s = max(self._length_s, time.monotonic() - began_s)
        return code

    async def kill(self) -> None:
        """
        It was begun and killed; or it was over before.
        """
        process = await self._start()
        try:
            async with asyncio.timeout(self._chance.random() * self._length_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _start(self, *more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobsvc", *self._command, *more),
            env=os.environ | {"JOBSVC_SECRET": SECRET},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )


async def can_be_opened(path: Path) -> bool:
    """
    True if a service would open the database at *path*.
    """
    store = SqliteStore(path)
    try:
        await store.open()
    except StoreDown:
        return False
    finally:
        await store.close()
    return True


def head(path: Path) -> tuple[int, str]:
    """
    The position and the epoch of the log at *path*.
    """
    position, epoch = select(path, "SELECT position, epoch FROM head")[0]
    return position, epoch


def stands(name: str) -> bool:
    """
    True if there is a file of that name.
    """
    return Path(name).exists()


def content(name: str) -> bytes:
    """
    What is in the file.
    """
    return Path(name).read_bytes()


def remove(*several: str) -> None:
    """
    There are no files of these names.
    """
    for name in several:
        Path(name).unlink(missing_ok=True)


def names(is_ours: Callable[[str], bool] = lambda _: True) -> list[str]:
    """
    What is in the current folder.
    """
    return sorted(name for name in os.listdir() if is_ours(name))  # noqa: PTH208  # names are what it is about


@rounds
async def test_an_import_that_was_killed_is_opened_by_nobody_and_goes_on(log: Path, rounds: int) -> None:
    """
    Whenever it was: a database that is open is whole, and running it again makes it so, byte for byte.
    """
    assert 0 == await Campaign("export", "log", "--database", str(log)).run()
    campaign = Campaign("import", "log", "--database", "other.db")
    assert 0 == await campaign.run()
    played = opened = 0

    # At least so many, and on until a kill has come before the end: chance may have all come after it.
    while played < rounds or opened == played:
        played += 1
        assert played < rounds + CHANCES
        remove(*names(lambda name: name.startswith("other.db")))
        await campaign.kill()
        await campaign.kill()
        if not stands("other.db"):
            assert 0 == await campaign.run()
        elif await can_be_opened(Path("other.db")) and head(Path("other.db"))[0]:
            opened += 1
        else:
            assert 0 == await campaign.run()
        assert 0 == await Campaign("export", "again", "--force", "--database", "other.db").run()
        assert content("log") == content("again")
        assert [] == (await verified(Path("other.db"))).findings


@rounds
async def test_an_export_that_was_killed_has_no_name(log: Path, rounds: int) -> None:
    """
    What bears the name is whole; sealed or not, running it again writes it.
    """
    assert 0 == await Campaign("export", "log", "--seal", "--database", str(copied(log, Path("sealed.db")))).run()
    campaign = Campaign("export", "out", "--seal", "--database", str(log))
    await campaign.run()
    whole = content("out")

    for _ in range(rounds):
        remove("out")
        copied(Path("sealed.db"), log)
        await campaign.kill()
        assert not stands("out") or whole == content("out")
        assert 0 == await campaign.run("--force")
        assert whole == content("out")
        assert [] == names(lambda name: name.endswith(".part"))


@rounds
async def test_a_backup_that_was_killed_has_no_name(log: Path, rounds: int) -> None:
    """
    What bears the name is whole and verified; running it again leaves nothing else beside it.
    """
    campaign = Campaign("backup", "copy.db", "--database", str(log))
    assert 0 == await campaign.run()

    for _ in range(rounds):
        remove("copy.db")
        await campaign.kill()
        if not stands("copy.db"):
            assert 0 == await campaign.run()
        assert head(log)[0] == head(Path("copy.db"))[0]
        assert head(log)[1] != head(Path("copy.db"))[1]
        assert [] == (await verified(Path("copy.db"))).findings
        assert [] == names(lambda name: ".part" in name)


@rounds
async def test_a_restore_that_was_killed_left_the_one_or_the_other(log: Path, rounds: int) -> None:
    """
    The database is what it was, or what was restored, never something between; running it again restores it.
    """
    assert 0 == await Campaign("backup", "copy.db", "--database", str(log)).run()
    before, backed_up = head(log), head(Path("copy.db"))
    copied(log, Path("kept.db"))
    campaign = Campaign("restore", "copy.db", "--force", "--database", str(log))
    assert 0 == await campaign.run()

    for _ in range(rounds):
        copied(Path("kept.db"), log)
        await campaign.kill()
        assert head(log) in {before, backed_up}
        assert [] == (await verified(log)).findings
        assert 0 == await campaign.run()
        assert backed_up == head(log)
        assert [] == names(lambda name: ".part" in name)


async def test_a_service_killed_during_a_backup_leaves_none(log: Path) -> None:
    """
    Asked over HTTP and killed at once, it leaves no file of that name, or a whole one; the next one is made.
    """
    campaign = Campaign("backup", "copy.db", "--database", str(log))
    async with running_process(log) as service:
        assert 0 == await campaign.run()
        remove("copy.db")
        asking = asyncio.create_task(campaign.run())
        while not stands("copy.db.part") and not asking.done():  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(0.001)
        await service.kill()
        assert 1 == await asking
    assert not stands("copy.db")

    async with running_process(log):
        assert 0 == await campaign.run()

    assert [] == (await verified(Path("copy.db"))).findings
    assert [] == names(lambda name: ".part" in name)
