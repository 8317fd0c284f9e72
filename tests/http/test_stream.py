from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.http.client import PATIENCE_S, until
from tests.http.world import started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import JSON, Frame, Frames
    from tests.http.conftest import Starter
    from tests.http.world import World


def names(frames: list[Frame]) -> list[str]:
    """
    The events' names, in order.
    """
    return [frame.event for frame in frames]


def positions(frames: list[Frame]) -> list[int]:
    """
    The positions of the ``job`` frames, in order.
    """
    return [frame.data["position"] for frame in frames if frame.event == "job"]


async def test_a_stream_begins_with_hello_snapshot_ready(world: World) -> None:
    """
    Without a cursor: where it starts, the active jobs as of then, and that it has caught up.
    """
    job = await world.guest.made()
    await world.stranger.made()
    epoch = (await world.head())["epoch"]

    async with world.guest.stream() as frames:
        hello, snapshot, ready = await frames.until("ready")

    cursor = f"{epoch}.2"
    assert ["hello", "snapshot", "ready"] == names(frames.seen)
    assert {"cursor", "heartbeat_s", "server_time"} == hello.data.keys()
    assert (cursor, 15, None) == (hello.data["cursor"], hello.data["heartbeat_s"], hello.id)
    assert hello.retry is not None
    assert ({"jobs": [job], "cursor": cursor, "more": False}, cursor) == (snapshot.data, snapshot.id)
    assert ({"cursor": cursor}, cursor) == (ready.data, ready.id)


async def test_the_response_can_be_neither_kept_nor_buffered(world: World) -> None:
    """
    No cache, no transformation, no proxy buffer, no compression.
    """
    headers = {"Accept-Encoding": "gzip"}

    async with world.guest.stream(headers=headers) as frames:
        await frames.next()
        response = frames.response

    assert "text/event-stream" == response.content_type
    assert {"no-store", "no-transform"} <= set(response.headers["Cache-Control"].replace(",", " ").split())
    assert "no" == response.headers["X-Accel-Buffering"]
    assert "Content-Encoding" not in response.headers


async def test_every_event_comes_with_the_job_as_it_stood_after_it(world: World) -> None:
    """
    A job's whole life is told, each frame with its cursor and the job after that event.
    """
    async with world.guest.stream() as frames:
        await frames.until("ready")
        job = await world.guest.made()
        grant = await world.worker.claim()
        await world.worker.report(grant, "progress", percent=50)
        await world.worker.complete(grant, {"n": 2**90})
        seen = await frames.until_type("job.completed")

    assert ["job.created", "job.started", "job.progressed", "job.completed"] == [frame.data["type"] for frame in seen]
    assert [1, 2, 3, 4] == positions(seen) == [frame.data["version"] for frame in seen]
    assert ["queued", "running", "running", "completed"] == [frame.data["job"]["state"] for frame in seen]
    assert all({"type", "position", "version", "at", "job", "data"} == frame.data.keys() for frame in seen)
    assert all(str(frame.id).endswith(f".{frame.data['position']}") for frame in seen)
    assert job == seen[0].data["job"]
    assert {"n": 2**90} == seen[3].data["job"]["result"]
    assert not any(set(frame.data["data"]) & set(frame.data["job"]) for frame in seen)


async def test_a_caller_is_told_of_its_own_jobs_only(world: World) -> None:
    """
    Guests theirs; viewer, operator and a service without owner all; a service with owner that one's.
    """
    mine, other = await world.guest.made(), await world.stranger.made()

    async def shown(frames: Frames) -> set[str]:
        return {
            job["id"]
            for frame in await frames.until("ready")
            if frame.event == "snapshot"
            for job in frame.data["jobs"]
        }

    async with (
        world.guest.stream() as guest,
        world.viewer.stream() as viewer,
        world.operator.stream() as operator,
        world.backend.stream() as backend,
        world.backend.stream(owner=world.guest.owner) as for_guest,
    ):
        everything = {mine["id"], other["id"]}
        assert {mine["id"]} == await shown(guest) == await shown(for_guest)
        assert everything == await shown(viewer) == await shown(operator) == await shown(backend)


