"""
The worker SDK against the service itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from jobsvc.client import Problem
from jobsvc.worker import JobFailed, Work, Worker
from tests.system.real import Real, real_service

ROUNDS = 40


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Real]:
    """
    A service with an empty log.
    """
    async with real_service(tmp_path) as real:
        yield real


@contextlib.asynccontextmanager
async def _working(service: Real, handler: Callable[[Work], Any], *, grace_s: float = 1) -> AsyncIterator[Worker]:
    """
    A worker that runs *handler* for jobs of the kind page, stopped at the end.
    """
    worker = Worker(service.url, token=service.token("worker", "w1"), name="w1", progress_s=0.02, grace_s=grace_s)
    worker.handles("page")(handler)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


async def test_a_job_is_claimed_done_and_told(service: Real) -> None:
    """
    What a handler returns is the job's result, and what it said on the way is the job's progress.
    """

    async def handler(work: Work) -> dict[str, object]:
        work.progress(50, "half", progress_data={"page": 1})
        return {"read": work.job.input, "attempt": work.job.attempt}

    async with service.client() as client, _working(service, handler):
        job = await client.create("page", key="k", input={"n": 1})
        ended = await client.wait(job.id, timeout_s=5)

    assert ("completed", {"read": {"n": 1}, "attempt": 1}) == (ended.state, ended.result)
    assert ended.progress is not None
    assert (50, "half", {"page": 1}) == (ended.progress.percent, ended.progress.message, ended.progress.data)


async def test_many_jobs_are_done_by_plain_functions_too(service: Real) -> None:
    """
    Handlers in threads keep up with claims, and every job is done once.
    """

    def handler(work: Work) -> str | None:
        return work.job.key

    async with service.client() as client, _working(service, handler):
        jobs = [await client.create("page", key=f"k{number}") for number in range(ROUNDS)]
        ended = [await client.wait(job.id, timeout_s=5) for job in jobs]
        active = await client.active()

    assert [job.key for job in jobs] == [job.result for job in ended]
    assert {1} == {job.attempt for job in ended}
    assert () == active.jobs


async def test_a_failure_for_good_is_the_end(service: Real) -> None:
    """
    A handler that says so fails its job at the first attempt.
    """

    async def handler(_work: Work) -> None:
        raise JobFailed("the post is gone", code="post-gone", retryable=False)

    async with service.client() as client, _working(service, handler):
        job = await client.create("page", key="k")
        ended = await client.wait(job.id, timeout_s=5)

    assert "failed" == ended.state
    assert ended.error is not None
    assert ("post-gone", "the post is gone") == (ended.error.code, ended.error.message)


async def test_a_failed_attempt_comes_again(service: Real) -> None:
    """
    A handler that may be tried again is, after the pause that it asked for.
    """

    async def handler(work: Work) -> int:
        if work.job.attempt == 1:
            raise JobFailed("not yet", retry_after_s=0.05)
        return work.job.attempt

    async with service.client() as client, _working(service, handler):
        job = await client.create("page", key="k")
        ended = await client.wait(job.id, timeout_s=10)

    assert ("completed", 2) == (ended.state, ended.result)


async def test_a_cancel_ends_the_handler(service: Real) -> None:
    """
    A running job that is cancelled is let go by its worker, who hears of it with its next report.
    """
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def handler(work: Work) -> None:
        begun.set()
        try:
            while True:
                work.progress(1)
                await asyncio.sleep(0.01)
        finally:
            stopped.set()

    async with service.client() as client, _working(service, handler):
        job = await client.create("page", key="k")
        await begun.wait()
        asked = await client.cancel(job.id)
        await stopped.wait()
        ended = await client.wait(job.id, timeout_s=5)

    assert ("cancelling", "cancelled") == (asked.state, ended.state)


async def test_a_worker_that_stops_gives_back_what_it_holds(service: Real) -> None:
    """
    A job whose worker goes away is queued again at once, its attempt not counted.
    """
    begun = asyncio.Event()

    async def handler(_work: Work) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with service.client() as client:
        job = await client.create("page", key="k")
        async with _working(service, handler, grace_s=0.05):
            await begun.wait()
        released = await client.get(job.id)

    assert ("queued", 0, 0) == (released.state, released.attempt, released.lost_leases)


async def test_a_worker_without_the_right_token_is_told(service: Real) -> None:
    """
    A user is no worker.
    """
    worker = Worker(service.url, token=service.token("user", "ada"))
    worker.handles("page")(lambda _work: None)

    with pytest.raises(Problem, match="403 access-denied"):
        await worker.run()


async def test_a_worker_that_stops_leaves_no_claim_behind(tmp_path: Path) -> None:
    """
    A job granted at the very moment of the stop is released: it waits again, attempt and losses as before.
    """
    async with real_service(tmp_path) as service, service.client() as client:
        for moment_s in (0.0, 0.001, 0.002, 0.005, 0.01, 0.02):
            worker = Worker(service.url, token=service.token("worker", "w"), lease_s=1, grace_s=0.01)
            worker.handles("late")(_never)
            running = asyncio.create_task(worker.run())
            await asyncio.sleep(0.05)
            job = await client.create("late")
            await asyncio.sleep(moment_s)

            worker.stop()
            await running

            # What undoes the grant comes after the connection's end, which the service may hear of later than we ask.
            while (waiting := await client.get(job.id)).state == "running":  # noqa: ASYNC110  # over HTTP, which has no event for it
                await asyncio.sleep(0.01)
            assert ("queued", 0, 0) == (waiting.state, waiting.attempt, waiting.lost_leases)
            await client.cancel(job.id)


async def _never(work: Work) -> None:
    await asyncio.sleep(3600)
