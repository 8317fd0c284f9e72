from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.client import JSON
    from tests.http.world import World


async def failed(world: World, **fields: JSON) -> JSON:
    """
    A job that failed for good.
    """
    job = await world.guest.made(**fields)
    answer = await world.worker.report(
        await world.worker.claim(), "fail", error={"code": "boom", "message": "it did"}, retryable=False
    )
    assert "failed" == answer.job["state"]
    assert job["id"] == answer.job["id"]
    return answer.job


async def test_a_retry_asks_for_the_same_again(world: World) -> None:
    """
    201 with kind, key, url, input, title, metadata, priority, max_attempts of the ended job, and fresh deadlines.
    """
    old = await failed(
        world,
        kind="x-post",
        url="https://x.com/a/status/1",
        input={"n": 2**70},
        title="t",
        metadata={"m": 1},
        priority=-5,
        max_attempts=7,
        deadline_s=600,
    )
    world.clock.advance(60)

    answer = await world.guest.retry(old["id"])

    new = answer.job
    assert (201, old["id"]) == (answer.status, new["retry_of"])
    assert f"/api/jobs/{new['id']}" == answer.headers["Location"]
    same = ("kind", "key", "url", "input", "title", "metadata", "priority", "max_attempts", "owner")
    assert {name: old[name] for name in same} == {name: new[name] for name in same}
    assert ("queued", 0, None) == (new["state"], new["attempt"], new["error"])
    assert old["deadline"] < new["deadline"]


@pytest.mark.parametrize("ending", ["completed", "cancelled", "expired"])
async def test_any_ended_job_may_be_retried(world: World, ending: str) -> None:
    """
    Completed, cancelled and expired as well as failed.
    """
    job = await world.guest.made(key="k", deadline_s=60)
    match ending:
        case "completed":
            await world.worker.complete(await world.worker.claim())
        case "cancelled":
            await world.guest.cancel(job["id"])
        case _:
            world.clock.advance(61)
            await world.guest.reaches(job["id"], "expired")

    answer = await world.guest.retry(job["id"])

    assert (201, job["id"]) == (answer.status, answer.job["retry_of"])


async def test_an_active_job_cannot_be_retried(world: World) -> None:
    """
    409 job-active with the job.
    """
    job = await world.guest.made()

    answer = await world.guest.retry(job["id"])

    assert (409, "job-active", job) == (answer.status, answer.code, answer.job)
    assert 1 == await world.position()


async def test_a_retry_attaches_to_the_holder_of_the_key(world: World) -> None:
    """
    200 with the job that does the same work already.
    """
    old = await failed(world, key="k")
    holder = await world.guest.made(key="k")

    answer = await world.guest.retry(old["id"])

    assert (200, holder, True, "active") == (
        answer.status, answer.job, answer.body["deduplicated"], answer.body["dedup_reason"],
    )  # fmt: skip


async def test_a_retry_without_a_key_attaches_to_the_retry_before(world: World) -> None:
    """
    Two clicks make one retry, also where no key says so; once that has ended a retry is new again.
    """
    old = await failed(world)
    first = (await world.guest.retry(old["id"])).job

    second = await world.guest.retry(old["id"])
    await world.guest.cancel(first["id"])
    third = await world.guest.retry(old["id"])

    assert (200, first["id"]) == (second.status, second.job["id"])
    assert 201 == third.status


@pytest.mark.parametrize("key", [{"key": "k"}, {}])
async def test_retries_at_once_make_one_job(world: World, key: dict[str, str]) -> None:
    """
    One 201 and the rest 200, with and without a key.
    """
    old = await failed(world, **key)

    answers = await asyncio.gather(*(world.guest.retry(old["id"]) for _ in range(50)))

    assert [200] * 49 + [201] == sorted(answer.status for answer in answers)
    assert 1 == len({answer.job["id"] for answer in answers})


async def test_a_holder_that_is_cancelling_gives_way_to_a_retry(world: World) -> None:
    """
    A retry on the key of a job that was given up ends it and is 201.
    """
    old = await failed(world, key="k")
    holder = await world.guest.made(key="k")
    await world.worker.claim()
    await world.guest.cancel(holder["id"])

    answer = await world.guest.retry(old["id"])

    assert (201, old["id"]) == (answer.status, answer.job["retry_of"])
    assert "cancelled" == (await world.guest.read(holder["id"]))["state"]


async def test_another_s_job_cannot_be_retried(world: World) -> None:
    """
    403 for another's, 404 for none, nothing written.
    """
    old = await failed(world)
    before = await world.position()

    answers = [
        await world.stranger.retry(old["id"]),
        await world.stranger.retry("01890000-0000-7000-8000-000000000000"),
    ]

    assert [(403, "access-denied"), (404, "not-found")] == [(answer.status, answer.code) for answer in answers]
    assert before == await world.position()