async def test_nothing_of_another_s_reaches_a_stream(world: World) -> None:
    """
    Events of strangers between one's own are left out, and the cursors go on.
    """
    async with world.guest.stream() as frames:
        await frames.until("ready")
        for _ in range(3):
            await world.stranger.made()
            await world.guest.made()
        seen = [await frames.next() for _ in range(3)]

    assert [2, 4, 6] == positions(seen)
    assert {world.guest.owner} == {frame.data["job"]["owner"] for frame in seen}


async def test_a_stream_is_narrowed_by_job_and_kind(world: World) -> None:
    """
    ?job= (which may repeat) and ?kind= leave what they name, in the snapshot and after.
    """
    jobs = [await world.guest.made(kind=kind) for kind in ("a", "a", "b")]

    async with (
        world.guest.stream(job=[jobs[0]["id"], jobs[2]["id"]]) as by_job,
        world.guest.stream(kind="a") as by_kind,
    ):
        snapshots = [(await frames.until("ready"))[1] for frames in (by_job, by_kind)]
        for job in jobs:
            await world.guest.cancel(job["id"])
        seen = [[await frames.next() for _ in range(2)] for frames in (by_job, by_kind)]

    assert [[0, 2], [0, 1]] == [[jobs.index(job) for job in snapshot.data["jobs"]] for snapshot in snapshots]
    assert [[4, 6], [4, 5]] == [positions(frames) for frames in seen]


async def test_a_foreign_job_is_403_and_an_unknown_one_404_before_the_stream(world: World) -> None:
    """
    A stream that would show nothing is refused at once, as are more than 100 jobs.
    """
    mine, foreign = await world.guest.made(), await world.stranger.made()
    unknown = "01890000-0000-7000-8000-000000000000"

    answers = [
        await world.guest.get("/api/stream", job=[mine["id"], foreign["id"]]),
        await world.guest.get("/api/stream", job=[mine["id"], unknown]),
        await world.guest.get("/api/stream", job="nonsense"),
        await world.guest.get("/api/stream", job=[f"{n}" for n in range(101)]),
    ]

    assert [(403, "access-denied"), (404, "not-found"), (404, "not-found"), (422, "invalid")] == [
        (answer.status, answer.code) for answer in answers
    ]


async def test_a_snapshot_comes_in_parts_and_only_the_last_has_an_id(world: World) -> None:
    """
    Parts of at most 64 KiB say that more is to come; together they are the active list.
    """
    made = {(await world.guest.made(input="x" * 10_000))["id"] for _ in range(30)}

    async with world.guest.stream() as frames:
        parts = [frame for frame in await frames.until("ready") if frame.event == "snapshot"]

    assert len(parts) >= 5
    assert [True] * (len(parts) - 1) + [False] == [part.data["more"] for part in parts]
    assert [None] * (len(parts) - 1) == [part.id for part in parts[:-1]]
    assert parts[-1].id == parts[-1].data["cursor"]
    assert all(len(json.dumps(part.data, separators=(",", ":"))) <= 65_536 for part in parts)
    ids = [job["id"] for part in parts for job in part.data["jobs"]]
    assert (made, 30) == (set(ids), len(ids))


# Resuming


async def resumed(world: World, cursor: str, *, by_header: bool = False) -> list[Frame]:
    """
    What a stream tells until it has caught up.
    """
    headers = {"Last-Event-ID": cursor} if by_header else {}
    params = {} if by_header else {"after": cursor}
    async with world.guest.stream(headers=headers, **params) as frames:
        return await frames.until("ready")


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_resume_tells_what_came_after_the_cursor_and_nothing_else(world: World, *, by_header: bool) -> None:
    """
    From any position of the log, by Last-Event-ID or after=, exactly the rest comes, in order.
    """
    for _ in range(6):
        await world.guest.made()
    epoch = (await world.head())["epoch"]

    for position in range(7):
        seen = await resumed(world, f"{epoch}.{position}", by_header=by_header)
        assert ["hello", *["job"] * (6 - position), "ready"] == names(seen)
        assert list(range(position + 1, 7)) == positions(seen)
        assert f"{epoch}.{position}" == seen[0].data["cursor"]


