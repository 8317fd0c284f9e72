"""
Whatever statement of an append fails, before or after it took effect: the ledger recovers by itself and never lies.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pysqlite3 import OperationalError

from jobsvc import writer
from jobsvc.answers import Answer, MarkRequest
from jobsvc.desk import Limits
from jobsvc.domain.errors import StoreDown
from jobsvc.store.sqlite import SqliteStore
from tests.ledger.reading import Reader
from tests.ledger.rig import Rig, complete, progress, together
from tests.store.failing_driver import FailingConnect, When

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.store.driver import RawConnection

MARK = MarkRequest("user:a", "POST /api/jobs", "once", "digest")
BATCH_STATEMENTS = 9
"""How many statements the batch of these tests takes at least, from BEGIN to COMMIT."""


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A store that went away is tried again at once.
    """
    monkeypatch.setattr(writer, "_PROBE_S", 0.001)


class Broken:
    """
    A rig whose store fails when told.
    """

    def __init__(self, path: Path) -> None:
        self.failing = FailingConnect()
        self.is_away = False
        store = SqliteStore(path, connect=self.connect)
        self.rig = Rig(path, store=store, limits=Limits(batch_commands_max=8))

    def connect(self, path: Path, *, read_only: bool) -> RawConnection:
        """
        A connection that fails when told; none while the disk is away.
        """
        if self.is_away:
            raise OperationalError("the disk is away")
        return self.failing.connect(path, read_only=read_only)

    async def batch(self) -> list[Answer | BaseException]:
        """
        What a batch of every sort is told: two creates for one key, a marked one, an end, a claim.
        """
        rig = self.rig
        return await together(
            rig.execute(rig.create("key")),
            rig.execute(rig.create("key")),
            rig.ledger.execute(rig.create("marked"), mark=MARK),
            rig.execute(complete(self.held)),
            rig.claim(1),
        )

    async def opened(self) -> Broken:
        """
        With a job that a worker holds, and progress of it that is held back.
        """
        await self.rig.open()
        self.held = await self.rig.held("held")
        await self.rig.execute(progress(self.held, 1))
        await self.rig.execute(progress(self.held, 2))
        return self

    async def recovered(self) -> None:
        """
        Commands are taken again.
        """
        async with asyncio.timeout(5):
            while not self.rig.ledger.accepting:  # noqa: ASYNC110  # the ledger tells nobody when
                await asyncio.sleep(0)
        await self.rig.settled()


@pytest.fixture
async def statements(tmp_path: Path) -> list[str]:
    """
    What the batch runs on the writer's connection, look-up included.
    """
    broken = await Broken(tmp_path / "sound.db").opened()
    broken.failing.disarm()
    await broken.batch()
    await broken.rig.close()
    return list(broken.failing.statements)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error_name", ["SQLITE_FULL", "SQLITE_BUSY", "SQLITE_IOERR"])
async def test_any_failing_statement_fails_the_batch_whole_and_heals(
    tmp_path: Path, statements: list[str], when: When, error_name: str
) -> None:
    """
    Everyone of the batch gets StoreDown; memory, views and feed then are what the log says, each event once.
    """
    assert len(statements) > BATCH_STATEMENTS
    for number, statement in enumerate(statements):
        broken = await Broken(tmp_path / f"{number}.db").opened()
        rig, before = broken.rig, broken.rig.ledger.memory.position
        broken.failing.arm(number, when=when, error_name=error_name)

        told = await broken.batch()
        await broken.recovered()

        took_effect = statement == "COMMIT" and when == "after"
        assert all(isinstance(one, StoreDown) for one in told), (statement, told)
        assert took_effect == (rig.ledger.memory.position > before), statement
        assert [*range(1, rig.ledger.memory.position + 1)] == [change.event.position for change in rig.changes]
        await rig.check()
        await _goes_on(broken)


async def _goes_on(broken: Broken) -> None:
    """
    The same requests again come out as if nothing had been, and the mark has one job.
    """
    rig = broken.rig
    first, second, marked, done, _ = await broken.batch()
    assert all(isinstance(one, Answer) for one in (first, second, marked, done))
    rig.clock.advance(1)
    again = await rig.ledger.execute(rig.create("marked"), mark=MARK)
    assert again.replayed
    assert isinstance(marked, Answer)
    assert again.job.id == marked.job.id
    assert 2 == len(rig.ledger.memory.holders)
    await rig.check()
    await rig.close()


