from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, get_args

from jobsvc.domain.events import EventType
from jobsvc.domain.moments import rfc3339
from jobsvc.framing import FrameName
from jobsvc.http.frames import ByeReason, ResetReason
from tests.http.described import FRAME, errors_of
from tests.system.logs import caught_up

if TYPE_CHECKING:
    from tests.http.client import JSON, Frame
    from tests.http.conftest import Starter
    from tests.http.world import World

SUPERSEDED: Final = {"job.progressed"}
"""
What a reader that resumes may not be told, since a later event of the job carries it.
"""
ERROR: Final = {"error": {"code": "x", "message": "gone"}}


async def all_that_can_happen(world: World) -> None:
    """
    An event of every type, in jobs of a guest and, after the last, of the user that it became.
    """
    later = rfc3339(world.clock.now() + 3_600_000_000)
    scheduled = await world.guest.made(run_at=later)
    world.clock.advance(3_601)
    await world.guest.reaches(scheduled["id"], "queued")
    for verb, fields in (("fail", ERROR | {"retry_after_s": 600}), ("release", {}), ("complete", {"result": {"n": 1}})):
        await world.guest.made(kind=verb, title="a title", metadata={"a": [1]}, input={"deep": {"er": None}})
        grant = await world.worker.claim(kinds=[verb], lease_s=600)
        await world.worker.report(grant, "progress", percent=12.5, message="on", data={"at": 1})
        await world.worker.report(grant, verb, **fields)
    await world.guest.made(kind="hopeless")
    await world.worker.report(await world.worker.claim(kinds=["hopeless"]), "fail", retryable=False, **ERROR)
    (hopeless,) = (await world.guest.get("/api/jobs", kind="hopeless")).body["jobs"]
    assert 200 == (await world.operator.post("/api/operator/erase", {"job_id": hopeless["id"]})).status
    await world.guest.made(kind="stopped", key="k")
    stopped = await world.worker.claim(kinds=["stopped"], lease_s=600)
    await world.guest.create(kind="stopped", key="k", dedup={"on_active": "run_after"})
    await world.guest.cancel(stopped.id)
    await world.guest.cancel(stopped.id, force=True)
    await world.worker.report(stopped, "complete", result=1)
    expiring = await world.guest.made(kind="expiring", deadline_s=60)
    await world.guest.made(kind="lost")
    lost = await world.worker.claim(kinds=["lost"], lease_s=30)
    world.clock.advance(61)
    await world.guest.reaches(expiring["id"], "expired")
    await world.guest.settled(lost.id, lambda job: bool(job["lost_leases"]))
    token = world.guest.token
    assert 200 == (await world.user.post("/api/sessions/claim", {"guest_token": token})).status


def missed(seen: list[Frame]) -> set[str]:
    """
    The event types that no frame told of.
    """
    return set(get_args(EventType)) - {frame.data["type"] for frame in seen if frame.event == "job"}


def assert_described(lines: list[JSON]) -> None:
    """
    Each of *lines* is a StreamFrame of the document, with nothing that it does not name.
    """
    assert [] == [gap for line in lines for gap in errors_of(FRAME, line)]


async def test_every_frame_of_every_kind_is_what_the_document_says(start: Starter) -> None:
    """
    Every type of event, a heartbeat, a snapshot in parts, a reset, an end, a bye: each holds what its schema names.
    """
    world = await start(heartbeat_s=0.05, snapshot_part_bytes_max=2_000)
    async with world.operator.stream() as live, world.guest.stream() as own:
        seen = await live.until("hb")
        await all_that_can_happen(world)
        seen += await live.until_type("job.owner_changed")
        seen += await own.rest()
    async with world.operator.stream(after="nothing") as again:
        seen += await again.until("ready")
    (completed,) = (await world.user.get("/api/jobs", state="completed")).body["jobs"]
    async with world.user.stream(f"/api/jobs/{completed['id']}/events") as ended:
        seen += await ended.rest()

    assert set() == missed(seen)
    assert set(get_args(FrameName)) == {frame.event for frame in seen}
    assert any(frame.data["more"] for frame in seen if frame.event == "snapshot")
    assert_described([frame.as_line() for frame in seen])


async def test_every_reason_of_a_reset_and_a_bye_is_what_the_document_says(start: Starter) -> None:
    """
    Whatever cursor cannot be served, and however a stream is sent away.
    """
    world = await start(streams_per_principal_max=1, streams_total_max=3)
    epoch = (await world.head())["epoch"]
    reasons = set()
    job = await world.guest.made()
    await world.guest.cancel(job["id"])
    await world.guest.made()
    await caught_up(world)
    assert 1 == (await world.operator.post("/api/operator/archive", {"older_than_s": 0})).body["jobs"]
    for cursor in ("nothing", "other.1", f"{epoch}.999", f"{epoch}.1"):
        async with world.viewer.stream(after=cursor) as frames:
            reasons |= {frame.data["reason"] for frame in await frames.until("reset") if frame.event == "reset"}
    farewells = []
    short = world.caller("user", "short", ttl_s=1.05)
    async with short.stream() as expired:
        farewells += await expired.rest()
    async with world.guest.stream() as first, world.guest.stream() as second:
        await second.until("ready")
        farewells += await first.rest()
        async with world.stranger.stream() as third, world.viewer.stream() as fourth, world.operator.stream() as fifth:
            await third.until("ready")
            await fourth.until("ready")
            farewells += await fifth.rest()
        await world.user.post("/api/sessions/claim", {"guest_token": world.guest.token})
        farewells += await second.rest()
    async with world.stranger.stream() as last:
        await last.until("ready")
        await world.service.streams.drain(1)
        farewells += await last.rest()

    byes = {frame.data["reason"] for frame in farewells if frame.event == "bye"}
    assert reasons == set(get_args(ResetReason))
    assert byes == set(get_args(ByeReason))


async def test_lines_and_long_polls_are_what_the_document_says(world: World) -> None:
    """
    The same frames in the other two forms.
    """
    await all_that_can_happen(world)
    epoch = (await world.head())["epoch"]
    headers = {"Accept": "application/x-ndjson"} | world.operator.headers
    lines: list[JSON] = []

    async with world.session.get(f"{world.url}/api/stream?after={epoch}.0", headers=headers) as response:
        while not lines or lines[-1]["event"] != "ready":
            lines.append(json.loads(await response.content.readline()))
    poll = await world.operator.get("/api/stream", wait_s=1, after=f"{epoch}.0")

    told = [line["data"]["type"] for line in lines if line["event"] == "job"]
    polled = [frame["data"]["type"] for frame in poll.body["frames"] if frame["event"] == "job"]
    assert set() == set(get_args(EventType)) - {*told} - SUPERSEDED
    assert told[: len(polled)] == polled
    assert_described([*lines, *poll.body["frames"]])
