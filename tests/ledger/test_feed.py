"""
The feed: each reader gets what it may see above its position, once, in order, from the ring and from the store alike.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.events import EventType, Terms
from jobsvc.domain.moments import SECOND_US
from jobsvc.feed import Feed, Scope
from tests.ledger.rig import (
    LEASE_US,
    OPERATOR,
    Rig,
    cancel,
    complete,
    fail,
    progress,
    release,
    together,
)

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.feed import Reader
    from jobsvc.framing import EncodedChange

ALL = Scope()


async def read_all(reader: Reader, *, limit: int = 100) -> list[EncodedChange]:
    """
    All that *reader* gets until it has caught up.
    """
    found: list[EncodedChange] = []
    for _ in range(10_000):
        found += await reader.read(limit)
        if reader.caught_up:
            return found
    raise AssertionError("a reader never catches up")


def positions(found: list[EncodedChange]) -> list[int]:
    """
    Where in the log they stand.
    """
    return [one.change.event.position for one in found]


def ringless(rig: Rig) -> Feed:
    """
    A feed at the head of the same log, with nothing in its ring.
    """
    feed = Feed(rig.store, rig.ledger.memory, ring_events_max=10, ring_bytes_max=2**20)
    feed.start()
    return feed


async def everything(rig: Rig) -> None:
    """
    Every type of event but the erasure has happened, to several jobs of several owners.
    """
    later = await rig.made(terms=Terms(run_at=rig.clock.wall + SECOND_US))
    rig.clock.advance(SECOND_US)
    await rig.sweep()
    (held,) = (await rig.claim(name="c")).jobs
    assert later.id == held.id
    await rig.execute(progress(held, 1))
    await rig.execute(fail(held, retry_after_us=0))
    await rig.sweep()
    (held,) = (await rig.claim()).jobs
    await rig.execute(progress(held, 50))
    await rig.execute(release(held))
    (held,) = (await rig.claim()).jobs
    rig.clock.advance(LEASE_US)
    await rig.sweep()
    await rig.sweep()
    (held,) = (await rig.claim()).jobs
    await rig.execute(cancel(held))
    await rig.execute(fail(held))
    await rig.told(complete(held))
    first = await rig.held("key", owner="user:b")
    await rig.execute(rig.create("key", owner="user:b", dedup=c.Dedup(on_active="run_after")))
    await rig.execute(complete(first))
    (second,) = (await rig.claim()).jobs
    await rig.execute(c.Fail(second.id, OPERATOR, second.fence, "d", fail(second).failure, retryable=False))
    await rig.made(owner="user:b", terms=Terms(deadline_us=1))
    rig.clock.advance(1)
    await rig.sweep()
    moved = await rig.made("moves", owner="guest:g")
    await rig.execute(c.ChangeOwner(moved.id, OPERATOR, "user:b"))
    await rig.execute(rig.create("moves", owner="user:b", dedup=c.Dedup(on_active="replace")))


async def test_ring_and_store_give_the_same_frames_for_every_type_of_event(rig: Rig) -> None:
    """
    Byte for byte, as events and as lines, whichever way a reader came.
    """
    await everything(rig)
    from_ring, _ = rig.feed.open(ALL, after=0)
    from_store, _ = ringless(rig).open(ALL, after=0)

    ring, store = await read_all(from_ring), await read_all(from_store, limit=7)

    expected = set(EventType.__args__) - {"job.erased"}  # type: ignore[attr-defined]  # a Literal's own
    assert expected == {one.change.event.type for one in ring}
    assert [one.sse() for one in ring] == [one.sse() for one in store]
    assert [one.line() for one in ring] == [one.line() for one in store]
    assert [one.change for one in ring] == [one.change for one in store]


@pytest.mark.parametrize("owner", ["user:a", "user:b"])
async def test_ring_and_store_show_an_owner_the_same(rig: Rig, owner: str) -> None:
    """
    Its own events, those of a job that it took over from then on, and nothing of anybody else's.
    """
    await everything(rig)
    scope = Scope(owner=owner)

    ring = await read_all(rig.feed.open(scope, after=0)[0])
    store = await read_all(ringless(rig).open(scope, after=0)[0], limit=3)

    assert [one.sse() for one in ring] == [one.sse() for one in store]
    assert {owner} == {one.change.job.owner for one in ring}


async def test_the_owner_before_sees_a_job_go(rig: Rig) -> None:
    """
    A change of owner is shown to both, once; what comes after only to the new one.
    """
    before, _ = rig.feed.open(Scope(owner="guest:g"))
    after, _ = rig.feed.open(Scope(owner="user:b"))
    job = await rig.made("moves", owner="guest:g")
    await rig.execute(c.ChangeOwner(job.id, OPERATOR, "user:b"))
    await rig.execute(cancel(job))

    seen_before, seen_after = await read_all(before), await read_all(after)

    assert ["job.created", "job.owner_changed"] == [one.change.event.type for one in seen_before]
    assert ["job.owner_changed", "job.cancelled"] == [one.change.event.type for one in seen_after]
    assert "guest:g" == seen_before[1].change.previous_owner


async def test_filters_of_kind_and_job_hold_from_ring_and_store(rig: Rig) -> None:
    """
    Only what was asked for, whatever else happens between.
    """
    jobs = [await rig.made(kind=kind, owner=owner) for owner in ("user:a", "user:b") for kind in ("x", "y", "z")]
    for job in jobs:
        await rig.execute(cancel(job))
    scopes = [
        (Scope(kinds=frozenset("xz")), [1, 3, 4, 6, 7, 9, 10, 12]),
        (Scope(owner="user:a", kinds=frozenset("x")), [1, 7]),
        (Scope(job_ids=frozenset([jobs[1].id])), [2, 8]),
        (Scope(owner="user:b", job_ids=frozenset([jobs[1].id, jobs[4].id])), [5, 11]),
        (Scope(owner="user:b", job_ids=frozenset([jobs[1].id])), []),
    ]

    for scope, expected in scopes:
        assert expected == positions(await read_all(rig.feed.open(scope, after=0)[0]))
        assert expected == positions(await read_all(ringless(rig).open(scope, after=0)[0], limit=2))


async def test_a_snapshot_and_its_registration_are_one_act(rig: Rig) -> None:
    """
    Readers that begin while commits go on: what they were shown plus what they are told is the list as it stands.
    """
    opened = []
    for turn in range(30):
        asking = [rig.execute(rig.create(f"{turn}-{place}")) for place in range(3)]
        if turn % 3 == 0:
            asking += [rig.execute(cancel(job)) for job in list(rig.ledger.memory.jobs.values())[:2]]
        queued = asyncio.gather(*asking)
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        opened.append(rig.feed.open(ALL))
        await queued

    for reader, jobs in opened:
        shown = {job.id: job for job in jobs}
        for one in await read_all(reader, limit=5):
            shown[one.change.job.id] = one.change.job
        assert {job_id: job for job_id, job in shown.items() if job.active} == rig.ledger.memory.jobs


async def test_a_reader_below_the_ring_misses_nothing_between_foreign_events(tmp_path: Path) -> None:
    """
    Few events of one owner among many of others, in a ring of five: each is told once, whenever it is read.
    """
    rig = await Rig(tmp_path / "log.db", ring_events_max=5).open()
    slow, _ = rig.feed.open(Scope(owner="user:a"))
    expected = []
    for turn in range(60):
        await together(*(rig.execute(rig.create(owner="user:b")) for _ in range(turn % 8)))
        if turn % 5 == 0:
            expected.append((await rig.made()).position)

    assert expected == positions(await read_all(slow, limit=2))
    assert len(rig.feed._ring) == 5  # noqa: SLF001  # the bound is the promise
    await rig.close()


async def test_a_reader_that_is_caught_up_has_its_place_at_the_head(rig: Rig) -> None:
    """
    Foreign events move its place on without a frame; a wait ends when something is in scope and not before.
    """
    reader, _ = rig.feed.open(Scope(owner="user:a"))
    waiting = asyncio.create_task(reader.wait(30))
    await asyncio.sleep(0)

    await rig.made(owner="user:b")
    still, place = waiting.done(), reader.place
    job = await rig.made()

    assert (False, 1) == (still, place)
    assert await waiting
    assert 1 == reader.place
    assert [job.position] == positions(await read_all(reader))
    assert 2 == reader.place
    rig.feed.close(reader)
    rig.feed.close(reader) if len(rig.feed) else None
    assert 0 == len(rig.feed)


async def test_a_farewell_ends_a_wait(rig: Rig) -> None:
    """
    The first reason stands.
    """
    reader, _ = rig.feed.open(ALL)
    waiting = asyncio.create_task(reader.wait(30))
    await asyncio.sleep(0)

    reader.dismiss("drain")
    reader.dismiss("overload")

    assert await waiting
    assert "drain" == reader.farewell


class Reading:
    """
    A reader, where it began, and what it was given so far.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.began = reader.place
        self.given: list[int] = []


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_reader_gets_exactly_what_it_may_see(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """
    Readers of every scope open anywhere, read a little now and then or not for long, while commits go on: each gets
    exactly the events in its scope above its position, in order, and "caught up" is never said too early.
    """
    asyncio.run(_interleaved(tmp_path_factory.mktemp("feed") / "log.db", random.Random(seed)))


async def _interleaved(path: Path, chance: random.Random) -> None:
    rig = await Rig(path, ring_events_max=chance.randint(1, 12)).open()
    readings: list[Reading] = []
    for _ in range(chance.randint(10, 60)):
        match chance.randrange(4):
            case 0:
                readings.append(Reading(_opened(rig, chance)))
            case 1 if readings:
                # A store's page is awaited while commits go on.
                reading = chance.choice(readings)
                await together(_read(rig, reading, limit=chance.randint(1, 6)), *_acts(rig, chance))
            case _:
                await together(*_acts(rig, chance))
        for reading in readings:
            _check_caught_up(rig, reading)
    for reading in readings:
        while not reading.reader.caught_up:
            await _read(rig, reading, limit=3)
        assert _in_scope(rig, reading) == reading.given
    await rig.check()
    await rig.close()


def _opened(rig: Rig, chance: random.Random) -> Reader:
    scope = Scope(
        owner=chance.choice([None, "user:a", "user:b"]),
        kinds=chance.choice([frozenset(), frozenset("x")]),
        job_ids=frozenset(chance.sample(sorted(rig.ledger.memory.jobs), 1))
        if rig.ledger.memory.jobs and chance.random() < 0.2
        else frozenset(),
    )
    after = chance.choice([None, chance.randint(0, rig.feed.position)])
    return rig.feed.open(scope, after=after)[0]


def _acts(rig: Rig, chance: random.Random) -> list[object]:
    jobs = list(rig.ledger.memory.jobs.values())
    acts: list[object] = [
        rig.execute(rig.create(owner=chance.choice(["user:a", "user:b"]), kind=chance.choice("xy")))
        for _ in range(chance.randint(0, 4))
    ]
    if jobs and chance.random() < 0.5:
        acts.append(rig.told(cancel(chance.choice(jobs))))
    return acts


async def _read(rig: Rig, reading: Reading, *, limit: int) -> None:
    reading.given += positions(list(await reading.reader.read(limit)))
    _check_caught_up(rig, reading)


def _in_scope(rig: Rig, reading: Reading) -> list[int]:
    scope, began = reading.reader.scope, reading.began
    return [
        change.event.position for change in rig.changes if change.event.position > began and scope.shows_change(change)
    ]


def _check_caught_up(rig: Rig, reading: Reading) -> None:
    if reading.reader.caught_up:
        assert _in_scope(rig, reading) == reading.given


async def test_the_digest_follows_versions(rig: Rig) -> None:
    """
    It is nothing for nothing, changes with every event in scope, and comes back when the job has ended.
    """
    digests = [rig.feed.digest(ALL)]
    job = await rig.made("key")
    digests.append(rig.feed.digest(ALL))
    (held,) = (await rig.claim()).jobs
    digests.append(rig.feed.digest(ALL))
    foreign = rig.feed.digest(Scope(owner="user:b"))
    await rig.execute(complete(held))
    digests.append(rig.feed.digest(ALL))

    assert "00000000" == digests[0] == digests[3] == foreign
    assert 3 == len(set(digests))
    assert replace(job, version=1) == job