async def test_a_commit_that_happened_although_reported_failed_is_shown_once(tmp_path: Path) -> None:
    """
    The callers were told that nobody knows; the log knows, and the feed tells it once.
    """
    broken = await Broken(tmp_path / "log.db").opened()
    rig = broken.rig
    reader = Reader(rig)
    commit = (await _statements_of(broken, key="key")).index("COMMIT")
    await reader.settled()
    before = len(reader.told)
    broken.failing.arm(commit, when="after")

    told = await together(rig.execute(rig.create("key")))
    await broken.recovered()

    shown = (await reader.settled()).told[before:]
    assert isinstance(told[0], StoreDown)
    assert [("job.created", "key")] == [(one["type"], one["job"]["key"]) for one in shown]
    assert "attached" == (await rig.execute(rig.create("key"))).outcome
    await rig.close()


async def test_a_grant_that_took_effect_although_reported_failed_is_undone(tmp_path: Path) -> None:
    """
    No worker knows of it: the job waits again, attempt and losses unchanged, and a waiting worker is woken.
    """
    broken = await Broken(tmp_path / "log.db").opened()
    rig = broken.rig
    commit = (await _statements_of_claim(broken)).index("COMMIT")
    job = await rig.made("waits")
    broken.failing.arm(commit, when="after")

    (told,) = await together(rig.claim())
    await broken.recovered()
    await rig.settled()

    back = rig.job(job)
    assert isinstance(told, StoreDown)
    assert ("queued", 0, 0, 2) == (back.state, back.attempt, back.lost_leases, back.fence)
    await rig.close()


@pytest.mark.parametrize("error_name", ["SQLITE_FULL", "SQLITE_BUSY"])
async def test_nothing_is_taken_until_a_probe_works(tmp_path: Path, error_name: str) -> None:
    """
    While the store stays down every command is refused at once, the queued ones too, and fatal stays open.
    """
    broken = await Broken(tmp_path / "log.db").opened()
    rig = broken.rig
    broken.failing.arm(0, error_name=error_name)
    (first,) = await together(rig.execute(rig.create("key")))

    refused = await together(*(rig.execute(rig.create("key")) for _ in range(3)))
    await broken.recovered()

    assert all(isinstance(one, StoreDown) for one in [first, *refused])
    assert rig.ledger.fatal is not None
    assert not rig.ledger.fatal.done()
    assert "created" == (await rig.execute(rig.create("key"))).outcome
    await rig.close()


@pytest.mark.parametrize("error_name", ["SQLITE_IOERR", "SQLITE_CORRUPT"])
async def test_a_store_beyond_repair_says_so(tmp_path: Path, error_name: str) -> None:
    """
    After IO errors and corruption the process has to end: fatal resolves.
    """
    broken = await Broken(tmp_path / "log.db").opened()
    broken.failing.arm(0, error_name=error_name)

    await together(broken.rig.execute(broken.rig.create("key")))

    assert broken.rig.ledger.fatal is not None
    assert isinstance(await broken.rig.ledger.fatal, StoreDown)
    await broken.recovered()
    await broken.rig.close()


async def test_while_the_store_stays_away_nobody_waits_for_it(tmp_path: Path) -> None:
    """
    Those queued behind the failed batch are refused while it lasts, not when it is over; then all goes on.
    """
    broken = await Broken(tmp_path / "log.db").opened()
    rig, broken.is_away = broken.rig, True
    broken.failing.arm(0)

    async with asyncio.timeout(5):
        told = await together(*(rig.execute(rig.create()) for _ in range(30)))
    accepting, broken.is_away = rig.ledger.accepting, False
    await broken.recovered()

    assert 30 == sum(isinstance(one, StoreDown) for one in told)
    assert not accepting
    assert "created" == (await rig.execute(rig.create())).outcome
    await rig.check()
    await rig.close()


async def test_a_ledger_stops_while_its_store_is_down(tmp_path: Path) -> None:
    """
    Nobody waits for ever: who was queued is refused, and the end comes.
    """
    broken = await Broken(tmp_path / "log.db").opened()
    rig = broken.rig
    broken.failing.arm(0)
    asked = asyncio.gather(*(rig.execute(rig.create()) for _ in range(5)), return_exceptions=True)
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await rig.close()
        told = await asked

    assert all(isinstance(one, StoreDown) for one in told)


async def _statements_of(broken: Broken, *, key: str | None = None) -> list[str]:
    """
    What one create takes.
    """
    broken.failing.disarm()
    await broken.rig.made(key)
    statements = list(broken.failing.statements)
    (held,) = (await broken.rig.claim()).jobs
    await broken.rig.execute(complete(held))
    return statements


async def _statements_of_claim(broken: Broken) -> list[str]:
    """
    What one claim takes.
    """
    await broken.rig.made()
    broken.failing.disarm()
    (held,) = (await broken.rig.claim()).jobs
    statements = list(broken.failing.statements)
    await broken.rig.execute(complete(held))
    return statements
