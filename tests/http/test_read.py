from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.http.client import until

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer
    from tests.http.world import World

NOWHERE = "01890000-0000-7000-8000-000000000000"


async def test_a_job_is_read_with_its_version_as_etag(world: World) -> None:
    """
    The answer is the whole job, and the tag is its version.
    """
    job = await world.guest.made(input={"a": 1})

    answer = await world.guest.get(f"/api/jobs/{job['id']}")

    assert (200, 'W/"1"', {"job": job}) == (answer.status, answer.headers["ETag"], answer.body)


async def test_an_unchanged_job_is_304(world: World) -> None:
    """
    If-None-Match with the version that stands gives 304 without a body; with another the job.
    """
    job = await world.guest.made()
    path = f"/api/jobs/{job['id']}"

    same = await world.guest.get(path, headers={"If-None-Match": 'W/"1"'})
    other = await world.guest.get(path, headers={"If-None-Match": 'W/"2"'})
    several = await world.guest.get(path, headers={"If-None-Match": 'W/"7", W/"1"'})

    assert (304, b"", 'W/"1"') == (same.status, same.content, same.headers["ETag"])
    assert 200 == other.status
    assert 304 == several.status


async def test_another_s_job_is_403_and_no_job_is_404(world: World) -> None:
    """
    404 says that there is none at all; another's is refused on every route that reads one job.
    """
    job = await world.stranger.made()

    for suffix in ("", "/events"):
        answers = [await world.guest.get(f"/api/jobs/{each}{suffix}") for each in (job["id"], NOWHERE, "nonsense")]
        assert [(403, "access-denied"), (404, "not-found"), (404, "not-found")] == [
            (answer.status, answer.code) for answer in answers
        ]


async def test_an_ended_job_is_read_as_it_ended(world: World) -> None:
    """
    What has left the active list is still there for its owner, result and all.
    """
    await world.guest.made(input={"a": 1}, title="t")
    completed = await world.worker.complete(await world.worker.claim(worker="w9"), {"n": 2**80})

    read = await world.guest.read(completed["id"])

    assert completed == read
    assert ("completed", False, {"n": 2**80}, "w9", 1) == (
        read["state"], read["active"], read["result"], read["worker"], read["attempt"],
    )  # fmt: skip
    assert (None, None) == (read["lease_expires_at"], read["error"])


async def held(world: World, job_id: str, **params: JSON) -> asyncio.Task[Answer]:
    """
    A read that waits, begun: its waiter is registered.
    """
    before = len(world.service.ledger.job_waiters)
    reading = asyncio.create_task(world.guest.get(f"/api/jobs/{job_id}", **params))
    await until(lambda: len(world.service.ledger.job_waiters) != before or reading.done())
    return reading


async def test_wait_s_holds_until_the_version_is_newer(world: World) -> None:
    """
    The answer comes with the next event, without waiting for the time to pass.
    """
    job = await world.guest.made()
    reading = await held(world, job["id"], wait_s=30, since=1)

    await world.worker.claim()
    answer = await reading

    assert (200, "running", 2) == (answer.status, answer.job["state"], answer.job["version"])


async def test_wait_s_answers_at_once_where_the_version_is_newer_already(world: World) -> None:
    """
    Whoever has not seen the newest version gets it without waiting.
    """
    job = await world.guest.made()

    answer = await world.guest.get(f"/api/jobs/{job['id']}", wait_s=30, since=0)

    assert job == answer.job


async def test_wait_s_answers_at_once_for_an_ended_job(world: World) -> None:
    """
    Nothing more will happen, so there is nothing to wait for.
    """
    job = await world.guest.made()
    await world.guest.cancel(job["id"])

    answer = await world.guest.get(f"/api/jobs/{job['id']}", wait_s=30, since=2)

    assert ("cancelled", 2) == (answer.job["state"], answer.job["version"])


async def test_wait_s_gives_the_job_as_it_stands_when_nothing_comes(world: World) -> None:
    """
    After the time the answer is the unchanged job.
    """
    job = await world.guest.made()

    answer = await world.guest.get(f"/api/jobs/{job['id']}", wait_s=0.05, since=1)

    assert (200, 1) == (answer.status, answer.job["version"])


@pytest.mark.parametrize("params", [{"wait_s": -1}, {"wait_s": "x"}, {"wait_s": 61}, {"wait_s": 1, "since": -1}])
async def test_a_wait_out_of_bounds_is_refused(world: World, params: dict[str, JSON]) -> None:
    """
    A wait is a number of seconds from 0 to 60, and a version a whole number.
    """
    job = await world.guest.made()

    answer = await world.guest.get(f"/api/jobs/{job['id']}", **params)

    assert (422, "invalid") == (answer.status, answer.code)


async def test_a_reader_that_hangs_up_leaves_no_waiter(world: World) -> None:
    """
    The waiter goes with its connection.
    """
    job = await world.guest.made()
    reading = await held(world, job["id"], wait_s=30, since=1)

    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    await until(lambda: len(world.service.ledger.job_waiters) == 0)
    assert 1 == await world.position()