async def test_last_event_id_wins_over_after(world: World) -> None:
    """
    A browser that reconnects to the same URL goes on where it was.
    """
    for _ in range(4):
        await world.guest.made()
    epoch = (await world.head())["epoch"]

    async with world.guest.stream(headers={"Last-Event-ID": f"{epoch}.3"}, after=f"{epoch}.1") as frames:
        seen = await frames.until("ready")

    assert [4] == positions(seen)


async def test_a_cursor_survives_a_restart_and_old_events_come_from_the_store(tmp_path: Path) -> None:
    """
    The same frames, in content, whether they come from memory or from the log; but for progress of which more is known.
    """
    async with started(tmp_path / "jobs.db") as world, world.guest.stream() as frames:
        cursor = (await frames.until("ready"))[0].data["cursor"]
        await a_life(world)
        live = await frames.until_type("job.completed")

    async with started(tmp_path / "jobs.db") as world:
        later = await resumed(world, cursor)

    lasting = [frame for frame in live if frame.data["type"] != "job.progressed"]
    assert [frame.data for frame in lasting] == [frame.data for frame in later if frame.event == "job"]
    assert [frame.id for frame in lasting] == [frame.id for frame in later if frame.event == "job"]


async def a_life(world: World) -> None:
    """
    A job that is made, given back, tried in vain, told about and completed.
    """
    await world.guest.made(input={"n": 2**70}, title="t")
    await world.worker.report(await world.worker.claim(), "release")
    await world.worker.report(await world.worker.claim(), "fail", error={"code": "x"}, retry_after_s=0)
    (grant,) = await world.worker.claims(wait_s=10)
    await world.worker.report(grant, "progress", percent=1, message="m", data={"n": 2**70})
    await world.worker.complete(grant, {"n": 2**70})


async def test_a_small_ring_loses_nothing(start: Starter) -> None:
    """
    What the ring no longer holds is read from the log, and both parts join without gap or repeat.
    """
    world = await start(ring_events_max=4)
    for _ in range(20):
        await world.guest.made()
    epoch = (await world.head())["epoch"]

    async with world.guest.stream(after=f"{epoch}.2") as frames:
        caught_up = await frames.until("ready")
        await world.guest.made()
        after = await frames.next()

    assert list(range(3, 21)) == positions(caught_up)
    assert 21 == after.data["position"]


@pytest.mark.parametrize(
    "cursor",
    [
        "{epoch}.4000",
        "0123456789abcdef.1",
        "{epoch}.99999999999999999999999999",
        "{epoch}.-1",
        "{epoch}.01",
        "{epoch}.",
        "{epoch}.1.1",
        "{epoch}",
        ".1",
        ".",
        "garbage",
        "0",
        "%00",
        "\u2028",
        "x" * 10_000,
        "{epoch}." + "1" * 5_000,
    ],
)
@pytest.mark.parametrize("by_header", [True, False])
async def test_a_bad_cursor_is_told_in_band(world: World, cursor: str, *, by_header: bool) -> None:
    """
    From the future, of another epoch, or nonsense of any size: never an HTTP error, but reset, then snapshot and ready.
    """
    job = await world.guest.made()
    text = cursor.replace("{epoch}", (await world.head())["epoch"])

    seen = await resumed(world, text, by_header=by_header and text.isascii())

    assert ["hello", "reset", "snapshot", "ready"] == names(seen)
    assert {"reason", "requested"} == seen[1].data.keys()
    assert (None, None) == (seen[0].id, seen[1].id)
    assert [job] == seen[2].data["jobs"]


async def test_events_committed_while_streams_open_are_neither_lost_nor_doubled(world: World) -> None:
    """
    Streams opened at every moment of a busy log: snapshot plus frames is exactly what happened.
    """
    finished = asyncio.Event()

    async def keep_going() -> None:
        for _ in range(30):
            await asyncio.gather(*(world.guest.made() for _ in range(4)))
            grants = await world.worker.claims(max=3)
            await asyncio.gather(*(world.worker.complete(grant) for grant in grants))
        finished.set()
        # For whoever waits for one more frame.
        await world.guest.made()

    async def watch() -> None:
        while not finished.is_set():
            async with world.viewer.stream() as frames:
                seen = await frames.until("ready")
                seen += [await frames.next() for _ in range(5) if not finished.is_set()]
            watched.append(seen)

    watched: list[list[Frame]] = []
    await asyncio.gather(keep_going(), *(watch() for _ in range(4)))

    log = await world.log()
    assert len(watched) > 10
    for seen in watched:
        assert_joins(seen, log)


