"""
Operators and viewers see which worker holds what, and what happened lately, step by step.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.moments import parse_rfc3339
from jobsvc.tally import Interval, Levels
from tests.http.world import started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.conftest import LogLines, Starter
    from tests.http.world import World


async def test_workers_are_shown_with_what_they_hold(world: World) -> None:
    """
    By the name that they claim under, each job with its lease; ended jobs and waiting ones are nobody's.
    """
    for number in range(4):
        await world.guest.made(key=f"k{number}")
    first, second = await world.worker.claims(max=2, worker="one", lease_s=60)
    (third,) = await world.worker.claims(max=1, worker="two")
    await world.worker.complete(second)

    shown = (await world.viewer.get("/api/workers")).body

    assert (2, 1) == (shown["leases"], shown["ready"])
    assert {"one": [first.id], "two": [third.id]} == {
        one["worker"]: [job["id"] for job in one["jobs"]] for one in shown["workers"]
    }
    job = shown["workers"][0]["jobs"][0]
    assert ("running", 1, "guest:ann") == (job["state"], job["attempt"], job["owner"])
    # Laid over when read, by two clocks.
    assert 1_000 > abs(parse_rfc3339(first.lease_expires_at) - parse_rfc3339(job["lease_expires_at"]))


async def test_a_worker_s_jobs_are_counted_beyond_those_that_are_listed(world: World) -> None:
    """
    A limit cuts the list, not the count.
    """
    for number in range(3):
        await world.guest.made(key=f"k{number}")
    await world.worker.claims(max=3, worker="one")

    (shown,) = (await world.viewer.get("/api/workers", limit=1)).body["workers"]

    assert (3, {"work": 3}, 1) == (shown["held"], shown["kinds"], len(shown["jobs"]))


async def test_who_waits_for_work_is_counted_by_kind(world: World) -> None:
    """
    A claim that is held shows what for, until it goes.
    """
    waiting = [
        asyncio.create_task(world.worker.claims(wait_s=20, kinds=kinds)) for kinds in (["page"], ["page", "post"], [])
    ]
    shown = await _as_soon_as(world, "/api/workers", lambda body: body["claims_waiting"] == len(waiting))
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)

    assert {"page": 2, "post": 1, "any": 1} == shown["waiting_for"]


async def test_stats_count_the_duplicates_that_were_avoided(world: World) -> None:
    """
    Each request that was given a job that there was counts once, and one that is repeated under its key not again.
    """
    await world.guest.made(kind="x-post", key="one")
    for idempotency_key in ("a", "b", "b"):
        headers = {"Idempotency-Key": idempotency_key}
        await world.guest.post("/api/jobs", {"kind": "x-post", "key": "one"}, headers=headers)
    body = {"kind": "x-post", "key": "one", "owner": world.guest.owner}
    await world.backend.post("/api/jobs/batch", {"jobs": [body]})

    stats = (await world.viewer.get("/api/stats", window_s=60, step_s=10)).body
    metrics = (await world.viewer.get("/metrics")).content.decode()

    assert 3 == stats["total"]["avoided"]
    assert 3 == sum(step["avoided"] for step in stats["steps"])
    assert 'jobsvc_duplicates_avoided_total{reason="active"} 3.0' in metrics


async def test_stats_count_what_happened_in_each_step(world: World) -> None:
    """
    Events by type where they fell, and how long jobs waited and ran; the steps add up to the total.
    """
    await world.guest.made(key="a")
    world.clock.advance(20)
    grant = await world.worker.claim(lease_s=600)
    world.clock.advance(40)
    await world.worker.complete(grant)
    await world.guest.cancel((await world.guest.made(key="b"))["id"])

    stats = (await world.viewer.get("/api/stats", window_s=120, step_s=10)).body

    total = stats["total"]
    assert {"job.created": 2, "job.started": 1, "job.completed": 1, "job.cancelled": 1} == total["events"]
    assert (1, pytest.approx(20, abs=2)) == (total["waits"]["count"], total["waits"]["max_s"])
    assert (1, pytest.approx(40, abs=2)) == (total["runs"]["count"], total["runs"]["p95_s"])
    assert 12 <= len(stats["steps"]) <= 13
    assert 3 <= sum(1 for step in stats["steps"] if step["events"]) <= 4
    assert 5 == sum(sum(step["events"].values()) for step in stats["steps"])


async def test_stats_know_of_streams_that_nobody_asked_about_and_that_are_gone(start: Starter) -> None:
    """
    By looks that are taken every now and then; of a time before the service ran nothing is known.
    """
    world = await start(stats_look_s=0.01)
    async with world.guest.stream() as mine, world.stranger.stream() as other:
        await mine.until("ready")
        await other.until("ready")
        async with asyncio.timeout(10):
            while 2 != _levels(world).streams:  # noqa: ASYNC110  # the looks are taken in this very loop
                await asyncio.sleep(0)
    await _as_soon_as(world, "/api/streams", lambda body: body["open"] == 0)

    stats = (await world.viewer.get("/api/stats", window_s=3_600, step_s=60)).body

    assert 2 == stats["total"]["levels"]["streams_max"]
    assert stats["steps"][0]["levels"] is None


async def test_a_look_that_fails_is_told_and_others_follow(start: Starter, log_lines: LogLines) -> None:
    """
    Whatever it was: the charts go on, and a line of the log says that some are missing.
    """
    world = await start(stats_look_s=0.01)
    standings = world.service.runner.standings
    standings["broken"] = None  # type: ignore[assignment]  # a fault of ours
    async with asyncio.timeout(10):
        while "gauge.failed" not in {line["event"] for line in log_lines()}:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
    del standings["broken"]

    async with world.guest.stream() as mine:
        await mine.until("ready")
        async with asyncio.timeout(10):
            while 1 != _levels(world).streams:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0)


def _levels(world: World) -> Levels:
    """
    What was met in the last minute, as far as anybody looked.
    """
    together = Interval()
    for _, interval in world.service.tally.steps(world.clock.now(), 60, step_s=60):
        together.merge(interval)
    return together.levels or Levels()


async def test_stats_know_how_far_behind_streams_and_projections_were(start: Starter) -> None:
    """
    In the turn of a commit nobody has been told of it yet.
    """
    world = await start(stats_look_s=3_600)
    async with world.guest.stream() as mine:
        await mine.until("ready")
        world.service.ledger.on_commit.append(lambda _: world.service.gauge.look())
        await world.guest.made()
        await mine.until("job")

        stats = (await world.viewer.get("/api/stats", window_s=3_600, step_s=60)).body

    assert {"streams_max": 1, "stream_lag_max": 1, "projection_lag_max": 1} == stats["total"]["levels"]


async def test_stats_are_as_of_now_however_seldom_somebody_looks(start: Starter) -> None:
    """
    A look is taken for whoever asks: the last step knows of a stream that was opened a moment ago.
    """
    world = await start(stats_look_s=3_600)
    async with world.guest.stream() as mine:
        await mine.until("ready")

        stats = (await world.viewer.get("/api/stats", window_s=60, step_s=60)).body

    assert 1 == stats["steps"][-1]["levels"]["streams_max"]


async def test_a_step_longer_than_the_window_is_one_step(world: World) -> None:
    """
    Wherever in the step the window lies.
    """
    await world.guest.made()

    answers = [(await world.viewer.get("/api/stats", window_s=60, step_s=step_s)) for step_s in (61, 3_600, 86_399)]

    assert [(200, 1)] * 3 == [(answer.status, len(answer.body["steps"])) for answer in answers]


async def test_what_is_older_than_the_window_is_not_counted(world: World) -> None:
    """
    An hour is kept by the second, a day by the minute.
    """
    await world.guest.made(key="a")
    world.clock.advance(2 * 3_600)
    await world.guest.made(key="b")

    windows = [(60, 1), (3_600, 60), (86_400, 3_600)]
    counts = [
        (await world.viewer.get("/api/stats", window_s=window_s, step_s=step_s)).body["total"]["events"]["job.created"]
        for window_s, step_s in windows
    ]

    assert [1, 1, 2] == counts


async def test_a_service_that_starts_again_knows_what_happened_before(tmp_path: Path) -> None:
    """
    The newest events are read again, up to a bound; ``since`` says from when on nothing is missing.
    """
    async with started(tmp_path / "jobs.db") as world:
        for number in range(6):
            await world.guest.cancel((await world.guest.made(key=f"k{number}"))["id"])

    async with started(tmp_path / "jobs.db") as all_known:
        whole = await _as_soon_as(all_known, "/api/stats", lambda body: _events_of(body) >= 12)
    async with started(tmp_path / "jobs.db", stats_recalled_events_max=5) as some_known:
        some = await _as_soon_as(some_known, "/api/stats", lambda body: _events_of(body) >= 5)

    assert (12, 5) == (_events_of(whole), _events_of(some))
    assert 12 == whole["position"] == some["position"]
    assert whole["since"] < some["since"] < some["until"]


def _events_of(stats: JSON) -> int:
    return sum(stats["total"]["events"].values())


async def _as_soon_as(world: World, path: str, is_so: Callable[[JSON], bool]) -> JSON:
    """
    What *path* answers once it *is_so*.
    """
    async with asyncio.timeout(10):
        body = (await world.viewer.get(path)).body
        while not is_so(body):
            body = (await world.viewer.get(path)).body
    return body


@pytest.mark.parametrize(
    "query", [{"window_s": 0}, {"window_s": 90_000}, {"step_s": "x"}, {"window_s": 7_200, "step_s": 10}]
)
async def test_a_window_or_step_that_is_not_kept_is_refused(world: World, query: JSON) -> None:
    """
    422, with the parameter at fault.
    """
    answer = await world.viewer.get("/api/stats", **query)

    assert (422, "invalid") == (answer.status, answer.code)
