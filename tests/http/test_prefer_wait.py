from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.http.client import until

if TYPE_CHECKING:
    from tests.http.world import World


async def test_a_create_may_be_held_for_the_end(world: World) -> None:
    """
    201 with the completed job and its result, and the preference acknowledged.
    """
    creating = asyncio.create_task(world.guest.create(headers={"Prefer": "wait=30"}))
    await world.worker.complete(await world.worker.claim(wait_s=5), {"n": 1})

    answer = await creating

    assert (201, "completed", {"n": 1}) == (answer.status, answer.job["state"], answer.job["result"])
    assert "wait" in answer.headers["Preference-Applied"]
    assert not answer.body["deduplicated"]


async def test_the_cursor_of_a_held_create_is_as_of_its_end(world: World) -> None:
    """
    A stream resumed from it does not tell what the answer told already.
    """
    creating = asyncio.create_task(world.guest.create(headers={"Prefer": "wait=30"}))
    await world.worker.complete(await world.worker.claim(wait_s=5))
    cursor = (await creating).body["cursor"]

    async with world.guest.stream(after=cursor) as frames:
        seen = await frames.until("ready")

    assert ["hello", "ready"] == [frame.event for frame in seen]


async def test_an_attached_create_is_held_too(world: World) -> None:
    """
    Whoever attaches may wait for the end as well.
    """
    job = await world.guest.made(key="k")
    grant = await world.worker.claim()
    creating = asyncio.create_task(world.guest.create(key="k", headers={"Prefer": "respond-async, wait=30"}))
    await until(lambda: len(world.service.ledger.job_waiters) > 0)

    await world.worker.complete(grant)
    answer = await creating

    assert (200, job["id"], "completed", True) == (
        answer.status, answer.job["id"], answer.job["state"], answer.body["deduplicated"],
    )  # fmt: skip


@pytest.mark.parametrize("preference", ["wait=0", "handling=strict, wait=0"])
async def test_when_the_time_is_over_the_answer_is_the_job_as_it_stands(world: World, preference: str) -> None:
    """
    A wait that ends without an end answers 201 with the active job.
    """
    answer = await world.guest.create(headers={"Prefer": preference})

    assert (201, True) == (answer.status, answer.job["active"])


async def test_a_preference_that_makes_no_sense_is_ignored(world: World) -> None:
    """
    A preference is not a demand: nonsense neither fails nor waits.
    """
    answers = [await world.guest.create(headers={"Prefer": text}) for text in ("wait=x", "wait", "", "return=minimal")]

    assert [201] * 4 == [answer.status for answer in answers]
    assert all("Preference-Applied" not in answer.headers for answer in answers)


async def test_a_caller_that_hangs_up_leaves_the_job_and_no_waiter(world: World) -> None:
    """
    The job was made; only the wait ends with the connection.
    """
    creating = asyncio.create_task(world.guest.create(headers={"Prefer": "wait=30"}))
    await until(lambda: len(world.service.ledger.job_waiters) > 0)

    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)

    await until(lambda: len(world.service.ledger.job_waiters) == 0)
    assert 1 == len(await world.guest.active())


async def test_a_replayed_create_is_not_held_for_an_end_that_has_been(world: World) -> None:
    """
    The answer repeated is as of then, but the wait is for now: a job that ended meanwhile is told at once.
    """
    headers = {"Idempotency-Key": "once", "Prefer": "wait=30"}
    created = await world.guest.create(headers={"Idempotency-Key": "once"})
    await world.worker.complete(await world.worker.claim())

    async with asyncio.timeout(5):
        again = await world.guest.create(headers=headers)

    assert (201, "completed", created.job["id"]) == (again.status, again.job["state"], again.job["id"])