def assert_joins(seen: list[Frame], log: list[JSON]) -> None:
    """
    The snapshot is the fold of the log up to its cursor, and the frames are what follows without a hole.
    """
    snapshot = [frame for frame in seen if frame.event == "snapshot"]
    start = int(snapshot[-1].data["cursor"].partition(".")[2])
    alive: dict[str, int] = {}
    for event in log[:start]:
        alive[event["job_id"]] = event["version"]
        if event["type"] == "job.completed":
            del alive[event["job_id"]]
    shown = {job["id"]: job["version"] for part in snapshot for job in part.data["jobs"]}
    assert alive == shown
    told = positions(seen)
    assert list(range(start + 1, start + 1 + len(told))) == told


async def test_a_reader_that_is_cut_again_and_again_misses_and_repeats_nothing(world: World) -> None:
    """
    Reconnecting with the last id that it saw, it has every event once, in order.
    """
    seen: list[int] = []
    epoch = (await world.head())["epoch"]
    cursor = f"{epoch}.0"

    async def read_on() -> None:
        nonlocal cursor
        while len(seen) < 120:
            async with world.viewer.stream(after=cursor) as frames:
                for _ in range(7):
                    frame = await frames.next()
                    cursor = frame.id or cursor
                    seen.extend(positions([frame]))
                    if len(seen) >= 120:
                        return

    async def make() -> None:
        for _ in range(120):
            await world.guest.made()

    async with asyncio.timeout(PATIENCE_S * 2):
        await asyncio.gather(read_on(), make())

    assert list(range(1, 121)) == seen


# Quiet times and farewells


async def test_an_idle_stream_has_a_heartbeat_with_a_digest(start: Starter) -> None:
    """
    An hb carries the cursor and the digest of what this stream shows.
    """
    world = await start(heartbeat_s=0.05)
    jobs = [await world.guest.made() for _ in range(3)]
    await world.stranger.made()

    async with world.guest.stream() as frames:
        heartbeat = (await frames.until("hb"))[-1]

    assert {"cursor": f"{(await world.head())['epoch']}.4", "digest": digest(jobs)} == heartbeat.data
    assert heartbeat.id == heartbeat.data["cursor"]


def digest(jobs: list[JSON]) -> str:
    """
    XOR of FNV-1a-32 over ``<id>:<version>``, as the contract has it.
    """
    total = 0
    for job in jobs:
        state = 0x811C9DC5
        for byte in f"{job['id']}:{job['version']}".encode():
            state = (state ^ byte) * 0x01000193 % 2**32
        total ^= state
    return f"{total:08x}"


async def test_who_is_told_something_needs_no_heartbeat(start: Starter) -> None:
    """
    Streams that see the same, and are told of something well within each heartbeat's time, have one when that is over.
    """
    world = await start(heartbeat_s=1.5)

    async with world.guest.stream() as one, world.guest.stream() as other:
        for frames in (one, other):
            await frames.until("ready")
        for _ in range(20):
            await asyncio.sleep(0.1)
            await world.guest.made()
        told = [await frames.until("hb") for frames in (one, other)]

    assert [[*["job"] * 20, "hb"]] * 2 == [[frame.event for frame in frames] for frames in told]


async def test_the_digest_is_over_what_this_stream_shows(start: Starter) -> None:
    """
    A stream narrowed by kind has the digest of that kind's jobs, as they stand after the last event.
    """
    world = await start(heartbeat_s=0.05)
    await world.guest.made(kind="other")
    job = await world.guest.made(kind="mine")
    await world.worker.claim(kinds=["mine"])

    async with world.guest.stream(kind="mine") as frames:
        heartbeat = (await frames.until("hb"))[-1]

    assert digest([{"id": job["id"], "version": 2}]) == heartbeat.data["digest"]


