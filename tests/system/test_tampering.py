"""
Whatever one thing a tamperer does to a log, verify finds it, and at the position at which it was done.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.events import Erased, Event, Payload
from jobsvc.operate.verify import verify
from jobsvc.store.driver import connect
from jobsvc.store.seam import Batch
from jobsvc.store.sqlite import SqliteStore
from tests.http.world import started
from tests.system.logs import UNGUARDED, caught_up, copied, fill, looking_at, select, tamper
from tests.system.tampering import Mutation, mutate

if TYPE_CHECKING:
    from pathlib import Path

QUICK = 1_500
ALL = 10_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log with something of everything in it, a change of owner and an erased job too, and no guards.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(_write(path))
    return path


async def _write(path: Path) -> None:
    async with started(path) as world:
        await fill(world)
        claimed = await world.user.post("/api/sessions/claim", {"guest_token": world.stranger.token})
        assert claimed.body["moved"] > 0
        await caught_up(world)
    await _erase_one(path)
    tamper(path, "PRAGMA journal_mode = DELETE")


async def _erase_one(path: Path) -> None:
    """
    The payloads of an ended job are gone, and the log says so.
    """
    ((job_id, version),) = select(
        path,
        "SELECT job_id, max(version) FROM events JOIN history USING (job_id) WHERE state = 'failed' GROUP BY job_id",
    )
    store = SqliteStore(path)
    head = (await store.open()).head
    erased = Event(head.position + 1, job_id, version + 1, head.at, Erased(), Payload(actor="operator:olga"))
    await store.append(Batch([erased], ["erased"], history={job_id: None}), decided_at=head.position)
    await store.close()
    forget = "UPDATE events SET payload = NULL, salt = NULL, owner = NULL, previous_owner = NULL"
    tamper(path, (f"{forget} WHERE job_id = ? AND version <= ?", (job_id, version)))


async def test_each_single_mutation_is_found_where_it_is(written: Path, tmp_path: Path) -> None:
    """
    Any column of an event changed, a row deleted, inserted, swapped, the tail cut: the first position is the right one.
    """
    wrong = await _tried(written, tmp_path / "jobs.db", range(QUICK))

    assert [] == wrong


@pytest.mark.soak
@pytest.mark.timeout(1_200)
async def test_ten_thousand_single_mutations_are_found_where_they_are(written: Path, tmp_path: Path) -> None:
    """
    The same, ten thousand times.
    """
    wrong = await _tried(written, tmp_path / "jobs.db", range(ALL))

    assert [] == wrong


async def test_the_log_that_is_mutated_is_whole_before(written: Path) -> None:
    """
    What is found is the mutation and nothing else.
    """
    async with looking_at(written) as store:
        result = await verify(store)

    assert [] == result.findings


async def _tried(written: Path, path: Path, seeds: range) -> list[str]:
    """
    Of one mutation for each of *seeds*: those that were not found, or elsewhere.
    """
    ((last, chain),) = select(written, "SELECT position, chain FROM head")
    wrong: list[str] = []
    for seed in seeds:
        mutation = _mutated(copied(written, path), seed, last=last)
        async with looking_at(path) as store:
            result = await verify(store, against=(last, chain) if mutation.needs_head else None)
        if not result.findings or result.findings[0].position != mutation.position:
            wrong.append(f"{seed}: {mutation}: {result.findings[:1]}")
    return wrong


def _mutated(log: Path, seed: int, *, last: int) -> Mutation:
    """
    What was done to *log* by the chance of *seed*.
    """
    raw = connect(log, read_only=False)
    try:
        for statement in UNGUARDED:
            raw.execute(statement)
        return mutate(raw, Random(seed), last=last)
    finally:
        raw.close()
