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

from jobsvc.channel import Scope
from jobsvc.domain import commands as c
from jobsvc.domain.events import EventType, Terms
from jobsvc.domain.moments import SECOND_US
from jobsvc.feed import Feed
from tests.ledger.reading import Reader, active_of
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
    Byte for byte, whichever way a reader came.
    """
    await everything(rig)
    await rig.execute(progress(await rig.held("last"), 1))

    ring = await Reader(rig, after=0).settled()
    store = await Reader(rig, after=0, feed=ringless(rig)).settled()

    expected = set(EventType.__args__) - {"job.erased"}  # type: ignore[attr-defined]  # a Literal's own
    assert expected == set(ring.types)
    assert ring.lines[1:] == store.lines[1:]
    assert active_of(rig) == ring.jobs == store.jobs


@pytest.mark.parametrize("owner", ["user:a", "user:b"])
async def test_ring_and_store_show_an_owner_the_same(rig: Rig, owner: str) -> None:
    """
    Its own events, those of a job that it took over from then on, and nothing of anybody else's.
    """
    await everything(rig)
    scope = Scope(owner=owner)

    ring = await Reader(rig, scope, after=0).settled()
    store = await Reader(rig, scope, after=0, feed=ringless(rig)).settled()

    assert ring.lines[1:] == store.lines[1:]
    assert {owner} == {one["job"]["owner"] for one in ring.told}


async def test_the_owner_before_sees_a_job_go(rig: Rig) -> None:
    """
    A change of owner is shown to both, once; what comes after only to the new one.
    """
    before, after = Reader(rig, Scope(owner="guest:g")), Reader(rig, Scope(owner="user:b"))
    job = await rig.made("moves", owner="guest:g")
    await rig.execute(c.ChangeOwner(job.id, OPERATOR, "user:b"))
    await rig.execute(cancel(job))

    await before.settled()
    await after.settled()

    assert ["job.created", "job.owner_changed"] == before.types
    assert ["job.owner_changed", "job.cancelled"] == after.types


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
        assert expected == (await Reader(rig, scope, after=0).settled()).positions
        assert expected == (await Reader(rig, scope, after=0, feed=ringless(rig)).settled()).positions


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
        opened.append(Reader(rig))
        await queued

    for reader in opened:
        assert active_of(rig) == (await reader.settled()).jobs


async def test_a_reader_below_the_ring_misses_nothing_between_foreign_events(tmp_path: Path) -> None:
    """
    Few events of one owner among many of others, in a ring of five: each is told once, whenever it is read.
    """
    rig = await Rig(tmp_path / "log.db", ring_events_max=5).open()
    slow = Reader(rig, Scope(owner="user:a"), room_for=4)
    expected = []
    for turn in range(60):
        await together(*(rig.execute(rig.create(owner="user:b")) for _ in range(turn % 8)))
        if turn % 5 == 0:
            expected.append((await rig.made()).position)

    slow.give_room()
    await slow.settled()

    assert expected == slow.positions
    assert len(rig.feed.ring) == 5
    await rig.close()


async def test_recent_events_are_those_of_the_log_as_far_as_the_ring_reaches(tmp_path: Path) -> None:
    """
    Whoever follows the whole log closely is given the same events as by the store; who is further behind, none.
    """
    rig = await Rig(tmp_path / "log.db", ring_events_max=5).open()
    for _ in range(8):
        await rig.made()

    assert rig.feed.ring.recent(2, 10) is None
    assert await rig.store.read_events(after=3, limit=10) == rig.feed.ring.recent(3, 10)
    assert await rig.store.read_events(after=4, limit=2) == rig.feed.ring.recent(4, 2)
    assert [] == rig.feed.ring.recent(8, 10)
    await rig.close()


async def test_a_reader_that_is_caught_up_has_its_place_at_the_head(rig: Rig) -> None:
    """
    Foreign events move its place on without a frame.
    """
    reader = Reader(rig, Scope(owner="user:a"))
    await rig.made(owner="user:b")
    foreign = reader.connection.place

    job = await rig.made()
    await reader.settled()

    assert 1 == foreign
    assert [job.position] == reader.positions
    assert 2 == reader.connection.place
    await reader.close()
    assert 0 == len(rig.feed)


async def test_a_farewell_comes_after_what_was_published_before_it(rig: Rig) -> None:
    """
    The first reason stands, and nothing that had happened is held back.
    """
    reader = Reader(rig)
    job = await rig.made()

    reader.connection.dismiss("drain")
    reader.connection.dismiss("overload")

    assert [job.position] == reader.positions
    assert ["job", "bye"] == [frame["event"] for frame in reader.frames[-2:]]
    assert {"reason": "drain"} == reader.frames[-1]["data"]


async def test_who_is_lost_after_its_bye_takes_nobody_else_along(rig: Rig) -> None:
    """
    Between the last word and the end of the transport somebody else may have come who sees the same.
    """
    scope = Scope(owner="guest:g")
    gone = Reader(rig, scope)
    gone.connection.dismiss("superseded")
    here = Reader(rig, scope)

    gone.connection.lost()
    await rig.made(owner="guest:g")
    await here.settled()

    assert ["snapshot", "ready", "job"] == [frame["event"] for frame in here.frames if frame["event"] != "hello"]
    assert 1 == len(rig.feed)


async def test_members_of_a_channel_are_told_the_same_whatever_their_pace(rig: Rig) -> None:
    """
    One that has little room and one that has none for long get what the quick one got, in order, once.
    """
    quick, slow, idle = Reader(rig), Reader(rig, room_for=4), Reader(rig, room_for=3)
    for turn in range(40):
        await together(*(rig.execute(rig.create()) for _ in range(turn % 4)))
        slow.give_room(turn % 2)

    for one in (slow, idle):
        one.give_room()
        await one.settled()
    await quick.settled()

    assert quick.positions == slow.positions == idle.positions == [*range(1, rig.feed.position + 1)]
    assert quick.jobs == slow.jobs == idle.jobs == active_of(rig)


async def test_progress_of_which_more_is_known_is_left_out(rig: Rig) -> None:
    """
    A reader that comes late is told the states, and of progress only what still stands.
    """
    job = await rig.held("key")
    for percent in (10, 20, 30):
        await rig.execute(progress(job, percent))
        rig.clock.advance(SECOND_US)

    reader = await Reader(rig, after=0).settled()

    assert ["job.created", "job.started", "job.progressed"] == reader.types
    assert 30 == reader.told[-1]["job"]["progress"]["percent"]


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_reader_gets_exactly_what_it_may_see(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """
    Readers of every scope open anywhere, read a little now and then or not for long, while commits go on: each gets
    exactly the events in its scope above its position, in order, and "ready" is never said too early.
    """
    asyncio.run(_interleaved(tmp_path_factory.mktemp("feed") / "log.db", random.Random(seed)))


async def _interleaved(path: Path, chance: random.Random) -> None:
    rig = await Rig(path, ring_events_max=chance.randint(1, 12)).open()
    readers: list[Reader] = []
    for _ in range(chance.randint(10, 60)):
        match chance.randrange(4):
            case 0:
                readers.append(_opened(rig, chance))
            case 1 if readers:
                # A store's page is awaited while commits go on.
                chance.choice(readers).give_room(chance.randint(1, 6))
                await together(*_acts(rig, chance))
            case _:
                await together(*_acts(rig, chance))
        for reader in readers:
            _check(rig, reader)
    for reader in readers:
        reader.give_room()
        await reader.settled()
        assert _in_scope(rig, reader) == reader.positions
        assert rig.feed.position == reader.connection.place
        await reader.close()
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
    return Reader(rig, scope, after=after, room_for=chance.randint(0, 8))


def _acts(rig: Rig, chance: random.Random) -> list[object]:
    jobs = list(rig.ledger.memory.jobs.values())
    acts: list[object] = [
        rig.execute(rig.create(owner=chance.choice(["user:a", "user:b"]), kind=chance.choice("xy")))
        for _ in range(chance.randint(0, 4))
    ]
    if jobs and chance.random() < 0.5:
        acts.append(rig.told(cancel(chance.choice(jobs))))
    return acts


def _in_scope(rig: Rig, reader: Reader) -> list[int]:
    scope = reader.connection.channel.scope
    return [
        change.event.position
        for change in rig.changes
        if change.event.position > reader.began and scope.shows_change(change)
    ]


def _check(rig: Rig, reader: Reader) -> None:
    """
    What it was told is where what it may see begins; all of it, if it stands live with nothing on its way.
    """
    expected = _in_scope(rig, reader)
    assert expected[: len(reader.positions)] == reader.positions
    if reader.connection.state == "live" and reader.connection.channel.quiet is None:
        assert expected == reader.positions


async def test_the_digest_follows_versions(rig: Rig) -> None:
    """
    It is nothing for nothing, changes with every event in scope, and comes back when the job has ended.
    """
    own, foreign = Reader(rig).connection.channel, Reader(rig, Scope(owner="user:b")).connection.channel
    digests = [own.digest()]
    await rig.made("key")
    digests.append(own.digest())
    (held,) = (await rig.claim()).jobs
    digests.append(own.digest())
    late = Reader(rig, Scope(owner="user:a")).connection.channel.digest()
    untouched = foreign.digest()
    await rig.execute(complete(held))
    digests.append(own.digest())

    assert "00000000" == digests[0] == digests[3] == untouched
    assert late == digests[2]
    assert 3 == len(set(digests))


async def test_the_digest_follows_a_job_to_its_new_owner(rig: Rig) -> None:
    """
    It leaves the one's and enters the other's, and is what a reader that begins now would compute.
    """
    before, after = Reader(rig, Scope(owner="guest:g")), Reader(rig, Scope(owner="user:b"))
    await rig.made("stays", owner="user:b")
    job = await rig.made("moves", owner="guest:g")

    await rig.execute(c.ChangeOwner(job.id, OPERATOR, "user:b"))

    fresh = Reader(rig, Scope(owner="user:b", kinds=frozenset("k"))).connection.channel.digest()
    assert "00000000" == before.connection.channel.digest()
    assert fresh == after.connection.channel.digest()


async def test_a_long_list_is_hashed_in_slices_while_commits_go_on(rig: Rig) -> None:
    """
    Until it is whole there is no digest; then it is as of the newest commit.
    """
    await together(*(rig.execute(rig.create()) for _ in range(200)))
    reader = Reader(rig)
    at_first = reader.connection.channel.digest()
    await rig.execute(cancel(next(iter(rig.ledger.memory.jobs.values()))))
    await rig.made()
    while reader.connection.channel.digest() is None:  # noqa: ASYNC110  # turns of the loop, until a state
        await asyncio.sleep(0)

    fresh = Reader(rig, Scope(kinds=frozenset("k")))
    while fresh.connection.channel.digest() is None:  # noqa: ASYNC110  # turns of the loop, until a state
        await asyncio.sleep(0)

    assert at_first is None
    assert fresh.connection.channel.digest() == reader.connection.channel.digest()