async def test_the_digest_of_an_empty_list_is_zeros(start: Starter) -> None:
    """
    Nothing active: eight zeros.
    """
    world = await start(heartbeat_s=0.05)

    async with world.guest.stream() as frames:
        heartbeat = (await frames.until("hb"))[-1]

    assert "00000000" == heartbeat.data["digest"]


async def test_the_ninth_stream_of_a_principal_sends_the_oldest_away(start: Starter) -> None:
    """
    It gets bye superseded, with a retry so long that the old tab does not take the place back.
    """
    world = await start(streams_per_principal_max=2)

    async with world.guest.stream() as first, world.guest.stream() as second:
        await first.until("ready")
        await second.until("ready")
        async with world.guest.stream() as third, world.stranger.stream() as other:
            farewell = await first.rest()
            await third.until("ready")
            await other.until("ready")

    assert ["bye"] == names(farewell)
    assert ("superseded", 300_000, None) == (farewell[0].data["reason"], farewell[0].retry, farewell[0].id)
    assert ["hello", "snapshot", "ready"] == names(second.seen)


async def test_one_stream_too_many_for_the_service_is_overload(start: Starter) -> None:
    """
    It is told in band when to come back.
    """
    world = await start(streams_total_max=1)

    async with world.guest.stream() as first:
        await first.until("ready")
        async with world.stranger.stream() as second:
            seen = await second.rest()

    assert "bye" == seen[-1].event
    assert "overload" == seen[-1].data["reason"]
    assert seen[-1].retry is not None


async def test_a_stream_ends_when_its_token_does(world: World) -> None:
    """
    It gets bye expired, so that the client fetches another.
    """
    short = world.caller("guest", "short", ttl_s=1.05)

    async with short.stream() as frames:
        seen = await frames.rest()

    assert ["hello", "snapshot", "ready", "bye"] == names(seen)
    assert "expired" == seen[-1].data["reason"]


async def test_a_draining_service_says_so_to_every_stream(tmp_path: Path) -> None:
    """
    Each gets bye drain with a retry of its own, one that comes late too, and readyz is 503.
    """
    async with started(tmp_path / "jobs.db") as world, world.guest.stream() as one, world.stranger.stream() as other:
        await one.until("ready")
        await other.until("ready")
        await world.service.streams.drain(1)
        seen = [await frames.rest() for frames in (one, other)]
        async with world.guest.stream() as late:
            seen.append((await late.rest())[-1:])
        ready = await world.nobody.get("/readyz")

    assert [["bye"]] * 3 == [names(frames) for frames in seen]
    assert {"drain"} == {frames[-1].data["reason"] for frames in seen}
    assert (503, "draining") == (ready.status, ready.code)


async def test_a_reader_that_goes_leaves_nothing_behind(world: World) -> None:
    """
    A closed connection is no stream any more, whether or not something happens.
    """
    async with world.guest.stream() as frames:
        await frames.until("ready")
        before = len(world.service.streams)

    await until(lambda: len(world.service.streams) == 0)

    assert 1 == before
    assert 0 == len(world.service.feed)


async def test_a_reader_that_takes_nothing_is_cut_and_hurts_nobody(start: Starter) -> None:
    """
    After the stall time its connection is gone, while another reader of the same events had them all.
    """
    world = await start(stream_stall_s=0.2, active_per_owner_max=10_000)
    stuck = await stuck_reader(world)
    await until(lambda: len(world.service.streams) == 1)
    jobs = [{"kind": "work", "input": "x" * 15_000}] * 60
    async with world.caller("guest", "ann2").stream() as idle, world.viewer.stream() as frames:
        await idle.until("ready")
        await frames.until("ready")

        made = 0
        while len(world.service.streams) == 3:
            answer = await world.guest.post("/api/jobs/batch", {"jobs": jobs})
            assert {201} == {result["status"] for result in answer.body["results"]}
            made += 60
            seen = [await frames.next() for _ in range(60)]
            assert list(range(made - 59, made + 1)) == positions(seen)
            assert made < 3_000

    assert made > 0
    stuck.close()


