"""
What happens while a frame is half told: a heartbeat falls due, a credential runs out, the frame is as large as can be.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from jobsvc.resource import BRIEF_BYTES_MAX
from jobsvc.settings import Settings
from tests.http.client import until
from tests.http.world import started
from tests.streams.test_hand_over import wired
from tests.streams.test_slow_readers import stuck
from tests.streams.wires import Response, Told

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.world import World

SMALL: Final[dict[str, Any]] = {"stream_kernel_bytes": 4_096, "active_per_owner_max": 10_000}
"""
Little fits between the service and a reader, so that a frame is soon half told.
"""
JOB: Final = {"kind": "work", "input": "x" * 15_000}
SIP_BYTES: Final = 1_000


async def told(connection: socket.socket, *, until_event: str) -> list[Told]:
    """
    The frames on a connection of which nothing was read, up to the first of that name; it is closed then.
    """
    reader, writer = await asyncio.open_connection(sock=connection)
    await reader.readuntil(b"\r\n\r\n")
    seen = []
    async for frame in _answer(reader).frames():
        seen.append(frame)
        if frame.event == until_event:
            break
    writer.transport.abort()
    return seen


def _answer(reader: asyncio.StreamReader) -> Response:
    return Response(200, {"content-type": "text/event-stream"}, reader)


async def test_a_heartbeat_that_falls_due_amid_a_frame_comes_behind_it(tmp_path: Path) -> None:
    """
    There is room for it, though the frame before it has not been taken whole.
    """
    async with wired(tmp_path, frees=True, heartbeat_s=0.2, stream_buffer_high_bytes=2**20, **SMALL) as place:
        connection = await stuck(place.port)
        await until(lambda: any(one.state == "live" for one in place.service.streams.connections))
        (one,) = place.service.streams.connections
        while one.buffered < 2 * len(JOB["input"]):
            await place.post("/api/jobs", JOB)
        at_first = place.service.streams.written.bytes
        await until(lambda: place.service.streams.written.bytes > at_first)
        during, head = one.buffered, place.service.feed.position
        seen = await told(connection, until_event="hb")
        await place.gone()

    assert during > 0
    assert ["hello", "snapshot", "ready", *["job"] * head, "hb"] == [frame.event for frame in seen]


async def test_a_reader_that_lags_has_its_heartbeat_once_it_has_caught_up(tmp_path: Path) -> None:
    """
    Others have theirs meanwhile; its own, with the same digest, comes behind everything that it was behind.
    """
    low: dict[str, Any] = {"stream_buffer_high_bytes": 2_048, "stream_buffer_low_bytes": 512}
    async with wired(tmp_path, frees=True, heartbeat_s=0.2, **low, **SMALL) as place:
        connection = await stuck(place.port)
        await until(lambda: any(one.state == "live" for one in place.service.streams.connections))
        (one,) = place.service.streams.connections
        while one.standing != "lagging":
            await place.post("/api/jobs", JOB)
        for _ in range(3):
            await place.post("/api/jobs", JOB)
        other, writer = await place.ask(head="Accept: application/x-ndjson\r\n")
        beats = [await _beat(other) for _ in range(3)]
        standing, head = one.standing, place.service.feed.position
        seen = await told(connection, until_event="hb")
        writer.transport.abort()
        await place.gone()

    assert "lagging" == standing
    assert ["hello", "snapshot", "ready", *["job"] * head, "hb"] == [frame.event for frame in seen]
    assert beats[-1]["data"] == seen[-1].data


async def _beat(reader: asyncio.StreamReader) -> JSON:
    """
    The next heartbeat of a stream of lines.
    """
    async with asyncio.timeout(10):
        await reader.readuntil(b'{"event":"hb"')
        return json.loads(b'{"event":"hb"' + await reader.readline())


async def test_a_token_that_runs_out_while_its_stream_lags_ends_it_behind_the_frame(tmp_path: Path) -> None:
    """
    What happened until then is told once there is room, then ``bye`` ``expired``, and nothing of what happened after.
    """
    async with started(tmp_path / "jobs.db", stream_stall_s=6.0, **SMALL) as world:
        connection = await stuck(_port(world), bearer=str(world.caller("viewer", "short", ttl_s=3_000).token))
        await until(lambda: any(one.state == "live" for one in world.service.streams.connections))
        (one,) = world.service.streams.connections
        while one.standing != "lagging":
            await _many(world)
        world.clock.advance(3_600)
        await until(lambda: one.farewell is not None)
        due, standing = world.service.feed.position, one.standing
        await _many(world)
        seen = await told(connection, until_event="bye")

    assert "lagging" == standing
    assert [*range(1, due + 1)] == [frame.data["position"] for frame in seen if frame.event == "job"]
    assert ("bye", {"reason": "expired"}) == (seen[-1].event, seen[-1].data)


def _port(world: World) -> int:
    return int(world.url.rpartition(":")[2])


async def _many(world: World) -> None:
    answer = await world.guest.post("/api/jobs/batch", {"jobs": [JOB] * 20})
    assert answer.status == 200


async def test_the_largest_body_and_the_largest_frame_reach_a_reader_that_sips(tmp_path: Path) -> None:
    """
    A text of a whole body is left out and named, one that may just stand in a frame is whole; and of neither waits more
    than a buffer and a frame.
    """
    largest = _sized({"kind": "work", "title": "body", "input": ""}, Settings().body_bytes_max)
    widest = {"kind": "work", "title": "frame", "input": "i" * (BRIEF_BYTES_MAX - 2), "metadata": {"m": "m" * 16_000}}
    async with wired(tmp_path, frees=True, **SMALL) as place:
        connection = await stuck(place.port)
        await until(lambda: any(one.state == "live" for one in place.service.streams.connections))
        (one,) = place.service.streams.connections
        statuses = [await place.post("/api/jobs", each) for each in (largest, widest, largest, widest)]
        loop, reader, waited = asyncio.get_running_loop(), asyncio.StreamReader(), [one.buffered]
        while place.service.feed.position > one.place or one.buffered:
            reader.feed_data(await loop.sock_recv(connection, SIP_BYTES))
            waited.append(one.buffered)
        await place.service.streams.drain(0.5)
        while some := await loop.sock_recv(connection, SIP_BYTES):
            reader.feed_data(some)
        reader.feed_eof()
        connection.close()

    await reader.readuntil(b"\r\n\r\n")
    seen = [frame async for frame in _answer(reader).frames()]
    jobs = [frame.data["job"] for frame in seen if frame.event == "job"]
    assert [201] * 4 == statuses
    assert ["body", "frame"] * 2 == [job["title"] for job in jobs]
    assert [(None, ["input"]), (widest["input"], None)] * 2 == [(job.get("input"), job.get("omitted")) for job in jobs]
    assert max(waited) <= 16_384 + 2 * BRIEF_BYTES_MAX + 4_096
    assert len(waited) > 30


def _sized(job: dict[str, JSON], size: int) -> dict[str, JSON]:
    """
    *job* with an input so long that it has *size* bytes as JSON.
    """
    return job | {"input": "x" * (size - len(json.dumps(job)))}
