from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer, Frame
    from tests.http.world import World

SSE = {"Accept": "text/event-stream"}


def names(frames: list[Frame]) -> list[str]:
    """
    The events' names, in order.
    """
    return [frame.event for frame in frames]


def path(job: JSON) -> str:
    """
    Where the job's stream is.
    """
    return f"/api/jobs/{job['id']}/events"


async def ended(world: World) -> JSON:
    """
    A completed job.
    """
    await world.guest.made()
    return await world.worker.complete(await world.worker.claim(), {"n": 2**70})


async def reconnected(world: World, job: JSON, cursor: str) -> Answer:
    """
    What a client gets that comes back with *cursor*.
    """
    return await world.guest.get(path(job), headers=SSE | {"Last-Event-ID": cursor})


async def test_a_job_s_stream_tells_its_life_and_ends_with_it(world: World) -> None:
    """
    Snapshot of that job, ready, its events and no other's, then end, and the connection closes.
    """
    job = await world.guest.made()
    other = await world.guest.made(kind="other")

    async with world.guest.stream(path(job)) as frames:
        start = await frames.until("ready")
        grant = await world.worker.claim(kinds=["work"])
        await world.guest.cancel(other["id"])
        completed = await world.worker.complete(grant, 1)
        rest = await frames.rest()

    assert ["hello", "snapshot", "ready"] == names(start)
    assert [job] == start[1].data["jobs"]
    assert ["job", "job", "end"] == names(rest)
    assert ["job.started", "job.completed"] == [frame.data["type"] for frame in rest[:2]]
    assert {"job": completed} == rest[2].data
    assert rest[2].id is not None


async def test_reconnecting_after_the_end_is_204(world: World) -> None:
    """
    An EventSource that comes back with the end's cursor is told to stop.
    """
    job = await world.guest.made()
    async with world.guest.stream(path(job)) as frames:
        await frames.until("ready")
        await world.guest.cancel(job["id"])
        end = (await frames.rest())[-1]

    answers = [
        await reconnected(world, job, str(end.id)),
        await world.guest.get(path(job), headers=SSE, after=end.id),
    ]

    assert [(204, b"")] * 2 == [(answer.status, answer.content) for answer in answers]


async def test_a_cursor_past_the_end_is_204(world: World) -> None:
    """
    Also where other jobs have moved the log on since.
    """
    job = await ended(world)
    await world.guest.made()
    head = await world.head()

    answer = await reconnected(world, job, f"{head['epoch']}.{head['position']}")

    assert 204 == answer.status


async def test_an_ended_job_without_a_cursor_is_snapshot_ready_end(world: World) -> None:
    """
    Whatever its state, the job is shown; then the stream ends.
    """
    job = await ended(world)

    async with world.guest.stream(path(job)) as frames:
        seen = await frames.rest()

    assert ["hello", "snapshot", "ready", "end"] == names(seen)
    assert ([job], {"job": job}) == (seen[1].data["jobs"], seen[3].data)


async def test_a_cursor_before_the_end_tells_the_rest_and_ends(world: World) -> None:
    """
    Whoever missed the end gets what it missed, from the log, and then the end.
    """
    job = await ended(world)
    epoch = (await world.head())["epoch"]

    for position, rest in ((0, 3), (1, 2), (2, 1)):
        async with world.guest.stream(path(job), after=f"{epoch}.{position}") as frames:
            seen = await frames.rest()
        assert ["hello", *["job"] * rest, "end"] == [name for name in names(seen) if name != "ready"]
        assert [3] == [frame.data["version"] for frame in seen if frame.event == "job"][-1:]
        assert {"job": job} == seen[-1].data


async def test_a_bad_cursor_for_an_ended_job_is_reset_and_told_all_the_same(world: World) -> None:
    """
    Never an HTTP error: reset, snapshot, ready, end.
    """
    job = await ended(world)

    for cursor in ("garbage", "0123456789abcdef.1"):
        async with world.guest.stream(path(job), after=cursor) as frames:
            seen = await frames.rest()
        assert ["hello", "reset", "snapshot", "ready", "end"] == names(seen)


async def test_a_stream_that_opens_while_the_job_ends_tells_the_end_once(world: World) -> None:
    """
    At whatever moment it opens, the job's end is told, once, and the stream is over.
    """

    async def watch(job: JSON) -> list[Frame]:
        async with world.guest.stream(path(job)) as frames:
            return await frames.rest()

    for _ in range(40):
        job = await world.guest.made()
        watched, answer = await asyncio.gather(
            asyncio.gather(*(watch(job) for _ in range(3))), world.guest.cancel(job["id"])
        )
        for seen in watched:
            told = [frame.data["version"] for frame in seen if frame.event == "job"]
            shown = seen[1].data["jobs"][0]["version"]
            assert ("end", {"job": answer.job}) == (seen[-1].event, seen[-1].data)
            assert list(range(shown + 1, 3)) == told


async def test_another_s_job_is_403_and_none_404_before_the_stream(world: World) -> None:
    """
    Nobody follows what is not theirs.
    """
    job = await world.stranger.made()

    answers = [
        await world.guest.get(path(job), headers=SSE),
        await world.guest.get("/api/jobs/01890000-0000-7000-8000-000000000000/events", headers=SSE),
    ]

    assert [(403, "access-denied"), (404, "not-found")] == [(answer.status, answer.code) for answer in answers]


async def test_a_stream_of_several_jobs_never_ends_by_itself(world: World) -> None:
    """
    /api/stream?job= goes on after the job's terminal event, with a frame and no end.
    """
    job = await world.guest.made()

    async with world.guest.stream(job=job["id"]) as frames:
        await frames.until("ready")
        await world.guest.cancel(job["id"])
        seen = await frames.next()
        open_still = len(world.service.streams)

    assert ("job", "job.cancelled", 1) == (seen.event, seen.data["type"], open_still)
