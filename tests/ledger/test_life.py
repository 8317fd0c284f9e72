"""
The table of a connection's life, walked: whatever happens in whichever state, nothing breaks and nothing is lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from jobsvc.channel import Scope
from jobsvc.domain import commands as c
from jobsvc.domain.moments import SECOND_US
from jobsvc.http.catching_up import CatchingUp
from jobsvc.http.connection import LIFE
from jobsvc.settings import Settings
from jobsvc.tokens import Bearer
from tests.ledger.reading import Reader, active_of
from tests.ledger.rig import OPERATOR, Rig, cancel, together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from jobsvc.http.connection import Connection

RING: Final = 12
SETTINGS: Final = Settings(snapshot_part_bytes_max=1_500, stream_buffer_high_bytes=1_500, stream_stall_s=1_000)
MINE: Final = Scope(owner="user:a")


# How each state is come by


async def _opening(rig: Rig) -> Reader:
    return Reader(rig, MINE, room_for=0, settings=SETTINGS)


async def _snapshot(rig: Rig) -> Reader:
    return Reader(rig, MINE, room_for=2, settings=SETTINGS)


async def _catching_up(rig: Rig) -> Reader:
    return Reader(rig, MINE, after=rig.feed.position - 5, room_for=1, settings=SETTINGS)


async def _reading(rig: Rig) -> Reader:
    return Reader(rig, MINE, after=rig.feed.position - RING - 9, settings=SETTINGS)


async def _live(rig: Rig) -> Reader:
    return await Reader(rig, MINE, settings=SETTINGS).settled()


async def _bye(rig: Rig) -> Reader:
    reader = Reader(rig, MINE, room_for=0, settings=SETTINGS)
    reader.connection.dismiss("overload")
    reader.give_room(1)
    return reader


async def _over(rig: Rig) -> Reader:
    reader = await _live(rig)
    reader.connection.dismiss("drain")
    return reader


STATES: Final[dict[str, Callable[[Rig], Awaitable[Reader]]]] = {
    "opening": _opening,
    "snapshot": _snapshot,
    "catching_up": _catching_up,
    "reading": _reading,
    "live": _live,
    "bye": _bye,
    "over": _over,
}


# What can happen to it


async def _notice(rig: Rig, _: Reader) -> None:
    await together(*(rig.execute(rig.create(owner=owner)) for owner in ("user:a", "user:b") * 2))


async def _notices(rig: Rig, _: Reader) -> None:
    """
    More than the ring holds, in one commit.
    """
    await together(*(rig.execute(rig.create(owner=owner)) for owner in ("user:a", "user:b") * RING))


async def _ends(rig: Rig, _: Reader) -> None:
    await rig.told(cancel(next(iter(rig.ledger.memory.by_owner["user:a"].values()))))


async def _moves(rig: Rig, _: Reader) -> None:
    """
    One job becomes another's, and one another's this owner's.
    """
    for owner, other in (("user:a", "user:b"), ("user:b", "user:a")):
        job = next(iter(rig.ledger.memory.by_owner[owner].values()))
        await rig.execute(c.ChangeOwner(job.id, OPERATOR, other))


async def _some_room(_: Rig, reader: Reader) -> None:
    reader.give_room(1)


async def _room(_: Rig, reader: Reader) -> None:
    reader.give_room(1_000_000)


async def _no_room(_: Rig, reader: Reader) -> None:
    reader.room_for = min(reader.room_for, 0)


async def _page(rig: Rig, _: Reader) -> None:
    """
    What was asked of the store comes, if anything was.
    """
    await rig.store.read_events(after=0, limit=1)
    for _turn in range(5):
        await asyncio.sleep(0)


async def _told_to_go(_: Rig, reader: Reader) -> None:
    reader.connection.dismiss("drain")


async def _claimed(_: Rig, reader: Reader) -> None:
    reader.connection.dismiss("claimed")


async def _time(_: Rig, reader: Reader) -> None:
    reader.connection.on_time()


async def _expiry(rig: Rig, reader: Reader) -> None:
    bearer = reader.connection.bearer
    reader.connection.bearer = Bearer(bearer.principal, expires_at=rig.clock.now() - SECOND_US)
    reader.connection.on_time()
    reader.connection.bearer = bearer


async def _fault(_: Rig, reader: Reader) -> None:
    reader.connection.abort()


async def _lost(_: Rig, reader: Reader) -> None:
    reader.over = True
    reader.connection.lost()


INPUTS: Final = (
    _notice,
    _notices,
    _ends,
    _moves,
    _some_room,
    _room,
    _no_room,
    _page,
    _told_to_go,
    _claimed,
    _time,
    _expiry,
    _fault,
    _lost,
)


@pytest.mark.parametrize("state", LIFE)
async def test_whatever_happens_twice_in_any_state_nothing_is_lost(tmp_path: Path, state: str) -> None:
    """
    Each pair of things that can happen: nothing raises, what was told is in order, once, and with what a resume from
    its cursor brings it is everything; once it is gone nobody tells it anything.
    """
    rig = await Rig(tmp_path / "log.db", ring_events_max=RING).open()
    for _ in range(4):
        await _notices(rig, await _over(rig))
    for first in INPUTS:
        for second in INPUTS:
            reader = await STATES[state](rig)
            assert state == reader.connection.state
            for happens in (first, second):
                await happens(rig, reader)
            await _check(rig, reader, f"{state}, {first.__name__}, {second.__name__}")
            for job in list(rig.ledger.memory.jobs.values())[: -4 * RING]:
                await rig.told(cancel(job))
    assert 0 == len(rig.feed)
    await rig.close()


async def _check(rig: Rig, reader: Reader, how: str) -> None:
    connection: Connection = reader.connection
    _in_order(rig, reader, connection.place, how)
    await _check_cut_here(rig, reader, how)
    if connection.state != "over":
        reader.give_room()
        await reader.settled()
        if not reader.over:
            assert ("live", rig.feed.position) == (connection.state, connection.place), how
            _in_order(rig, reader, rig.feed.position, how)
    await reader.close()
    await reader.close()
    connection.on_time()
    connection.notice()
    connection.take([], 10**6)
    connection.advance()
    assert "over" == connection.state, how


async def _check_cut_here(rig: Rig, reader: Reader, how: str) -> None:
    """
    What it was told so far and what one is told that goes on from its cursor is all there is; afresh where it has none.
    """
    cursor, told, jobs = reader.connection.cursor, reader.positions, dict(reader.jobs)
    again = await Reader(rig, MINE, after=cursor, settings=SETTINGS).settled()
    if cursor is None:
        assert [] == told, how
        assert active_of(rig, "user:a") == again.jobs, how
    else:
        assert told + again.positions == _due(rig, reader.began, rig.feed.position), how
    if any(frame["event"] == "snapshot" and not frame["data"]["more"] for frame in reader.frames):
        assert active_of(rig, "user:a") == _folded(jobs, again), how
    await again.close()


def _in_order(rig: Rig, reader: Reader, place: int, how: str) -> None:
    assert _due(rig, reader.began, place) == reader.positions, how


def _due(rig: Rig, after: int, until: int) -> list[int]:
    return [one.event.position for one in rig.changes if after < one.event.position <= until and MINE.shows_change(one)]


def _folded(jobs: dict[str, Any], again: Reader) -> dict[str, Any]:
    """
    What one who held *jobs* holds after all that it was told when it came again.
    """
    for one in again.told:
        jobs.pop(one["job"]["id"], None)
        if one["job"]["active"] and one["job"]["owner"] == MINE.owner:
            jobs[one["job"]["id"]] = (one["job"]["version"], one["job"]["state"])
    return jobs


def test_every_state_is_walked() -> None:
    """
    The table has no state that is not among those tried.
    """
    assert set(LIFE) == set(STATES)


async def test_one_that_goes_late_leaves_those_alone_who_came_since(rig: Rig) -> None:
    """
    It has said bye and its reader takes its time; another comes to the same channel, and is told of everything.
    """
    first = await _over(rig)
    second = Reader(rig, MINE)

    await first.close()
    third = Reader(rig, MINE)
    await rig.made()

    assert (await second.settled()).positions == (await third.settled()).positions == [rig.feed.position]
    assert second.connection.channel is third.connection.channel
    await second.close()
    await third.close()
    assert 0 == len(rig.feed)


async def test_who_asks_as_the_last_page_was_read_is_answered_too(tmp_path: Path) -> None:
    """
    One page is read at a time; in the very turns in which its reader ends another asks, whichever turn that is.
    """
    rig = await Rig(tmp_path / "log.db", ring_events_max=1).open()
    for _ in range(6):
        await rig.made()
    for turns in range(40):
        pages = CatchingUp(rig.feed, at_once_max=1)
        first, second = (Reader(rig, after=1, catching_up=pages, room_for=room) for room in (1_000, 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        while turns % 2 and first.connection.state == "reading":  # noqa: ASYNC110  # turns of the loop, until a state
            await asyncio.sleep(0)
        second.give_room()
        async with asyncio.timeout(5):
            await first.settled()
            await second.settled()

        assert first.positions == second.positions == [*range(2, rig.feed.position + 1)]
        await first.close()
        await second.close()
    await rig.close()


async def test_the_last_words_have_their_time_to_arrive(rig: Rig) -> None:
    """
    One that has said bye is not cut by the next tick of the wheel but when it lingered long enough.
    """
    reader = await Reader(rig, settings=Settings(heartbeat_s=1_000, stream_stall_s=0.04)).settled()
    began_s = asyncio.get_running_loop().time()

    reader.connection.dismiss("drain")
    while not reader.aborted_s:  # noqa: ASYNC110  # what is tried is how long it takes
        await asyncio.sleep(0.01)

    assert 2.0 <= reader.aborted_s - began_s < 3.0
    await reader.close()
