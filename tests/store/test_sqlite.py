"""
What only the SQLite engine promises: its file, its PRAGMAs, its triggers, and what is left after a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from pysqlite3 import OperationalError

from jobsvc.domain.errors import Corrupt, StoreDown
from jobsvc.operate.verify import verify
from jobsvc.store import driver
from jobsvc.store.blocks import block
from jobsvc.store.seam import Needs
from jobsvc.store.sqlite import SqliteStore
from tests.store.failing_driver import FailingConnect
from tests.store.histories import History, chain_of, history_row, job_id
from tests.store.older import of_schema_2, with_active_jobs_in_history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from jobsvc.domain.job import Job
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import Head, HistoryRow
    from tests.store.conftest import Log
    from tests.store.failing_driver import When

APPEND_STATEMENTS_MAX = 12
"""More than an append of the test below has, so that every one of its statements gets its turn to fail."""


@pytest.fixture
async def three(log: Log, store: SqliteStore) -> AsyncIterator[RawConnection]:
    """
    A raw connection to a log of three events of one job.
    """
    history = History()
    history.create(1)
    history.start(1)
    history.complete(1)
    await store.append(history.batch(), decided_at=0)
    raw = driver.connect(log.path, read_only=False)
    raw.execute("PRAGMA foreign_keys = ON")
    yield raw
    raw.close()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE events SET payload = '{}' WHERE position = 1",
        "UPDATE events SET payload = NULL, salt = NULL WHERE position = 1",
        "UPDATE events SET owner = 'user:eve' WHERE position = 1",
        "UPDATE events SET position = 9 WHERE position = 3",
        "DELETE FROM events WHERE position = 3",
        "INSERT INTO events SELECT 4, job_id, 3, type, 1, 1, '', '{}', NULL, NULL, chain, chain FROM events LIMIT 1",
        "INSERT INTO head SELECT 2, position, chain, at, epoch FROM head",
        "INSERT INTO active VALUES ('x', 1, 'completed', x'')",
    ],
)
async def test_the_schema_refuses_tampering(three: RawConnection, tampering: str) -> None:
    """
    No event changes or goes, no version comes twice, there is one head, and no ended job is active.
    """
    with pytest.raises(driver.DriverError):
        three.execute(tampering)

    assert [(3, 3)] == three.execute("SELECT count(*), max(position) FROM events").fetchall()


@pytest.mark.parametrize(
    "tampering",
    ["UPDATE events SET facts = '{}', payload = NULL, salt = NULL", "UPDATE events SET payload = x'7b7d'"],
)
async def test_an_erasure_takes_payloads_and_nothing_else(three: RawConnection, tampering: str) -> None:
    """
    Even through the guarded way an event's facts stay, and a payload can only go.
    """
    three.execute("BEGIN IMMEDIATE")
    three.execute("INSERT INTO maintenance (act) VALUES ('erase')")

    with pytest.raises(driver.DriverError, match="an event never changes"):
        three.execute(tampering)


async def test_the_guarded_way_cannot_be_left_open(three: RawConnection) -> None:
    """
    Whoever forgets to close the door cannot commit.
    """
    three.execute("BEGIN IMMEDIATE")
    three.execute("INSERT INTO maintenance (act) VALUES ('archive')")
    three.execute("DELETE FROM events WHERE position = 3")

    with pytest.raises(driver.DriverError, match="FOREIGN KEY"):
        three.execute("COMMIT")

    three.execute("ROLLBACK")
    assert [(3,)] == three.execute("SELECT count(*) FROM events").fetchall()


async def test_an_erased_event_chains_and_decodes(three: RawConnection, store: SqliteStore) -> None:
    """
    After an erasure the chain still verifies, and the events come back with their facts and no payload.
    """
    _erase(three)

    records = await store.read_records(after=0, limit=9)
    events = await store.read_events(after=0, limit=9)
    job = (await store.look_up(Needs(jobs=frozenset({job_id(1)})))).jobs[job_id(1)]

    assert {(None, None, None)} == {(record.payload, record.salt, record.owner) for record in records}
    assert {None} == {event.payload for event in events}
    assert ("completed", "erased") == (job.state, job.owner)
    assert chain_of(records) == (await store.read_head()).chain


async def test_a_head_that_does_not_fit_the_log_is_noticed(three: RawConnection, store: SqliteStore) -> None:
    """
    A store whose log lost its last event does not open.
    """
    three.execute("UPDATE head SET position = 7")

    with pytest.raises(Corrupt):
        await store.reopen()


async def test_a_reader_sees_only_what_is_committed(three: RawConnection, log: Log) -> None:
    """
    A read-only store beside a writer sees nothing of an open transaction, and everything after its commit.
    """
    reader = await log.reader()
    three.execute("BEGIN IMMEDIATE")
    _erase(three, begin=False)

    before = await reader.read_events(after=0, limit=1)
    three.execute("COMMIT")
    after = await reader.read_events(after=0, limit=1)

    assert before[0].payload is not None
    assert after[0].payload is None
    with pytest.raises(StoreDown):
        await reader.append(History().batch(), decided_at=3)


async def test_a_file_has_one_owner(tmp_path: Path) -> None:
    """
    A second store on the same file is refused until the first is closed; looking on is always allowed.
    """
    first, second = SqliteStore(tmp_path / "log.db"), SqliteStore(tmp_path / "log.db")
    looker = SqliteStore(tmp_path / "log.db", read_only=True)
    await first.open()

    with pytest.raises(StoreDown, match="another process") as refused:
        await second.open()
    await looker.open()
    await looker.close()

    assert refused.value.kind == "busy"
    await first.reopen()
    with pytest.raises(StoreDown, match="another process"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """
    Neither a foreign database, nor a newer schema, nor a file that is no database is touched.
    """
    foreign, newer, text = tmp_path / "foreign.db", tmp_path / "newer.db", tmp_path / "text.db"
    for path, statement in ((foreign, "CREATE TABLE t (x)"), (newer, "PRAGMA user_version = 99")):
        raw = driver.connect(path, read_only=False)
        raw.execute(statement)
        raw.close()
    text.write_text("no database, " * 1_000)

    for path, message in ((foreign, "something else"), (newer, "newer version"), (text, "not a database")):
        with pytest.raises(StoreDown, match=message):
            await SqliteStore(path).open()

    with pytest.raises(StoreDown):
        await SqliteStore(tmp_path / "missing.db", read_only=True).open()
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.parametrize("side", ["a", "b"])
async def test_a_file_of_schema_2_finds_results_by_their_key(tmp_path: Path, side: str) -> None:
    """
    Whichever side's names its live history has, the index of results is made anew, and a rebuild has the other names.
    """
    path, history = tmp_path / "log.db", History()
    history.create(1)
    store = SqliteStore(path)
    await store.open()
    await store.append(history.batch(), decided_at=0)
    await store.close()
    of_schema_2(path, side=side)

    await store.open()
    raw = driver.connect(path, read_only=True)
    made = raw.execute("SELECT sql FROM sqlite_schema WHERE name LIKE 'history__%completed'").fetchall()
    raw.close()
    await store.begin_shadow("history")
    await store.swap_shadow("history", built_to=1)
    await store.close()

    assert [(block("create_history_completed", table="history", side=side),)] == made


async def test_a_history_with_active_jobs_in_it_is_read_as_one_without(tmp_path: Path) -> None:
    """
    An earlier version's rows without an end are passed over, stand in nobody's way, and become rows like the others.
    """
    path, history, store = tmp_path / "log.db", History(), SqliteStore(tmp_path / "log.db")
    for number in (1, 2):
        history.create(number)
        history.start(number)
    history.complete(2)
    await store.open()
    await store.append(history.batch(), decided_at=0)
    await store.close()
    with_active_jobs_in_history(path)

    await store.open()
    before, damaged = await store.read_view("history", after="", limit=9), (await verify(store)).findings
    history.complete(1)
    await store.append(history.batch(), decided_at=5)
    after, then = await store.read_view("history", after="", limit=9), (await verify(store)).findings
    await store.close()

    assert [history_row(history.jobs[job_id(2)])] == before
    assert [history_row(history.jobs[job_id(number)]) for number in (1, 2)] == after
    assert [[], []] == [damaged, then]


async def test_every_pragma_is_in_force(tmp_path: Path) -> None:
    """
    The writer is durable and the reader cannot write; both say so when asked.
    """
    writer = await driver.Connection.open(tmp_path / "log.db")
    reader = await driver.Connection.open(tmp_path / "log.db", read_only=True)

    asked = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "mmap_size", "wal_autocheckpoint")

    of_writer = await writer.run(lambda raw: [raw.execute(f"PRAGMA {name}").fetchone() for name in asked])
    of_reader = await reader.run(
        lambda raw: [raw.execute(f"PRAGMA {name}").fetchone() for name in ("query_only", "wal_autocheckpoint")]
    )

    await reader.close()
    await writer.close()
    assert [("wal",), (2,), (1,), (0,), (0,), (4_000,)] == of_writer
    assert [(1,), (0,)] == of_reader


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2), (3, 50, 6), (3, 44, 5), (3, 49, 9)])
def test_a_sqlite_that_can_lose_pages_is_refused(version: tuple[int, int, int]) -> None:
    """
    Releases before 3.51.3 are refused, but for the repaired ones of two older lines.
    """
    with pytest.raises(StoreDown, match="can lose committed pages"):
        driver.check_version(version)


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 53, 4), (4, 0, 0), (3, 50, 7), (3, 44, 6)])
def test_a_repaired_sqlite_is_taken(version: tuple[int, int, int]) -> None:
    """
    Releases from 3.51.3 on and the repaired ones of two older lines may be used.
    """
    driver.check_version(version)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fails_at", range(APPEND_STATEMENTS_MAX))
async def test_a_failed_append_is_whole_or_was_never(tmp_path: Path, fails_at: int, when: When) -> None:
    """
    Whichever statement of an append fails, before or after it took effect: the caller is told, nothing is taken until
    the store was reopened, and then the log has the batch wholly or not at all, and goes on without a hole.
    """
    failing, history = FailingConnect(), History()
    store = SqliteStore(tmp_path / "log.db", connect=failing.connect)
    await store.open()
    for number in (1, 2):
        history.create(number)
        history.start(number)
    before = await store.append(history.batch(), decided_at=0)
    history.complete(1)
    history.create(3)
    batch = history.batch()
    failing.arm(fails_at, when=when, error_name="SQLITE_IOERR_FSYNC")

    down = await _failure_of(store.append(batch, decided_at=4))
    failed, statements = down is not None, list(failing.statements)

    assert down is None or ("io", OperationalError) == (down.kind, type(down.__cause__))
    assert failed == (fails_at < len([sql for sql in statements if sql != "ROLLBACK"]))
    failing.disarm()
    if failed:
        with pytest.raises(StoreDown):
            await store.append(batch, decided_at=4)
        assert not failing.statements
    opening = await store.reopen()
    whole = not failed or (when == "after" and statements[fails_at] == "COMMIT")
    assert opening.head.position == (6 if whole else 4)
    assert len(opening.active) == 2
    assert len(opening.keys) == 2
    if not whole:
        assert opening.head == before
        await store.append(batch, decided_at=4)
    await _assert_sound(store, history)
    await store.close()


async def test_the_log_can_be_emptied_when_idle(three: RawConnection, store: SqliteStore) -> None:
    """
    A checkpoint brings the write-ahead log to nothing.
    """
    before = await store.wal_bytes()

    done = await store.checkpoint()

    assert before > 0
    assert done
    assert await store.wal_bytes() == 0


async def _failure_of(append: Awaitable[Head]) -> StoreDown | None:
    try:
        await append
    except StoreDown as down:
        return down
    return None


async def _assert_sound(store: SqliteStore, history: History) -> None:
    head: Head = await store.read_head()
    assert await store.read_events(after=0, limit=99) == history.events
    records = await store.read_records(after=0, limit=99)
    assert [record.position for record in records] == list(range(1, head.position + 1))
    assert chain_of(records) == head.chain
    active = [job.id for job in history.jobs.values() if job.active]
    ended = [job.id for job in history.jobs.values() if not job.active]
    assert active == [cast("Job", row).id for row in await store.read_view("active", after="", limit=9)]
    assert ended == [cast("HistoryRow", row).job_id for row in await store.read_view("history", after="", limit=9)]


def _erase(raw: RawConnection, *, begin: bool = True) -> None:
    """
    Take all payloads away by the guarded way.
    """
    if begin:
        raw.execute("BEGIN IMMEDIATE")
    raw.execute("INSERT INTO maintenance (act) VALUES ('erase')")
    raw.execute("UPDATE events SET payload = NULL, salt = NULL, owner = NULL")
    raw.execute("DELETE FROM maintenance")
    if begin:
        raw.execute("COMMIT")
