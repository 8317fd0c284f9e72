"""
What every engine promises to whoever takes a log elsewhere, or brings one here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.errors import Corrupt, InvalidCommand, StoreDown
from jobsvc.store.seam import Batch, Loaded, Mark
from jobsvc.store.sqlite import SqliteStore
from tests.store.histories import START, History, history_row, job_id, key_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from jobsvc.store.seam import Record
    from tests.store.conftest import Log


async def written(store: SqliteStore) -> History:
    """
    Three jobs, one of them ended, stand in *store*.
    """
    history = History()
    for number in range(3):
        history.create(number)
    history.start(1)
    history.complete(1)
    await store.append(history.batch(), decided_at=0)
    return history


def page_of(history: History, records: Sequence[Record]) -> Loaded:
    """
    *records* with the rows as they are now in *history*.
    """
    jobs = {record.job_id: history.jobs[record.job_id] for record in records}
    return Loaded(
        records,
        {name: job if job.active else None for name, job in jobs.items()},
        {name: key_row(job) if job.active else None for name, job in jobs.items()},
        {name: history_row(job) for name, job in jobs.items() if not job.active},
    )


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """
    Another store with nothing in it, opened as it is.
    """
    fresh = SqliteStore(tmp_path / "other.db")
    await fresh.open_as_is()
    yield fresh
    await fresh.close()


async def test_a_loaded_log_is_the_one_that_it_was(store: SqliteStore, other: SqliteStore) -> None:
    """
    Record by record and row by row, under an epoch of its own or the one that it brought.
    """
    history = await written(store)
    records = list(await store.read_records(after=0, limit=100))

    await other.begin_load()
    await other.load(page_of(history, records[:2]))
    await other.load(page_of(history, records[2:]))
    ended = await other.end_load(epoch="0123456789abcdef")
    opened = await other.reopen()

    assert records == list(await other.read_records(after=0, limit=100))
    assert ("0123456789abcdef", "open") == (ended.epoch, await other.standing())
    head = await store.read_head()
    assert (head.position, head.chain, head.at) == (ended.position, ended.chain, ended.at)
    assert {job_id(0), job_id(2)} == {job.id for job in opened.active} == opened.keys.keys()


async def test_a_log_that_is_half_loaded_is_opened_by_nobody_and_goes_on(
    store: SqliteStore, other: SqliteStore
) -> None:
    """
    Neither as a log nor to be sealed; a load begun again finds it where it was left.
    """
    history = await written(store)
    records = list(await store.read_records(after=0, limit=100))
    await other.begin_load()
    await other.load(page_of(history, records[:2]))
    await other.close()

    with pytest.raises(StoreDown, match="broken off"):
        await other.open()
    await other.open_as_is()
    with pytest.raises(InvalidCommand):
        await other.seal()

    assert ("loading", 2) == (await other.standing(), (await other.begin_load()).position)


async def test_a_page_that_does_not_follow_is_not_loaded(store: SqliteStore, other: SqliteStore) -> None:
    """
    It fits behind the head, or nothing of it is there.
    """
    history = await written(store)
    records = list(await store.read_records(after=0, limit=100))
    await other.begin_load()

    with pytest.raises(Corrupt):
        await other.load(page_of(history, records[1:]))

    assert [] == list(await other.read_records(after=0, limit=100))


@pytest.mark.parametrize("with_mark", [True, False])
async def test_only_a_log_with_nothing_in_it_is_loaded(store: SqliteStore, *, with_mark: bool) -> None:
    """
    One event or one mark is something.
    """
    if with_mark:
        mark = Mark("user:ada", "revoked", "", "", b"", START)
        await store.append(Batch([], [], marks=[mark]), decided_at=0)
    else:
        await written(store)

    with pytest.raises(InvalidCommand, match="a log in this database"):
        await store.begin_load()

    assert "open" == await store.standing()


async def test_a_sealed_log_takes_nothing_and_stays_sealed(log: Log, store: SqliteStore) -> None:
    """
    Reading goes on; an append fails, and nobody opens it to write again. Sealing it twice is sealing it.
    """
    history = await written(store)
    await store.seal()
    again = await store.seal()
    history.create(9)

    with pytest.raises(StoreDown):
        await store.append(history.batch(), decided_at=5)
    with pytest.raises(StoreDown, match="sealed"):
        await log.writer()

    reader = await log.reader()
    assert (5, "sealed") == (again.position, await reader.standing())
    assert 5 == len(await reader.read_records(after=0, limit=100))


async def test_marks_are_carried_in_one_order_as_of_one_head(store: SqliteStore, other: SqliteStore) -> None:
    """
    In pages, however many they are; loaded twice they are there once.
    """
    marks = [Mark(f"user:{number:05}", "request", "k", "d", b"\x00", START) for number in range(4_100)]
    await store.append(Batch([], [], marks=marks[::-1]), decided_at=0)
    pages: list[list[Mark]] = []

    head = await store.carry_marks(lambda page: pages.append(list(page)))
    await other.begin_load()
    for page in (*pages, *pages):
        await other.load_marks(page)
    again: list[Mark] = []
    await other.carry_marks(again.extend)

    assert 0 == head.position
    assert max(map(len, pages)) <= 2_000
    assert marks == [mark for page in pages for mark in page] == again


async def test_history_rows_are_found_by_job(store: SqliteStore) -> None:
    """
    Of those that exist.
    """
    history = await written(store)

    found = await store.read_history_rows([job_id(1), job_id(7)])

    assert {job_id(1): history_row(history.jobs[job_id(1)])} == found
