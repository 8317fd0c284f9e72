"""
Progress in the log: the latest wins, at most two a second a job, and the last one always before whatever comes next.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsvc.desk import Limits
from jobsvc.domain import commands as c
from tests.ledger.rig import FakeClock, Rig, cancel, complete, fail, progress, release, whole_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Micros

INTERVAL_US = 500_000


async def told(rig: Rig, job: Job) -> list[tuple[Micros, float | None]]:
    """
    When which progress of *job* was written.
    """
    events = [event for event in await whole_log(rig.store) if event.job_id == job.id]
    return [
        (event.at - rig.changes[0].event.at, event.payload.percent)
        for event in events
        if event.type == "job.progressed" and event.payload is not None
    ]


async def test_the_first_progress_of_an_attempt_is_written_at_once(rig: Rig) -> None:
    """
    Nobody waits for the news that it has begun.
    """
    job = await rig.held()

    await rig.execute(progress(job, 1))

    assert [(0, 1)] == await told(rig, job)


async def test_of_progress_that_comes_too_fast_the_latest_is_written(rig: Rig) -> None:
    """
    A hundred reports within the interval are two events: the first, and the last when the interval is over.
    """
    job = await rig.held()
    for percent in range(100):
        await rig.execute(progress(job, percent))
        rig.clock.advance(1_000)

    rig.clock.advance(INTERVAL_US)
    await rig.flush()

    assert [0, 99] == [percent for _, percent in await told(rig, job)]


async def test_a_report_overtaken_by_a_direct_one_leaves_no_timer_behind(rig: Rig) -> None:
    """
    Held at 300 ms, overtaken at 550 ms: the next held one has its whole interval, not the rest of the first's.
    """
    other, job = await rig.held(), await rig.held()
    for percent in (1, 2):
        await rig.execute(progress(other, percent))
    rig.clock.advance(1)
    for pause_us, percent in ((0, 1), (300_000, 2), (250_000, 3), (50_000, 4)):
        rig.clock.advance(pause_us)
        await rig.execute(progress(job, percent))
    for _ in range(10):
        rig.clock.advance(100_000)
        await rig.flush()

    assert [(1, 1), (550_001, 3), (1_100_001, 4)] == await told(rig, job)


@given(st.lists(st.tuples(st.integers(0, 400_000), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_never_more_than_two_a_second_and_the_last_before_the_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    """
    However reports and the flush timer fall: two in any second, and the last report stands before the end.
    """
    import asyncio  # noqa: PLC0415

    asyncio.run(_at_any_pace(tmp_path_factory.mktemp("progress") / "log.db", steps))


async def _at_any_pace(path: Path, steps: list[tuple[int, bool]]) -> None:
    rig = await Rig(path).open()
    job = await rig.held()
    for percent, (pause_us, flushes) in enumerate(steps):
        rig.clock.advance(pause_us)
        await rig.execute(progress(job, percent))
        if flushes:
            await rig.flush()
    ending_at = rig.clock.wall
    await rig.execute(complete(job))

    written = await told(rig, job)
    paced = [at for at, _ in written if at < ending_at - rig.changes[0].event.at]
    assert len(steps) - 1 == written[-1][1]
    assert all(later - earlier >= INTERVAL_US for earlier, later in itertools.pairwise(paced))
    await rig.check()
    await rig.close()


@pytest.mark.parametrize(
    ("ending", "event"),
    [
        (complete, "completed"),
        (fail, "attempt_failed"),
        (release, "released"),
        (cancel, "cancel_requested"),
        (lambda job: cancel(job, force=True), "cancelled"),
        (lambda job: c.ChangeOwner(job.id, cancel(job).who, "user:b"), "owner_changed"),
    ],
)
async def test_held_progress_is_written_before_any_other_event(
    rig: Rig, ending: Callable[[Job], c.JobCommand], event: str
) -> None:
    """
    What the worker said last stands in the log before what happened next, in the same transaction.
    """
    job = await rig.held("key")
    await rig.execute(progress(job, 1))
    await rig.execute(progress(job, 2))

    await rig.execute(ending(job))

    assert ["progressed", "progressed", event] == (await rig.types(job))[2:]
    assert [1, 2] == [percent for _, percent in await told(rig, job)]


async def test_a_lapse_writes_held_progress_first(rig: Rig) -> None:
    """
    A worker that fell silent has said something last.
    """
    job = await rig.held("key")
    await rig.execute(progress(job, 1))
    await rig.execute(progress(job, 2))
    rig.clock.advance(30_000_000)

    await rig.sweep()

    assert ["progressed", "progressed", "lease_expired"] == (await rig.types(job))[2:5]


async def test_held_progress_is_written_before_a_stop(tmp_path: Path) -> None:
    """
    Of more jobs than one append takes, too.
    """
    rig = await Rig(tmp_path / "log.db", limits=Limits(active_per_owner_max=5_000, batch_commands_max=256)).open()
    count = 2_100
    await rig.ledger.execute_all([rig.create() for _ in range(count)])
    jobs = [job for _ in range(21) for job in (await rig.claim(100)).jobs]
    for percent in (1, 2):
        for first in range(0, count, 500):
            await rig.ledger.execute_all([progress(job, percent) for job in jobs[first : first + 500]])

    after = await rig.restarted()

    assert {2} == {job.progress.percent for job in after.ledger.memory.jobs.values() if job.progress is not None}
    assert count == len(after.ledger.memory.jobs)
    await after.check()
    await after.close()


async def test_past_the_bound_progress_is_held_until_the_end(tmp_path: Path) -> None:
    """
    A job with too many events keeps its progress in memory, and the last of it is written once, before the end.
    """
    rig = await Rig(tmp_path / "log.db", clock=FakeClock(), limits=Limits(events_per_job_max=5)).open()
    job = await rig.held()
    for percent in range(20):
        rig.clock.advance(INTERVAL_US)
        await rig.execute(progress(job, percent))
        await rig.flush()

    full = await told(rig, job)
    await rig.execute(complete(job))

    assert [0, 1, 2] == [percent for _, percent in full]
    assert [0, 1, 2, 19] == [percent for _, percent in await told(rig, job)]
    assert "completed" == (await rig.types(job))[-1]
    await rig.check()
    await rig.close()


async def test_progress_of_one_attempt_never_shows_in_the_next(rig: Rig) -> None:
    """
    What was held belongs to the lease that reported it.
    """
    job = await rig.held()
    await rig.execute(progress(job, 1))
    await rig.execute(progress(job, 99))
    await rig.execute(release(job))

    (again,) = (await rig.claim()).jobs
    rig.clock.advance(10 * INTERVAL_US)
    await rig.flush()

    assert again.progress is None
    assert rig.job(job).progress is None
