from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.http.world import started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.world import World

ONCE = {"Idempotency-Key": "once"}


async def test_the_same_request_gets_the_first_answer_again(world: World) -> None:
    """
    201 with the job as of then, whatever happened since, and Idempotency-Replayed: true.
    """
    first = await world.guest.create(input={"a": 1}, headers=ONCE)
    await world.worker.complete(await world.worker.claim())

    second = await world.guest.create(input={"a": 1}, headers=ONCE)

    assert (201, 201) == (first.status, second.status)
    assert first.body == second.body
    assert ("queued", first.headers["Location"]) == (second.job["state"], second.headers["Location"])
    assert ("true", None) == (
        second.headers["Idempotency-Replayed"], first.headers.get("Idempotency-Replayed"),
    )  # fmt: skip


async def test_an_attach_is_replayed_as_an_attach(world: World) -> None:
    """
    A 200 is remembered too: later the key is free, but the answer is the one that was given.
    """
    await world.guest.made(key="k")
    first = await world.guest.create(key="k", headers=ONCE)
    await world.worker.complete(await world.worker.claim())

    second = await world.guest.create(key="k", headers=ONCE)

    assert (200, first.body) == (second.status, second.body)
    assert [] == await world.guest.active()


async def test_another_body_with_the_same_key_is_refused(world: World) -> None:
    """
    422 idempotency-key-reused, and nothing is made.
    """
    await world.guest.create(input=1, headers=ONCE)

    answer = await world.guest.create(input=2, headers=ONCE)

    assert (422, "idempotency-key-reused") == (answer.status, answer.code)
    assert 1 == await world.position()


async def test_a_hundred_at_once_make_one_job(world: World) -> None:
    """
    Requests that come while the first is queued wait for it and get its answer.
    """
    answers = await asyncio.gather(*(world.guest.create(input=1, headers=ONCE) for _ in range(100)))

    assert {201} == {answer.status for answer in answers}
    assert 1 == len({answer.content for answer in answers})
    assert 99 == sum("Idempotency-Replayed" in answer.headers for answer in answers)
    assert 1 == await world.position()


async def test_a_refusal_is_not_remembered(world: World) -> None:
    """
    Only 200 and 201 are replayed: after a 409 the same request may well succeed.
    """
    holder = await world.guest.made(key="k")
    refused = await world.guest.create(key="k", dedup={"on_active": "reject"}, headers=ONCE)
    await world.guest.cancel(holder["id"])

    second = await world.guest.create(key="k", dedup={"on_active": "reject"}, headers=ONCE)

    assert (409, 201) == (refused.status, second.status)
    assert "Idempotency-Replayed" not in second.headers


async def test_a_key_counts_for_one_caller_whatever_the_path(world: World) -> None:
    """
    Another caller does not meet it; for the same one, the same key on another path is another request.
    """
    first = await world.guest.create(headers=ONCE)

    by_stranger = await world.stranger.create(headers=ONCE)
    batch = await world.guest.post("/api/jobs/batch", {"jobs": [{"kind": "work"}]}, headers=ONCE)

    assert 201 == by_stranger.status
    assert first.job["id"] != by_stranger.job["id"]
    assert (422, "idempotency-key-reused") == (batch.status, batch.code)


async def test_another_owner_with_the_same_key_is_another_request(world: World) -> None:
    """
    Also where the owner is named in the query: 422, and never the job of somebody else.
    """
    paths = [f"/api/jobs?owner={owner}" for owner in ("user:carol", "user:dave", "user:carol")]

    first, other, again = [await world.backend.post(path, {"kind": "work"}, headers=ONCE) for path in paths]

    assert (201, "user:carol") == (first.status, first.job["owner"])
    assert (422, "idempotency-key-reused") == (other.status, other.code)
    assert first.job == again.job


async def test_a_retry_is_idempotent_too(world: World) -> None:
    """
    The same retry under the same key makes one job, also after that job has ended.
    """
    old = await world.guest.made()
    await world.guest.cancel(old["id"])
    first = await world.guest.retry(old["id"], headers=ONCE)
    await world.guest.cancel(first.job["id"])

    second = await world.guest.retry(old["id"], headers=ONCE)
    without = await world.guest.retry(old["id"])

    assert (201, first.body, "true") == (second.status, second.body, second.headers["Idempotency-Replayed"])
    assert first.job["id"] != without.job["id"]


async def test_after_a_day_the_key_is_new_again(world: World) -> None:
    """
    The answer is remembered for 24 hours.
    """
    first = await world.guest.create(headers=ONCE)
    world.clock.advance(86_399)
    within = await world.guest.create(headers=ONCE)

    world.clock.advance(2)
    later = await world.guest.create(headers=ONCE)

    assert first.job["id"] == within.job["id"]
    assert first.job["id"] != later.job["id"]


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_out_of_bounds_is_refused(world: World, key: str) -> None:
    """
    An Idempotency-Key has 1 to 255 characters.
    """
    answer = await world.guest.create(headers={"Idempotency-Key": key})

    assert (422, "invalid") == (answer.status, answer.code)
    assert 0 == await world.position()


async def test_the_longest_key_is_taken(world: World) -> None:
    """
    255 characters are a key.
    """
    answer = await world.guest.create(headers={"Idempotency-Key": "k" * 255})

    assert 201 == answer.status


async def test_answers_are_remembered_over_a_restart(tmp_path: Path) -> None:
    """
    A service that was stopped and started gives the first answer again, the cursor included.
    """
    async with started(tmp_path / "jobs.db") as world:
        first = await world.guest.create(input={"n": 2**70}, headers=ONCE)
        await world.worker.complete(await world.worker.claim(), {"n": 2**70})

    async with started(tmp_path / "jobs.db") as world:
        second = await world.guest.create(input={"n": 2**70}, headers=ONCE)

    assert (201, first.body) == (second.status, second.body)


async def test_it_is_decided_at_commit_not_when_a_wait_ends(world: World) -> None:
    """
    While the first still waits for the job's end, the same request with another wish to wait gets the answer at once.
    """
    waiting = asyncio.create_task(world.guest.create(headers=ONCE | {"Prefer": "wait=30"}))
    grant = await world.worker.claim(wait_s=5)

    second = await world.guest.create(headers=ONCE)
    await world.worker.complete(grant)
    first = await waiting

    assert (201, "queued") == (second.status, second.job["state"])
    assert (201, "completed", second.job["id"]) == (first.status, first.job["state"], first.job["id"])
