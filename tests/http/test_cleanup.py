from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.world import World

NOWHERE = "01890000-0000-7000-8000-000000000000"


async def test_cleanup_by_another_guest_is_access_denied(world: World) -> None:
    """
    403 titled "Access denied", with success:false and error.message, and nothing changes.
    """
    job = await world.guest.made()

    answers = [await world.stranger.clean_up(job["id"], force=force) for force in (False, True)]

    for answer in answers:
        assert (403, "access-denied", "Access denied") == (answer.status, answer.code, answer.body["title"])
        assert answer.body["success"] is False
        assert answer.body["error"]["message"]
    assert 1 == await world.position()
    assert [job] == await world.guest.active()


async def test_cleanup_of_no_job_says_so_in_the_same_form(world: World) -> None:
    """
    404 carries success:false and error.message as well, as does 401.
    """
    answers = [
        await world.guest.clean_up(NOWHERE),
        await world.guest.clean_up("nonsense"),
        await world.nobody.clean_up(NOWHERE),
        await world.guest.post(f"/api/jobs/cleanup/{NOWHERE}", {"unknown": 1}),
        await world.guest.send("GET", f"/api/jobs/cleanup/{NOWHERE}"),
    ]

    assert [404, 404, 401, 422, 405] == [answer.status for answer in answers]
    assert all(answer.body["success"] is False for answer in answers)
    assert all(answer.body["error"]["message"] for answer in answers)


async def test_cleanup_of_an_ended_job_is_harmless_and_repeatable(world: World) -> None:
    """
    already_ended, however often, and nothing is written.
    """
    job = await world.guest.made()
    await world.worker.complete(await world.worker.claim())
    before = await world.head()

    answers = [await world.guest.clean_up(job["id"]) for _ in range(3)]

    expected = {"success": True, "removed": False, "reason": "already_ended"}
    assert [(200, expected)] * 3 == [(answer.status, answer.body) for answer in answers]
    assert before == await world.head()


async def test_a_job_whose_lease_has_passed_is_ended_now(world: World) -> None:
    """
    Lease over and not yet swept: removed as expired.
    """
    job = await world.guest.made()
    grant = await world.worker.claim(lease_s=1)
    world.stop_sweeping()
    world.clock.advance(2)

    answer = await world.guest.clean_up(job["id"])

    assert (200, {"success": True, "removed": True, "reason": "expired"}) == (answer.status, answer.body)
    assert "expired" == (await world.guest.read(job["id"]))["state"]
    assert "lease-lost" == (await world.worker.report(grant, "complete")).code


async def test_a_job_whose_deadline_has_passed_is_ended_now(world: World) -> None:
    """
    Deadline over and not yet swept: removed as expired; repeated: already ended.
    """
    job = await world.guest.made(deadline_s=1)
    world.stop_sweeping()
    world.clock.advance(2)

    answers = [await world.guest.clean_up(job["id"]) for _ in range(2)]

    assert [(True, "expired"), (False, "already_ended")] == [
        (answer.body["removed"], answer.body["reason"]) for answer in answers
    ]
    assert [] == await world.guest.active()


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
async def test_a_job_with_a_right_to_be_there_stays(world: World, state: str) -> None:
    """
    Waiting or held by a live worker: 409 job-active with the job, and nothing changes.
    """
    job = await world.guest.made()
    if state != "queued":
        await world.worker.claim()
    if state == "cancelling":
        await world.guest.cancel(job["id"])
    before = await world.position()

    answer = await world.guest.clean_up(job["id"])

    assert (409, "job-active", state) == (answer.status, answer.code, answer.job["state"])
    assert (False, True) == (answer.body["success"], bool(answer.body["error"]["message"]))
    assert before == await world.position()


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
async def test_force_removes_an_active_job(world: World, state: str) -> None:
    """
    removed:true, cancelled; the list is without it and its worker's lease is void.
    """
    job = await world.guest.made()
    if state != "queued":
        await world.worker.claim()
    if state == "cancelling":
        await world.guest.cancel(job["id"])

    answer = await world.guest.clean_up(job["id"], force=True)

    assert (200, {"success": True, "removed": True, "reason": "cancelled"}) == (answer.status, answer.body)
    assert [] == await world.guest.active()
    assert "cancelled" == (await world.guest.read(job["id"]))["state"]


async def test_cleanups_at_once_remove_once(world: World) -> None:
    """
    Of many forced cleanups one removes, the others find the job ended.
    """
    job = await world.guest.made()

    answers = await asyncio.gather(*(world.guest.clean_up(job["id"], force=True) for _ in range(20)))

    assert [False] * 19 + [True] == sorted(answer.body["removed"] for answer in answers)
    assert ["job.created", "job.cancelled"] == await world.guest.types(job["id"])


async def test_service_and_operator_clean_up_for_the_owner(world: World) -> None:
    """
    A service in the owner's name, an operator in its own.
    """
    jobs = [await world.guest.made() for _ in range(2)]

    answers = [
        await world.backend.clean_up(jobs[0]["id"], force=True, owner=world.guest.owner),
        await world.operator.clean_up(jobs[1]["id"], force=True),
    ]
    wrong_owner = await world.backend.clean_up(jobs[0]["id"], owner=world.stranger.owner)

    assert [True, True] == [answer.body["removed"] for answer in answers]
    assert 403 == wrong_owner.status
