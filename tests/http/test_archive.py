"""
What users, operators and streams notice of the archive: nothing is lost, and old jobs leave the lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobsvc.operate.verify import verify
from jobsvc.operate.views import rebuild
from projections.active import Active
from projections.history import History
from projections.runner import replay
from tests.http.client import until
from tests.http.test_claim_sessions import claim, ended
from tests.http.world import started
from tests.system.logs import caught_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.conftest import Starter
    from tests.http.world import World

DAY_S = 86_400.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """
    A world in which nothing is archived but when it is asked for.
    """
    async with started(tmp_path / "jobs.db", archive_older_than_s=0) as fresh:
        yield fresh


async def archive(world: World, **fields: JSON) -> JSON:
    """
    What the verb answers, once the projections have taken in everything.
    """
    await caught_up(world)
    return (await world.operator.post("/api/operator/archive", fields or {"older_than_s": 0})).body


async def test_a_client_of_forty_days_ago_is_reset_to_the_right_list(world: World) -> None:
    """
    It had seen a job run that has ended and was archived meanwhile: the reset and the snapshot leave no ghost of it.
    """
    ghost = await world.guest.made(key="ghost")
    grant = await world.worker.claim(lease_s=3_600)
    async with world.guest.stream() as frames:
        seen = await frames.until("ready")
    cursor = seen[-1].id
    await world.worker.complete(grant, {"n": 1})
    world.clock.advance(40 * DAY_S)
    now_active = await world.guest.made(key="new")

    report = await archive(world, older_than_s=30 * DAY_S)
    async with world.guest.stream(after=cursor) as frames:
        again = await frames.until("ready")

    assert 1 == report["jobs"]
    assert [ghost["id"]] == [job["id"] for frame in seen if frame.event == "snapshot" for job in frame.data["jobs"]]
    assert ["hello", "reset", "snapshot", "ready"] == [frame.event for frame in again]
    assert {"reason": "too-old", "requested": cursor} == again[1].data
    assert [now_active["id"]] == [job["id"] for job in again[2].data["jobs"]]
    assert [now_active] == await world.guest.active()


async def test_whoever_is_not_behind_the_archive_resumes(world: World) -> None:
    """
    A cursor at the newest archived event or above it misses nothing.
    """
    await ended(world.guest, world, key="old")
    through = (await archive(world))["archived_through"]
    new = await world.guest.made(key="new")
    epoch = (await world.head())["epoch"]

    async with world.guest.stream(after=f"{epoch}.{through}") as frames:
        told = await frames.until("ready")

    assert ["hello", "job", "ready"] == [frame.event for frame in told]
    assert new["id"] == told[1].data["job"]["id"]


async def test_an_archived_job_answers_its_owner_and_stands_in_no_list(world: World) -> None:
    """
    Read, history, stream, cancel, cleanup and retry work by its id; lists leave it out, and reuse makes it anew.
    """
    job = await ended(world.guest, world, key="old", input={"deep": [1]})
    before = (await world.guest.get(f"/api/jobs/{job['id']}")).body
    events = (await world.guest.get(f"/api/jobs/{job['id']}/events")).body

    await archive(world)

    assert before == (await world.guest.get(f"/api/jobs/{job['id']}")).body
    assert events == (await world.guest.get(f"/api/jobs/{job['id']}/events")).body
    async with world.guest.stream(f"/api/jobs/{job['id']}/events") as frames:
        assert ["hello", "snapshot", "ready", "end"] == [frame.event for frame in await frames.rest()]
    cleanup = await world.guest.clean_up(job["id"])
    assert (200, {"success": True, "removed": False, "reason": "already_ended"}) == (cleanup.status, cleanup.body)
    assert 200 == (await world.guest.cancel(job["id"])).status
    assert [403, 403] == [
        (await world.stranger.get(f"/api/jobs/{job['id']}")).status,
        (await world.stranger.clean_up(job["id"])).status,
    ]
    assert [] == (await world.guest.get("/api/jobs")).body["jobs"]
    assert [] == (await world.operator.get("/api/jobs", key="old")).body["jobs"]
    again = await world.guest.create(key="old", dedup={"on_completed": "reuse"})
    assert (201, False) == (again.status, again.body["deduplicated"])
    await world.guest.cancel(again.job["id"])
    assert job["id"] == (await world.guest.retry(job["id"])).job["retry_of"]


async def test_the_log_is_read_on_through_segments_and_verifies(world: World) -> None:
    """
    The same events over HTTP as before, the same replay, and every view is what its replay makes, rebuilt or not.
    """
    for number in range(20):
        await ended(world.guest, world, key=f"old-{number}")
    await world.guest.made(key="goes-on")
    log, store = await world.log(), world.service.store

    report = await archive(world)

    assert 20 == report["jobs"]
    assert log == await world.log()
    assert [e for e in log if e["type"] == "job.completed"] == (
        await world.operator.get("/api/log", type="job.completed")
    ).body["events"]
    assert 20 == len((await replay(store, History())).rows)
    assert 1 == len((await replay(store, Active())).rows)
    assert [] == (await verify(store)).findings
    for view in ("active", "keys", "history", "counts"):
        await rebuild(store, view, alone=world.service.ledger.alone)
    assert [] == (await verify(store)).findings
    assert 1 == len((await world.guest.get("/api/jobs")).body["jobs"])


async def test_the_service_archives_by_itself(start: Starter) -> None:
    """
    What has been still for as long as the setting says, and nothing younger.
    """
    world = await start(archive_older_than_s=30 * DAY_S, archive_every_s=1.0)
    old = await ended(world.guest, world, key="old")
    world.clock.advance(31 * DAY_S)
    young = await ended(world.guest, world, key="young")

    await until(lambda: world.service.ledger.memory.archived_through > 0)

    assert [young["id"]] == [job["id"] for job in (await world.guest.get("/api/jobs")).body["jobs"]]
    assert old == await world.guest.read(old["id"])


async def test_the_archive_stops_at_a_projection_s_checkpoint(world: World) -> None:
    """
    What a view that catches up has not taken in yet stays where it is, and the answer says on whose account.
    """
    await ended(world.guest, world, key="taken-in")
    await caught_up(world)
    await world.service.runner.stop()
    await ended(world.guest, world, key="not-yet")

    report = (await world.operator.post("/api/operator/archive", {"older_than_s": 0})).body

    assert (1, 3, "counts") == (report["jobs"], report["archived_through"], report["held_back_by"])


async def test_archived_jobs_of_a_claimed_guest_become_the_user_s(world: World) -> None:
    """
    However many there are beside those that are not archived; the stream of each goes on with the change.
    """
    old = [await ended(world.guest, world, key=f"old-{number}") for number in range(3)]
    await archive(world)
    young = await ended(world.guest, world, key="young")

    answer = await claim(world.user, world.guest)

    assert {"moved": 4, "merged": 0} == answer.body
    assert [world.user.owner] * 3 == [(await world.user.read(job["id"]))["owner"] for job in old]
    assert [young["id"]] == [job["id"] for job in (await world.user.get("/api/jobs")).body["jobs"]]
    assert "job.owner_changed" in await world.user.types(old[0]["id"])
    assert 4 == (await archive(world))["jobs"]
    assert [] == (await verify(world.service.store)).findings
    assert world.user.owner == (await world.user.read(old[0]["id"]))["owner"]


async def test_a_report_that_comes_again_for_an_archived_job_has_its_first_answer(world: World) -> None:
    """
    The same completion is 200 as ever, another under an old fence is refused and kept.
    """
    await world.guest.made(key="old")
    grant = await world.worker.claim()
    first = await world.worker.report(grant, "complete", result=1)
    await archive(world)

    again = await world.worker.report(grant, "complete", result=1)
    other = await world.worker.report(grant, "complete", result=2)

    assert (200, first.body) == (again.status, again.body)
    assert (409, "lease-lost") == (other.status, other.code)
    assert "job.late_result" == (await world.guest.types(grant.id))[-1]
