from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.world import World


async def test_a_waiting_job_is_cancelled_at_once(world: World) -> None:
    """
    Nobody works on it: 200 and the cancelled job.
    """
    job = await world.guest.made()

    answer = await world.guest.cancel(job["id"], reason="changed my mind")

    assert (200, "cancelled", "changed my mind") == (answer.status, answer.job["state"], answer.job["reason"])
    assert answer.job["finished_at"] is not None


async def test_a_scheduled_and_a_retrying_job_are_cancelled_at_once(world: World) -> None:
    """
    Waiting for a moment is waiting too.
    """
    later = datetime.fromtimestamp(world.clock.now() / 1e6).astimezone() + timedelta(hours=1)
    retrying = await world.guest.made()
    await world.worker.report(await world.worker.claim(), "fail", error={"code": "x"}, retry_after_s=60)
    scheduled = await world.guest.made(run_at=later.isoformat())

    answers = [await world.guest.cancel(job["id"]) for job in (scheduled, retrying)]

    assert [(200, "cancelled")] * 2 == [(answer.status, answer.job["state"]) for answer in answers]


async def test_a_running_job_is_cancelling_until_its_worker_stops(world: World) -> None:
    """
    202; the worker hears of it with its next report and ends it, and the key is free.
    """
    job = await world.guest.made(key="k")
    grant = await world.worker.claim()

    answer = await world.guest.cancel(job["id"])
    heartbeat = await world.worker.report(grant, "heartbeat")
    released = await world.worker.report(grant, "release")

    assert (202, "cancelling", True) == (answer.status, answer.job["state"], answer.job["active"])
    assert answer.job["cancel_requested"]
    assert (200, True) == (heartbeat.status, heartbeat.body["cancel_requested"])
    assert (200, "cancelled") == (released.status, released.job["state"])
    assert 201 == (await world.guest.create(key="k")).status


async def test_a_live_success_beats_a_pending_cancel(world: World) -> None:
    """
    A worker that completes while the cancel is pending has completed the job.
    """
    job = await world.guest.made()
    grant = await world.worker.claim()
    await world.guest.cancel(job["id"])

    completed = await world.worker.complete(grant, 1)

    assert ("completed", 1) == (completed["state"], completed["result"])


async def test_a_worker_that_does_not_stop_is_given_thirty_seconds(world: World) -> None:
    """
    When the grace is over the job is cancelled, and its lease counts for nothing.
    """
    job = await world.guest.made()
    grant = await world.worker.claim(lease_s=600)
    await world.guest.cancel(job["id"])

    world.clock.advance(31)
    ended = await world.guest.reaches(job["id"], "cancelled")

    assert not ended["active"]
    assert "lease-lost" == (await world.worker.report(grant, "complete")).code


async def test_force_does_not_wait_for_the_worker(world: World) -> None:
    """
    A forced cancel ends a running job, and one that is cancelling, at once.
    """
    running, cancelling = await world.guest.made(), await world.guest.made()
    await world.worker.claims(max=2)
    await world.guest.cancel(cancelling["id"])

    answers = [await world.guest.cancel(job["id"], force=True) for job in (running, cancelling)]

    assert [(200, "cancelled")] * 2 == [(answer.status, answer.job["state"]) for answer in answers]


async def test_repeating_a_cancel_changes_nothing(world: World) -> None:
    """
    A cancel of a job that is cancelling is 202 again, of an ended one 200, and neither writes.
    """
    running, ended = await world.guest.made(), await world.guest.made()
    await world.worker.claim()
    await world.guest.cancel(running["id"])
    await world.guest.cancel(ended["id"])
    before = await world.position()

    answers = [await world.guest.cancel(job["id"]) for job in (running, ended)]

    assert [(202, "cancelling"), (200, "cancelled")] == [(answer.status, answer.job["state"]) for answer in answers]
    assert before == await world.position()


async def test_a_completed_job_stays_completed(world: World) -> None:
    """
    Terminal is for ever: a cancel that comes too late says how it ended.
    """
    await world.guest.made()
    completed = await world.worker.complete(await world.worker.claim(), 1)

    answer = await world.guest.cancel(completed["id"], force=True)

    assert (200, completed) == (answer.status, answer.job)


@pytest.mark.parametrize("verb", ["cancel", "retry", "cleanup"])
async def test_if_match_with_another_version_is_412(world: World, verb: str) -> None:
    """
    A caller that saw an older version is told, with the job as it stands, and nothing changes.
    """
    job = await world.guest.made()
    await world.worker.claim()
    path = f"/api/jobs/cleanup/{job['id']}" if verb == "cleanup" else f"/api/jobs/{job['id']}/{verb}"

    stale = await world.guest.post(path, {}, headers={"If-Match": 'W/"1"'})
    nonsense = await world.guest.post(path, {}, headers={"If-Match": "nonsense"})

    assert (412, "version-mismatch", 2) == (stale.status, stale.code, stale.job["version"])
    assert (400, "malformed") == (nonsense.status, nonsense.code)
    assert 2 == await world.position()


async def test_if_match_with_the_version_that_stands_goes_through(world: World) -> None:
    """
    The tag of a read is good for a cancel.
    """
    job = await world.guest.made()
    tag = (await world.guest.get(f"/api/jobs/{job['id']}")).headers["ETag"]

    answer = await world.guest.post(f"/api/jobs/{job['id']}/cancel", {}, headers={"If-Match": tag})

    assert 200 == answer.status


async def test_another_s_job_cannot_be_cancelled(world: World) -> None:
    """
    403 for another's, 404 for none, and the log stays as it was; a service may for the owner it names.
    """
    job = await world.guest.made()
    nowhere = "01890000-0000-7000-8000-000000000000"

    refused = [await world.stranger.cancel(job["id"]), await world.stranger.cancel(nowhere)]
    before = await world.position()
    by_service = await world.backend.cancel(job["id"], owner=world.guest.owner)

    assert [(403, "access-denied"), (404, "not-found")] == [(answer.status, answer.code) for answer in refused]
    assert 1 == before
    assert 200 == by_service.status


async def test_an_operator_s_act_is_logged_with_actor_and_reason(world: World) -> None:
    """
    What an operator does to another's job can be read from its history.
    """
    job = await world.guest.made()

    await world.operator.cancel(job["id"], reason="incident 7")

    event = (await world.operator.get(f"/api/jobs/{job['id']}/events")).body["events"][-1]
    assert ("job.cancelled", "operator:olga", "incident 7") == (event["type"], event["actor"], event["data"]["reason"])
