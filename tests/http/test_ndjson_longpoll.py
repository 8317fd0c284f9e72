from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.http.client import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.http.client import JSON
    from tests.http.conftest import Starter
    from tests.http.world import World

LINES = {"Accept": "application/x-ndjson"}


async def lines(world: World, count: int, **params: JSON) -> list[JSON]:
    """
    The first *count* lines of a stream of lines.
    """
    request = world.session.get(f"{world.url}/api/stream", headers=world.guest.headers | LINES, params=params)
    async with asyncio.timeout(PATIENCE_S), request as response:
        assert (200, "application/x-ndjson") == (response.status, response.content_type)
        found = [json.loads(await response.content.readline()) for _ in range(count)]
        response.close()
    return found


async def test_lines_are_the_same_frames(world: World) -> None:
    """
    Each line is {event, id, data}, with what the frame of an event stream carries.
    """
    await world.guest.made(input={"n": 2**70})
    epoch = (await world.head())["epoch"]
    async with world.guest.stream(after=f"{epoch}.0") as frames:
        as_events = await frames.until("ready")

    as_lines = await lines(world, 3, after=f"{epoch}.0")

    assert ["hello", "job", "ready"] == [line["event"] for line in as_lines]
    assert [(frame.event, frame.id, frame.data) for frame in as_events[1:]] == [
        (line["event"], line["id"], line["data"]) for line in as_lines[1:]
    ]


async def test_a_job_s_own_stream_comes_as_lines_too(world: World) -> None:
    """
    From hello to end, and then the response is over.
    """
    job = await world.guest.made()
    await world.guest.cancel(job["id"])

    answer = await world.guest.get(f"/api/jobs/{job['id']}/events", headers=LINES)

    assert ["hello", "snapshot", "ready", "end"] == [json.loads(line)["event"] for line in answer.content.splitlines()]


async def test_a_long_poll_without_a_cursor_answers_the_snapshot_at_once(world: World) -> None:
    """
    {frames, cursor}; the cursor is where the next poll goes on.
    """
    job = await world.guest.made()

    answer = await world.guest.get("/api/stream", wait_s=25)

    assert (200, {"frames", "cursor"}) == (answer.status, set(answer.body))
    frames = answer.body["frames"]
    assert ["hello", "snapshot", "ready"] == [frame["event"] for frame in frames]
    assert [job] == frames[1]["data"]["jobs"]
    assert frames[1]["id"] == answer.body["cursor"]


async def test_a_long_poll_comes_back_with_the_event(world: World) -> None:
    """
    It waits for a frame other than hello, ready and hb, and comes at once when there is one.
    """
    cursor = (await world.guest.get("/api/stream", wait_s=25)).body["cursor"]
    polling = asyncio.create_task(world.guest.get("/api/stream", wait_s=25, after=cursor))
    await until(lambda: len(world.service.feed) > 0)

    job = await world.guest.made()
    body = (await polling).body

    jobs = [frame["data"]["job"] for frame in body["frames"] if frame["event"] == "job"]
    assert [job] == jobs
    assert body["cursor"].endswith(".1")


async def test_polls_one_after_the_other_miss_and_repeat_nothing(world: World) -> None:
    """
    Following the cursor, every event comes once, in order.
    """
    seen: list[int] = []
    cursor = f"{(await world.head())['epoch']}.0"

    async def poll() -> None:
        nonlocal cursor
        while len(seen) < 50:
            body = (await world.guest.get("/api/stream", wait_s=5, after=cursor)).body
            cursor = body["cursor"]
            seen.extend(frame["data"]["position"] for frame in body["frames"] if frame["event"] == "job")

    async def make() -> None:
        for _ in range(50):
            await world.guest.made()

    async with asyncio.timeout(PATIENCE_S * 2):
        await asyncio.gather(poll(), make())

    assert list(range(1, 51)) == seen


async def test_a_long_poll_with_nothing_to_say_says_so_after_its_wait(world: World) -> None:
    """
    The frames that came anyway, and the cursor unchanged.
    """
    cursor = (await world.guest.get("/api/stream", wait_s=25)).body["cursor"]

    body = (await world.guest.get("/api/stream", wait_s=0.05, after=cursor)).body

    assert {"hello", "ready"} >= {frame["event"] for frame in body["frames"]}
    assert cursor == body["cursor"]


async def test_a_long_poll_with_a_bad_cursor_is_reset_at_once(world: World) -> None:
    """
    In band: reset, snapshot, ready.
    """
    body = (await world.guest.get("/api/stream", wait_s=25, after="garbage")).body

    assert ["hello", "reset", "snapshot", "ready"] == [frame["event"] for frame in body["frames"]]


async def test_a_wait_out_of_bounds_is_refused(world: World) -> None:
    """
    422, since this is no cursor.
    """
    answers = [await world.guest.get("/api/stream", wait_s=wait_s) for wait_s in (-1, "x", 1_000)]

    assert [(422, "invalid")] * 3 == [(answer.status, answer.code) for answer in answers]


async def test_a_long_poll_brings_a_page_and_not_the_backlog(world: World) -> None:
    """
    It answers with the first frames that are due, however many more wait, and its cursor goes on from there.
    """
    start = (await world.guest.get("/api/jobs/active")).body["cursor"]
    jobs = [{"kind": "work", "key": f"k{number}"} for number in range(400)]
    await world.guest.post("/api/jobs/batch", {"jobs": jobs})

    first = (await world.guest.get("/api/stream", after=start, wait_s=5)).body
    second = (await world.guest.get("/api/stream", after=first["cursor"], wait_s=5)).body

    counts = [sum(frame["event"] == "job" for frame in page["frames"]) for page in (first, second)]
    assert all(0 < count < 400 for count in counts)
    places = [
        frame["data"]["position"] for page in (first, second) for frame in page["frames"] if frame["event"] == "job"
    ]
    assert [*range(places[0], places[0] + sum(counts))] == places


async def test_polls_that_never_wait_get_on_all_the_same(start: Starter) -> None:
    """
    What is due is read from the log before a poll comes back, however short its wait.
    """
    world = await start(ring_events_max=2)
    first = (await world.guest.get("/api/stream", wait_s=0)).body
    made = [(await world.guest.made())["position"] for _ in range(9)]

    told: list[int] = []
    cursor = first["cursor"]
    for _ in range(3):
        answer = (await world.guest.get("/api/stream", wait_s=0, after=cursor)).body
        told += [frame["data"]["position"] for frame in answer["frames"] if frame["event"] == "job"]
        cursor = answer["cursor"]

    assert made == told


@pytest.mark.parametrize("asks", ["afresh", "with a bad cursor", "with a good cursor"])
async def test_a_poll_that_is_sent_away_has_a_cursor_only_if_it_has_a_place(start: Starter, asks: str) -> None:
    """
    Told to go before its snapshot it is to begin afresh: a cursor would have it miss what it was not shown.
    """
    world = await start(streams_total_max=1)
    await world.guest.made()
    place = (await world.guest.get("/api/stream", wait_s=0)).body["cursor"]
    after = {"afresh": {}, "with a bad cursor": {"after": "garbage"}, "with a good cursor": {"after": place}}[asks]
    async with world.guest.stream() as other:
        await other.until("ready")
        answer = (await world.stranger.get("/api/stream", wait_s=0, **after)).body

    assert ["hello", "bye"] == [frame["event"] for frame in answer["frames"]]
    assert (place if asks == "with a good cursor" else None) == answer["cursor"]
