from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.domain import commands as c
from jobsvc.domain import machine
from jobsvc.domain.errors import JobActive
from jobsvc.domain.machine import ROWS, build_machine, read_table
from jobsvc.domain.words import Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.http.client import JSON, Grant
    from tests.http.world import World

    Scenario = Callable[[World], Awaitable[None]]

ERROR: Final = {"code": "x"}
LATER_S: Final = 3_600.0
_SWEEPS: Final = 8
"""
How many fifths of a second the sweeper is given; it is due within a quarter of one.
"""


def later(world: World) -> str:
    """
    An hour from now.
    """
    from jobsvc.domain.moments import rfc3339  # noqa: PLC0415  # used here only

    return rfc3339(world.clock.now() + int(LATER_S * 1e6))


async def held(world: World, **fields: JSON) -> Grant:
    """
    A job in the hands of a worker.
    """
    await world.guest.made(**fields)
    return await world.worker.claim(lease_s=60)


async def cancelling(world: World, *, lease_s: float = 600) -> Grant:
    """
    A job whose worker has been asked to stop.
    """
    await world.guest.made(key="k")
    grant = await world.worker.claim(lease_s=lease_s)
    assert 202 == (await world.guest.cancel(grant.id)).status
    return grant


async def is_now(world: World, job_id: str, state: str) -> None:
    """
    The job is in *state* at this moment.
    """
    assert state == (await world.guest.read(job_id))["state"]


async def comes_to(world: World, job_id: str, state: str) -> None:
    """
    The sweeper brings the job to *state* before long.
    """
    job = await world.guest.read(job_id)
    for _ in range(_SWEEPS):
        if job["state"] != state:
            job = (await world.guest.get(f"/api/jobs/{job_id}", wait_s=0.2, since=job["version"])).job
    assert state == job["state"]


async def reported(world: World, grant: Grant, verb: str, state: str, **fields: JSON) -> None:
    """
    A report that is taken and leads to *state*.
    """
    answer = await world.worker.report(grant, verb, **fields)
    assert (200, state) == (answer.status, answer.job["state"])


# One scenario a row, in the order of the rows


async def create_for_later(world: World) -> None:
    """
    A job for later is scheduled.
    """
    assert "scheduled" == (await world.guest.made(run_at=later(world)))["state"]


async def create_for_now(world: World) -> None:
    """
    A job for now is queued.
    """
    assert "queued" == (await world.guest.made())["state"]


async def come_due(world: World) -> None:
    """
    A scheduled job is queued when its time comes.
    """
    job = await world.guest.made(run_at=later(world))
    world.clock.advance(LATER_S + 1)
    await comes_to(world, job["id"], "queued")


async def claim(world: World) -> None:
    """
    A claimed job runs.
    """
    assert "running" == (await held(world)).job["state"]


async def heartbeat(world: World) -> None:
    """
    A heartbeat is taken.
    """
    assert 200 == (await world.worker.report(await held(world), "heartbeat")).status


async def progress(world: World) -> None:
    """
    Progress is taken.
    """
    grant = await held(world)
    assert 200 == (await world.worker.report(grant, "progress", percent=1)).status


async def complete_held(world: World) -> None:
    """
    A held job is completed.
    """
    await reported(world, await held(world), "complete", "completed")


async def complete_lapsed(world: World) -> None:
    """
    A job whose lease lapsed and that nobody re-claimed is completed.
    """
    grant = await held(world)
    world.clock.advance(61)
    await world.guest.settled(grant.id, lambda job: bool(job["lost_leases"]))
    await reported(world, grant, "complete", "completed")


async def fail_with_attempts_left(world: World) -> None:
    """
    A failed attempt is tried again.
    """
    await reported(world, await held(world), "fail", "retrying", error=ERROR, retry_after_s=60)


async def fail_for_good(world: World) -> None:
    """
    A failure that must not be tried again fails the job.
    """
    await reported(world, await held(world), "fail", "failed", error=ERROR, retryable=False)


async def fail_cancelling(world: World) -> None:
    """
    A failure of a job that is to stop cancels it.
    """
    await reported(world, await cancelling(world), "fail", "cancelled", error=ERROR)


async def release_running(world: World) -> None:
    """
    A released job is queued again.
    """
    await reported(world, await held(world), "release", "queued")


async def release_cancelling(world: World) -> None:
    """
    A release of a job that is to stop cancels it.
    """
    await reported(world, await cancelling(world), "release", "cancelled")


