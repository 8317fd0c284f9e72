from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.http.world import World

EVENT = {"position", "job_id", "version", "type", "at", "actor", "request_id", "data", "chain"}


async def test_a_job_s_history_is_all_that_happened_to_it_in_order(world: World) -> None:
    """
    Each event has its place, version, moment, type and data; versions run from 1 without a hole.
    """
    job = await world.guest.made(input={"a": 1})
    await world.stranger.made()
    grant = await world.worker.claim(kinds=["work"])
    await world.worker.report(grant, "progress", percent=50, message="half")
    await world.worker.complete(grant, {"n": 1})

    body = (await world.guest.get(f"/api/jobs/{job['id']}/events")).body

    events = body["events"]
    assert body["next"] is None
    assert ["job.created", "job.started", "job.progressed", "job.completed"] == [event["type"] for event in events]
    assert [1, 2, 3, 4] == [event["version"] for event in events]
    assert all(event.keys() == EVENT for event in events)
    assert {job["id"]} == {event["job_id"] for event in events}
    assert sorted(event["at"] for event in events) == [event["at"] for event in events]
    assert {"a": 1} == events[0]["data"]["input"]
    assert (50, "half") == (events[2]["data"]["percent"], events[2]["data"]["message"])
    assert {"n": 1} == events[3]["data"]["result"]


async def test_guests_and_users_see_of_the_actor_only_the_role(world: World) -> None:
    """
    Who works behind the service is not a guest's business; operators and viewers see it.
    """
    job = await world.guest.made()
    await world.worker.claim()
    path = f"/api/jobs/{job['id']}/events"

    shown = [
        [event["actor"] for event in (await caller.get(path)).body["events"]]
        for caller in (world.guest, world.viewer, world.operator)
    ]

    full = ["guest:ann", "worker:w1"]
    assert [["guest", "worker"], full, full] == shown


async def test_history_comes_in_pages(world: World) -> None:
    """
    Limit and after walk through it, each event once.
    """
    job = await world.guest.made()
    for _ in range(3):
        await world.worker.report(await world.worker.claim(), "release")
    path = f"/api/jobs/{job['id']}/events"

    versions: list[int] = []
    after: int | None = 0
    while after is not None:
        body = (await world.guest.get(path, limit=2, after=after)).body
        versions += [event["version"] for event in body["events"]]
        after = body["next"]

    assert [1, 2, 3, 4, 5, 6, 7] == versions


async def test_the_caller_s_request_id_is_kept_with_the_event(world: World) -> None:
    """
    A sane X-Request-Id stands in the event, so that a call can be found in the log.
    """
    job = (await world.guest.create(headers={"X-Request-Id": "trace-42"})).job

    (event,) = (await world.guest.get(f"/api/jobs/{job['id']}/events")).body["events"]

    assert "trace-42" == event["request_id"]


async def test_the_log_has_every_job_s_events_for_operators(world: World) -> None:
    """
    Positions run from 1 without a hole, and filters by job and type narrow.
    """
    first, second = await world.guest.made(), await world.stranger.made()
    await world.guest.cancel(first["id"])

    events = await world.log()
    of_second = (await world.operator.get("/api/log", job=second["id"])).body["events"]
    cancelled = (await world.operator.get("/api/log", type="job.cancelled")).body["events"]

    assert [1, 2, 3] == [event["position"] for event in events]
    assert [2] == [event["position"] for event in of_second]
    assert [3] == [event["position"] for event in cancelled]
    head = await world.head()
    assert (3, events[-1]["chain"]) == (head["position"], head["chain"])


async def test_the_log_comes_as_lines_too(world: World) -> None:
    """
    Accept application/x-ndjson gives one event a line, resumable by position.
    """
    for _ in range(3):
        await world.guest.made()

    answer = await world.operator.get("/api/log", after=1, headers={"Accept": "application/x-ndjson"})

    assert "application/x-ndjson" in answer.headers["Content-Type"]
    assert 2 == answer.content.count(b"\n")
    assert answer.content.endswith(b"}\n")