async def stuck_reader(world: World) -> socket.socket:
    """
    A connection that asks for a stream and never reads.
    """
    host, port = world.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)  # noqa: FBT003  # the name that it has
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (host, int(port)))
    head = f"GET /api/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: {world.guest.headers['Authorization']}\r\n\r\n"
    await loop.sock_sendall(connection, head.encode())
    return connection


# What is in the frames


NASTY = (
    "line\nfeed",
    "car\r\nriage",
    "nul\x00",
    "sep\u2028\u2029",
    "lone\ud800",
    "\x1b[31m",
    "😀",
    "data: x\n\nevent: error",
)


@pytest.mark.parametrize("text", NASTY)
async def test_nasty_text_stays_inside_its_frame(world: World, text: str) -> None:
    """
    Whatever stands in title, key or message, it comes back as it was or was refused, and the frames stay whole.
    """
    content = json.dumps({"kind": "work", "title": text, "key": text, "input": {"t": text}}).encode()
    async with world.guest.stream() as frames:
        await frames.until("ready")
        answer = await world.guest.send(
            "POST", "/api/jobs", content=content, headers={"Content-Type": "application/json"}
        )
        if answer.status != 201:
            assert answer.code in {"invalid", "malformed"}
            assert answer.status in {400, 422}
            await world.guest.made()
            assert [1] == positions([await frames.next()])
            return
        grant = await world.worker.claim()
        await world.worker.report(grant, "progress", percent=1, message=text)
        progressed = (await frames.until_type("job.progressed"))[-1]

    job = progressed.data["job"]
    assert (text, text, {"t": text}, text) == (job["title"], job["key"], job["input"], job["progress"]["message"])
    assert text == (await world.guest.active(key=text))[0]["key"]


async def test_json_with_newlines_in_input_keeps_frames_on_one_line(world: World) -> None:
    """
    Pretty-printed input, with every kind of line end between its tokens, is one data line in every frame.
    """
    content = b'{"kind": "work",\r\n "input": {\n\t"a": [1,\r2],\r\n"b": "x"},\n"metadata": {\n"m":\n1}}'

    async with world.guest.stream() as frames:
        await frames.until("ready")
        answer = await world.guest.send(
            "POST", "/api/jobs", content=content, headers={"Content-Type": "application/json"}
        )
        created = await frames.next()
        grant = await world.worker.claim()
        report = json.dumps({"lease_token": grant.lease_token, "result": {"r": [1, 2]}}, indent=2).encode()
        done = await world.worker.send(
            "POST",
            f"/api/worker/jobs/{grant.id}/complete",
            content=report,
            headers={"Content-Type": "application/json"},
        )
        completed = (await frames.until_type("job.completed"))[-1]

    assert (201, 200) == (answer.status, done.status)
    assert ({"a": [1, 2], "b": "x"}, {"m": 1}) == (created.data["job"]["input"], created.data["job"]["metadata"])
    assert {"r": [1, 2]} == completed.data["job"]["result"]


async def test_large_input_is_left_out_of_frames_and_named(world: World) -> None:
    """
    Above 16 KiB it is omitted from snapshot and job frames.
    """
    async with world.guest.stream() as frames:
        await frames.until("ready")
        await world.guest.made(input="x" * 20_000)
        frame = await frames.next()

    assert "input" not in frame.data["job"]
    assert ["input"] == frame.data["job"]["omitted"]


async def test_progress_that_is_superseded_may_be_left_out_but_states_never(world: World) -> None:
    """
    A reader that resumes has every state event; of progress it need not have what a later event supersedes.
    """
    epoch = (await world.head())["epoch"]
    await world.guest.made()
    grant = await world.worker.claim(lease_s=600)
    for percent in range(5):
        await world.worker.report(grant, "progress", percent=percent)
        world.clock.advance(1)
    await world.worker.complete(grant)

    seen = await resumed(world, f"{epoch}.0")

    types = [frame.data["type"] for frame in seen if frame.event == "job"]
    states = [kind for kind in types if kind != "job.progressed"]
    assert ["job.created", "job.started", "job.completed"] == states
    assert 4 == seen[-2].data["job"]["progress"]["percent"]
    assert sorted(positions(seen)) == positions(seen)