async def keep_late_result(world: World) -> None:
    """
    A result that comes too late is kept.
    """
    grant = await held(world)
    await world.guest.cancel(grant.id, force=True)
    assert "lease-lost" == (await world.worker.report(grant, "complete", result=1)).code
    assert "job.late_result" == (await world.guest.types(grant.id))[-1]


async def lapse_with_losses_left(world: World) -> None:
    """
    A lost lease is tried again.
    """
    grant = await held(world)
    world.clock.advance(61)
    job = await world.guest.read(grant.id)
    for _ in range(_SWEEPS):
        if not job["lost_leases"]:
            job = (await world.guest.get(f"/api/jobs/{grant.id}", wait_s=0.2, since=job["version"])).job
    assert (1, True) == (job["lost_leases"], job["active"])


async def lapse_for_the_third_time(world: World) -> None:
    """
    The third lost lease fails the job.
    """
    job = await world.guest.made()
    for _ in range(3):
        assert await world.worker.claims(lease_s=60, wait_s=2)
        world.clock.advance(61)
    await comes_to(world, job["id"], "failed")


async def lapse_cancelling(world: World) -> None:
    """
    A lost lease of a job that is to stop cancels it.
    """
    grant = await cancelling(world, lease_s=1)
    world.clock.advance(2)
    await comes_to(world, grant.id, "cancelled")


async def end_grace(world: World) -> None:
    """
    A worker that does not stop is not waited for.
    """
    grant = await cancelling(world)
    world.clock.advance(31)
    await comes_to(world, grant.id, "cancelled")


async def expire(world: World) -> None:
    """
    A job past its deadline expires by itself.
    """
    job = await world.guest.made(deadline_s=5)
    world.clock.advance(6)
    await comes_to(world, job["id"], "expired")


async def cancel_with_force(world: World) -> None:
    """
    A forced cancel does not wait for the worker.
    """
    answer = await world.guest.cancel((await held(world)).id, force=True)
    assert (200, "cancelled") == (answer.status, answer.job["state"])


async def cancel_waiting(world: World) -> None:
    """
    A job that nobody holds is cancelled at once.
    """
    answer = await world.guest.cancel((await world.guest.made())["id"])
    assert (200, "cancelled") == (answer.status, answer.job["state"])


async def cancel_running(world: World) -> None:
    """
    A held job is asked to stop.
    """
    answer = await world.guest.cancel((await held(world)).id)
    assert (202, "cancelling") == (answer.status, answer.job["state"])


async def cancel_again(world: World) -> None:
    """
    A cancel may be repeated.
    """
    answer = await world.guest.cancel((await cancelling(world)).id)
    assert (202, "cancelling") == (answer.status, answer.job["state"])


async def cancel_ended(world: World) -> None:
    """
    A cancel that comes too late says how the job ended.
    """
    job = await world.worker.complete(await held(world))
    answer = await world.guest.cancel(job["id"])
    assert (200, "completed") == (answer.status, answer.job["state"])


async def clean_up_overdue(world: World) -> None:
    """
    A cleanup ends what is past its deadline.
    """
    job = await world.guest.made(deadline_s=5)
    world.stop_sweeping()
    world.clock.advance(6)
    answer = await world.guest.clean_up(job["id"])
    assert (200, {"success": True, "removed": True, "reason": "expired"}) == (answer.status, answer.body)


async def clean_up_lapsed(world: World) -> None:
    """
    A cleanup ends what is past its lease.
    """
    grant = await held(world)
    world.stop_sweeping()
    world.clock.advance(61)
    answer = await world.guest.clean_up(grant.id)
    assert (200, {"success": True, "removed": True, "reason": "expired"}) == (answer.status, answer.body)


async def clean_up_with_force(world: World) -> None:
    """
    A forced cleanup ends what is active.
    """
    job = await world.guest.made()
    answer = await world.guest.clean_up(job["id"], force=True)
    assert (200, {"success": True, "removed": True, "reason": "cancelled"}) == (answer.status, answer.body)


async def clean_up_ended(world: World) -> None:
    """
    A cleanup of an ended job is harmless.
    """
    job = await world.worker.complete(await held(world))
    answer = await world.guest.clean_up(job["id"])
    assert (200, {"success": True, "removed": False, "reason": "already_ended"}) == (answer.status, answer.body)


