"""
A job's explanation tells how many duplicates it has spared.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.http.world import started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.conftest import Starter
    from tests.http.world import World


async def spared(world: World, job: JSON, **query: JSON) -> str | None:
    """
    How many duplicates *job* has spared, in the words of its explanation.
    """
    told = (await world.guest.get(f"/api/jobs/{job['id']}/explain", **query)).body["sentences"]
    found = [each["sentence"] for each in told if each["sentence"].startswith("Since the service started")]
    assert len(found) <= 1
    return found[0].partition(" given ")[2].partition(" to ")[0] if found else None


@pytest.mark.parametrize(("asked", "words"), [(1, None), (2, "once"), (20, "19 times")])
async def test_of_so_many_requests_at_once_all_but_one_are_told_of(world: World, asked: int, words: str | None) -> None:
    """
    One of them made the job, and nothing is said where nobody else asked.
    """
    answers = await asyncio.gather(*(world.guest.create(key="k") for _ in range(asked)))

    (job_id,) = {answer.job["id"] for answer in answers}
    assert words == await spared(world, {"id": job_id})


async def test_what_was_is_told_without_a_count_that_is_of_now(world: World) -> None:
    """
    ``as_of`` a position the sentences are those of the events alone.
    """
    job = await world.guest.made(key="k")
    await world.guest.create(key="k")

    assert "once" == await spared(world, job)
    assert await spared(world, job, as_of=job["position"]) is None


async def test_a_result_that_is_given_again_counts_for_the_job_that_has_it(world: World) -> None:
    """
    Beside those that were given the job while it was active.
    """
    job = await world.guest.made(key="k")
    await world.guest.create(key="k")
    await world.worker.complete(await world.worker.claim())
    await world.guest.create(key="k", dedup={"on_completed": "reuse", "max_age_s": 60})

    assert "2 times" == await spared(world, job)
    assert 1 == len(world.service.avoided)


async def test_of_ended_jobs_the_newest_are_remembered(start: Starter) -> None:
    """
    As many as the setting says, and all that are active; an end without a duplicate takes nobody's place.
    """
    world = await start(avoided_ended_jobs_max=2)
    jobs = []
    for number in range(4):
        jobs.append(await world.guest.made(key=f"k{number}"))
        await world.guest.create(key=f"k{number}")
    for job in (*jobs[:3], await world.guest.made(key="asked for once")):
        await world.guest.cancel(job["id"])

    told = [await spared(world, job) for job in jobs]

    assert [None, "once", "once", "once"] == told
    assert 3 == len(world.service.avoided)


async def test_a_service_that_starts_again_counts_from_then_on(tmp_path: Path) -> None:
    """
    Attaching writes nothing, and the sentence says since when.
    """
    async with started(tmp_path / "jobs.db") as world:
        job = await world.guest.made(key="k")
        await world.guest.create(key="k")

    async with started(tmp_path / "jobs.db") as again:
        before = await spared(again, job)
        await again.guest.create(key="k")
        after = await spared(again, job)

    assert (None, "once") == (before, after)
