"""
The client against the service itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobsvc.client import Change, Client, Ended, Problem, Ready, Snapshot, Told
from tests.system.real import Real, real_service

POST = "https://x.com/a/status/1850000000000000000"
SAME_POST = "https://mobile.twitter.com/i/status/1850000000000000000?s=20"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Real]:
    """
    A service with an empty log.
    """
    async with real_service(tmp_path, heartbeat_s=0.1) as real:
        yield real


async def _told_until(client: Client, event_type: str, *, after: str | None = None) -> list[Told]:
    """
    What a watch tells, up to the first event of *event_type*.
    """
    told: list[Told] = []
    async with contextlib.aclosing(client.watch(after=after)) as stream:
        async for each in stream:
            told.append(each)
            if isinstance(each, Change) and each.type == event_type:
                break
    return told


async def test_two_spellings_of_one_post_are_one_job(service: Real) -> None:
    """
    The second create attaches to the job of the first, and says so.
    """
    async with service.client() as client:
        first = await client.create_or_attach("x-post", url=POST, input={"n": 1}, title="A post")
        second = await client.create_or_attach("x-post", url=SAME_POST, input={"n": 1})

    assert (False, True, "active") == (first.deduplicated, second.deduplicated, second.dedup_reason)
    assert first.job.id == second.job.id
    assert ("queued", "user:ada", POST) == (first.job.state, first.job.owner, first.job.url)


async def test_a_create_that_must_be_new_is_refused_with_the_job_that_is(service: Real) -> None:
    """
    Who insists on a new job gets the one that stands in its way.
    """
    async with service.client() as client:
        job = await client.create("x-post", url=POST)
        with pytest.raises(Problem) as refused:
            await client.create("x-post", url=SAME_POST)

    assert ("duplicate-job", 409) == (refused.value.code, refused.value.status)
    assert refused.value.job is not None
    assert job.id == refused.value.job.id


async def test_a_cancelled_job_is_off_the_active_list_and_in_the_history(service: Real) -> None:
    """
    Cancel, cleanup and retry do what they say, and the history tells it.
    """
    async with service.client() as client:
        job = await client.create("x-post", url=POST)
        cancelled = await client.cancel(job.id, reason="no longer wanted")
        cleanup = await client.cleanup(job.id)
        active = await client.active()
        history = [event.type async for event in client.history(job.id)]
        again = await client.retry(job.id)
        page = await client.jobs(kind="x-post")

    assert ("cancelled", False) == (cancelled.state, cancelled.active)
    assert (True, False, "already_ended") == (cleanup.success, cleanup.removed, cleanup.reason)
    assert () == active.jobs
    assert ["job.created", "job.cancelled"] == history
    assert job.id == again.job.retry_of
    assert [again.job.id, job.id] == [each.id for each in page.jobs]


async def test_a_batch_answers_each_in_order(service: Real) -> None:
    """
    Up to 500 jobs in one request, a refused one among them.
    """
    async with service.client() as client:
        results = await client.create_batch([{"kind": "x-post", "url": POST}, {"kind": "x-post", "url": "ftp://x"}])

    first, second = results
    assert not isinstance(first, Problem)
    assert isinstance(second, Problem)
    assert (422, "invalid") == (second.status, second.code)


async def test_anothers_job_is_refused(service: Real) -> None:
    """
    What belongs to somebody else is neither read nor watched.
    """
    async with service.client() as ada, service.client(subject="bob") as bob:
        job = await ada.create("x-post", url=POST)
        with pytest.raises(Problem, match="403 access-denied"):
            await bob.get(job.id)
        with pytest.raises(Problem, match="403 access-denied"):
            await anext(bob.watch(jobs=[job.id]))


async def test_a_guest_is_a_guest_from_then_on(service: Real) -> None:
    """
    A client without a token can become a guest, who owns what it makes.
    """
    async with Client(service.url) as client:
        session = await client.guest()
        submitted = await client.create_or_attach("x-post", url=POST)

    assert session.owner == submitted.job.owner


async def test_waiting_ends_with_the_job_or_with_patience(service: Real) -> None:
    """
    A wait is over when the job has ended, and gives up when it is told to.
    """
    async with service.client() as client:
        job = await client.create("x-post", url=POST)
        with pytest.raises(TimeoutError):
            await client.wait(job.id, timeout_s=0.05)
        waiting = asyncio.create_task(client.wait(job.id))
        await client.cancel(job.id)
        ended = await waiting

    assert "cancelled" == ended.state


async def test_a_watch_begins_with_what_is_active_and_goes_on_with_what_happens(service: Real) -> None:
    """
    Snapshot, ready, then every event with the job as it stood after it.
    """
    async with service.client() as client:
        first = await client.create("x-post", url=POST)
        stream = client.watch()
        snapshot, ready = await anext(stream), await anext(stream)
        second = await client.create("page", key="k")
        change = await anext(stream)
        await stream.aclose()

    assert isinstance(snapshot, Snapshot)
    assert isinstance(ready, Ready)
    assert isinstance(change, Change)
    assert [first.id] == [job.id for job in snapshot.jobs]
    assert ("job.created", second.id, "queued") == (change.type, change.job.id, change.job.state)


async def test_a_watch_from_a_cursor_misses_nothing(service: Real) -> None:
    """
    Between a list and a stream that goes on from its cursor nothing is lost.
    """
    async with service.client() as client:
        active = await client.active()
        job = await client.create("x-post", url=POST)
        await client.cancel(job.id)
        told = await _told_until(client, "job.cancelled", after=active.cursor)

    assert ["job.created", "job.cancelled"] == [each.type for each in told if isinstance(each, Change)]


async def test_heartbeats_agree_with_what_was_told(service: Real) -> None:
    """
    A stream that is idle for several heartbeats is not told anew: client and service count the same digest.
    """
    async with service.client() as client:
        await client.create("x-post", url=POST)
        gone = await client.create("page", key="k")
        stream = client.watch()
        told = [await anext(stream), await anext(stream)]
        await client.cancel(gone.id)
        told.append(await anext(stream))
        idle = asyncio.create_task(anext(stream))
        done, _ = await asyncio.wait({idle}, timeout=0.5)
        idle.cancel()
        await asyncio.gather(idle, return_exceptions=True)

    assert set() == done
    assert [Snapshot, Ready, Change] == [type(each) for each in told]


async def test_a_watch_outlives_the_service(tmp_path: Path) -> None:
    """
    A restart in the middle of a watch costs nothing but time: no event missing, none doubled.
    """
    async with real_service(tmp_path) as first:
        client = first.client()
        stream = client.watch()
        begun = [await anext(stream), await anext(stream)]
        await client.create("page", key="one")
        before = await anext(stream)
    following = asyncio.create_task(_next_change(stream))

    async with real_service(tmp_path, port=int(first.url.rpartition(":")[2])):
        await client.create("page", key="two")
        after = await following
        await stream.aclose()
        await client.close()

    assert [Snapshot, Ready] == [type(each) for each in begun]
    assert isinstance(before, Change)
    assert ["one", "two"] == [before.job.key, after.job.key]
    assert after.position == before.position + 1


async def _next_change(stream: AsyncIterator[Told]) -> Change:
    async for each in stream:
        if isinstance(each, Change):
            return each
    raise AssertionError("the stream ended")


async def test_a_jobs_own_watch_ends_with_it(service: Real) -> None:
    """
    The stream of one job is over when the job is.
    """
    async with service.client() as client:
        job = await client.create("x-post", url=POST)
        watching = asyncio.create_task(_all_of(client, job.id))
        await client.cancel(job.id)
        told = await watching

    assert isinstance(told[-1], Ended)
    assert "cancelled" == told[-1].job.state


async def _all_of(client: Client, job_id: str) -> list[Told]:
    return [each async for each in client.watch_job(job_id)]