async def retry(world: World) -> None:
    """
    An ended job may be asked for again.
    """
    job = await world.worker.complete(await held(world))
    answer = await world.guest.retry(job["id"])
    assert (201, job["id"]) == (answer.status, answer.job["retry_of"])


async def supersede(world: World) -> None:
    """
    A job may be replaced.
    """
    job = await world.guest.made(key="k")
    assert 201 == (await world.guest.create(key="k", dedup={"on_active": "replace"})).status
    await is_now(world, job["id"], "cancelled")


async def give_way(world: World) -> None:
    """
    A job that is to stop does not hold its key.
    """
    grant = await cancelling(world)
    assert 201 == (await world.guest.create(key="k")).status
    await is_now(world, grant.id, "cancelled")


async def ask_followup(world: World) -> None:
    """
    A job may be asked for after another.
    """
    job = await world.guest.made(key="k")
    assert 200 == (await world.guest.create(key="k", dedup={"on_active": "run_after"})).status
    ended = await world.worker.complete(await world.worker.claim())
    assert job["id"] == (await world.guest.read(ended["followed_by"]))["follows"]


async def change_owner_of_active(world: World) -> None:
    """
    A claim.
    """
    job = await world.guest.made()
    answer = await world.user.post("/api/sessions/claim", {"guest_token": world.guest.token})
    assert {"moved": 1, "merged": 0} == answer.body
    assert [job["id"]] == [each["id"] for each in await world.user.active()]


async def change_owner_of_ended(world: World) -> None:
    """
    A claim, of what ended before it.
    """
    job = await world.worker.complete(await held(world))
    answer = await world.user.post("/api/sessions/claim", {"guest_token": world.guest.token})
    assert {"moved": 1, "merged": 0} == answer.body
    assert world.user.owner == (await world.user.read(job["id"]))["owner"]


async def erase(world: World) -> None:
    """
    Its way in over HTTP is an operator's; until there is one it goes through the ledger.
    """
    job = await world.worker.complete(await held(world, title="secret"))
    await world.service.ledger.execute(c.Erase(job["id"], Principal("operator", "olga")))
    erased = await world.operator.read(job["id"])
    assert ("erased", None) == (erased["owner"], erased["title"])


SCENARIOS: Final[tuple[Scenario, ...]] = (
    create_for_later,
    create_for_now,
    come_due,
    claim,
    heartbeat,
    progress,
    complete_held,
    complete_lapsed,
    fail_with_attempts_left,
    fail_for_good,
    fail_cancelling,
    release_running,
    release_cancelling,
    keep_late_result,
    lapse_with_losses_left,
    lapse_for_the_third_time,
    lapse_cancelling,
    end_grace,
    expire,
    cancel_with_force,
    cancel_waiting,
    cancel_running,
    cancel_again,
    cancel_ended,
    clean_up_overdue,
    clean_up_lapsed,
    clean_up_with_force,
    clean_up_ended,
    retry,
    supersede,
    give_way,
    ask_followup,
    change_owner_of_active,
    change_owner_of_ended,
    erase,
)

BROKEN: Final = (AssertionError, ValueError, KeyError, TypeError, JobActive, TimeoutError)
"""
The ways in which a scenario says that it did not come about: an answer other than asked for, or none to look at.
"""


def named(place: int) -> str:
    """
    The row's name and its scenario's.
    """
    return f"{place}-{ROWS[place].trigger}"


def test_every_row_has_a_scenario() -> None:
    """
    A row that is added to the machine says here how it is seen from outside, or this fails.
    """
    scenarios = [scenario.__name__ for scenario in SCENARIOS]

    assert len(ROWS) == len(scenarios)
    for row, name in zip(ROWS, scenarios, strict=True):
        assert name.startswith(row.trigger)


@pytest.mark.parametrize("place", range(len(ROWS)), ids=named)
async def test_a_scenario_comes_about_with_the_whole_machine(world: World, place: int) -> None:
    """
    What a row is for can be had over HTTP.
    """
    await SCENARIOS[place](world)


@pytest.mark.parametrize("place", range(len(ROWS)), ids=named)
async def test_without_its_row_a_scenario_does_not_come_about(
    world: World, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A transition taken out of the machine is missed by somebody who uses the service.
    """
    mutant = build_machine((*ROWS[:place], *ROWS[place + 1 :]))
    monkeypatch.setattr(machine, "MACHINE", mutant)
    monkeypatch.setattr(machine, "TABLE", read_table(mutant))

    with pytest.raises(BROKEN):
        await SCENARIOS[place](world)
