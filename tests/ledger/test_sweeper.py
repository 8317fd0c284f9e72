"""
The sweeper brings what is due, when it is due, and nothing else; whatever is done to the wall clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from jobsvc.desk import Limits
from jobsvc.domain.events import Terms
from jobsvc.domain.machine import CANCEL_GRACE_US
from jobsvc.domain.moments import SECOND_US
from tests.ledger.rig import HOUR_US, LEASE_US, Rig, cancel, claim, complete, fail, heartbeat, progress

if TYPE_CHECKING:
    from pathlib import Path


async def swept(rig: Rig, *, after_us: int) -> None:
    """
    Time goes by, with a sweep each quarter of a second at first and at the end.
    """
    rig.clock.advance(after_us)
    for _ in range(3):
        await rig.sweep()


async def test_a_lease_lapses_when_it_is_over_and_not_before(rig: Rig) -> None:
    """
    One microsecond decides; the job is due again at once, attempt given back, one loss counted.
    """
    job = await rig.held("key")

    await swept(rig, after_us=LEASE_US - 1)
    before = rig.job(job).state
    await swept(rig, after_us=1)

    after = rig.job(job)
    assert ("running", "queued", 0, 1) == (before, after.state, after.attempt, after.lost_leases)
    assert job.fence == after.fence


async def test_a_heartbeat_prolongs_a_lease_by_its_whole_length(rig: Rig) -> None:
    """
    From the moment at which it came.
    """
    job = await rig.held("key")
    rig.clock.advance(LEASE_US - 1)
    await rig.execute(heartbeat(job))

    await swept(rig, after_us=LEASE_US - 1)
    before = rig.job(job).state
    await swept(rig, after_us=1)

    assert ("running", "queued") == (before, rig.job(job).state)


async def test_a_report_before_the_sweep_counts(rig: Rig) -> None:
    """
    A heartbeat after the lease's end that comes before the sweeper keeps the lease.
    """
    job = await rig.held("key")
    rig.clock.advance(LEASE_US + 1)

    await rig.execute(heartbeat(job))
    await rig.sweep()

    assert "running" == rig.job(job).state


async def test_the_third_loss_fails_the_job(rig: Rig) -> None:
    """
    A payload that kills its workers does not do so for ever.
    """
    job = await rig.made("key")
    for _ in range(3):
        await rig.claim()
        await swept(rig, after_us=LEASE_US)

    last = await rig.ledger.read_job(job.id)
    assert ("failed", 3, "worker_lost") == (last.state, last.lost_leases, last.failure and last.failure.code)


@pytest.mark.parametrize(
    ("terms", "moment_us", "event", "reason"),
    [
        (Terms(deadline_us=5 * SECOND_US), 5 * SECOND_US, "expired", "deadline"),
        (Terms(start_within_us=5 * SECOND_US), 5 * SECOND_US, "expired", "not_started"),
        (Terms(), HOUR_US, "expired", "active_too_long"),
    ],
)
async def test_what_outlives_its_bounds_expires_in_time(
    tmp_path: Path, terms: Terms, moment_us: int, event: str, reason: str
) -> None:
    """
    Deadline, first start and the longest active time, each at its moment and not before.
    """
    rig = await Rig(tmp_path / "log.db", limits=Limits(active_max_us=HOUR_US)).open()
    job = await rig.made("key", terms=terms)

    await swept(rig, after_us=moment_us - 1)
    before = await rig.types(job)
    await swept(rig, after_us=1)

    assert ["created"] == before
    assert ["created", event] == await rig.types(job)
    assert reason == (await rig.ledger.read_job(job.id)).reason
    await rig.check()
    await rig.close()


async def test_a_first_start_in_time_is_enough(rig: Rig) -> None:
    """
    Once started, start_within_s has no more say.
    """
    job = await rig.held("key", terms=Terms(start_within_us=5 * SECOND_US))

    await swept(rig, after_us=6 * SECOND_US)

    assert "running" == rig.job(job).state


async def test_run_at_and_a_retry_come_due_at_their_moments(rig: Rig) -> None:
    """
    Not a microsecond early.
    """
    later = await rig.made(terms=Terms(run_at=rig.clock.wall + 5 * SECOND_US))
    job = await rig.held()
    await rig.execute(fail(job, retry_after_us=5 * SECOND_US))

    await swept(rig, after_us=5 * SECOND_US - 1)
    before = {rig.job(later).state, rig.job(job).state}
    await swept(rig, after_us=1)

    assert {"scheduled", "retrying"} == before
    assert {"queued"} == {rig.job(later).state, rig.job(job).state}


async def test_a_cancelled_worker_has_its_grace(rig: Rig) -> None:
    """
    It lives and does not stop: cancelled when the grace is over.
    """
    job = await rig.held("key")
    await rig.execute(cancel(job))
    rig.clock.advance(CANCEL_GRACE_US - 1)
    await rig.execute(heartbeat(job))

    await rig.sweep()
    before = rig.job(job).state
    await swept(rig, after_us=1)

    assert "cancelling" == before
    assert "cancelled" == (await rig.types(job))[-1]


async def test_a_restart_gives_leases_their_whole_length_and_grace_anew(rig: Rig) -> None:
    """
    It was the service that was away. Deadlines get no such mercy.
    """
    held = await rig.held("held")
    asked = await rig.held("asked")
    await rig.execute(cancel(asked))
    late = await rig.made("late", terms=Terms(deadline_us=SECOND_US))
    rig.clock.advance(HOUR_US)
    rig = await rig.restarted()

    await rig.sweep()
    states = (rig.job(held).state, rig.job(asked).state)
    gone = await rig.types(late)
    rig.clock.advance(LEASE_US - 1)
    await rig.execute(heartbeat(asked))
    await rig.sweep()
    still = (rig.job(held).state, rig.job(asked).state)
    await swept(rig, after_us=1)

    assert ("running", "cancelling") == states == still
    assert "expired" == gone[-1]
    assert "queued" == rig.job(held).state
    assert "cancelled" == (await rig.types(asked))[-1]
    await rig.check()
    await rig.close()


async def test_nothing_due_is_no_work(rig: Rig) -> None:
    """
    A hundred sweeps over waiting and running jobs bring no command and wait for the next moment.
    """
    for place in range(20):
        await rig.made(f"{place}", terms=Terms(deadline_us=HOUR_US))
    await rig.claim(10)
    brought: list[object] = []
    ledger = rig.ledger
    execute_all = ledger.execute_all

    async def counted(*arguments: object, **options: object) -> object:
        brought.append(arguments)
        return await execute_all(*arguments, **options)  # type: ignore[arg-type]  # handed through

    ledger.execute_all = counted  # type: ignore[method-assign,assignment]  # counts and is the real one
    for _ in range(100):
        rig.clock.advance(250_000)
        await rig.sweep()

    assert [] == brought
    assert rig.sweeper._wait_s() > 0.2  # noqa: SLF001  # no hot loop


async def test_jobs_that_ended_take_no_room(tmp_path: Path) -> None:
    """
    A job that lived a second does not keep a place for the week that it might have lived.
    """
    rig = await Rig(tmp_path / "log.db").open()
    for _ in range(20):
        await rig.ledger.execute_all([rig.create() for _ in range(100)])
        grants = await rig.claim(100)
        await rig.ledger.execute_all([complete(job) for job in grants.jobs])

    assert len(rig.sweeper._heap) < 500  # noqa: SLF001  # the bound is the promise
    assert {} == rig.sweeper._moments  # noqa: SLF001  # the same
    await rig.check()
    await rig.close()


async def test_one_job_that_cannot_be_decided_does_not_keep_the_others(rig: Rig) -> None:
    """
    Of two lapses one cannot be written, for its progress cannot; the other is written all the same.
    """
    poisoned, good = await rig.held("a"), await rig.held("b")
    await rig.execute(progress(poisoned, 1))
    await rig.execute(replace(progress(poisoned, 2), message="\ud800"))
    rig.clock.advance(LEASE_US)

    await rig.sweep()

    assert ("queued", 1) == (rig.job(good).state, rig.job(good).lost_leases)


@pytest.mark.parametrize("step_us", [-HOUR_US, HOUR_US])
async def test_a_stepped_wall_clock_neither_ends_nor_prolongs_a_lease(rig: Rig, step_us: int) -> None:
    """
    No lease lost, none immortal, and ``at`` never backwards.
    """
    job = await rig.held("key")
    rig.clock.step(step_us)

    await swept(rig, after_us=LEASE_US - 1)
    before = rig.job(job).state
    await swept(rig, after_us=1)
    given = (await rig.ledger.claim(claim())).jobs

    assert "running" == before
    assert [(job.id, 1)] == [(one.id, one.lost_leases) for one in given]


async def test_a_retry_does_not_lie_for_as_long_as_the_clock_was_set_back(rig: Rig) -> None:
    """
    An hour back, and a retry due in ten seconds is due in twenty at most; so is a deadline; restarts included.
    """
    job = await rig.held("key")
    await rig.execute(fail(job, retry_after_us=10 * SECOND_US))
    late = await rig.made("late", terms=Terms(deadline_us=10 * SECOND_US))
    rig.clock.step(-HOUR_US)
    await rig.sweep()
    rig = await rig.restarted()

    await swept(rig, after_us=20 * SECOND_US)

    assert "queued" == rig.job(job).state
    assert "expired" == (await rig.types(late))[-1]
    await rig.check()
    await rig.close()


async def test_time_agrees_with_the_wall_again_once_that_has_caught_up(rig: Rig) -> None:
    """
    After a step back by a minute it takes two until both are one again, and no moment comes twice.
    """
    await rig.made()
    rig.clock.step(-60 * SECOND_US)
    moments = []
    for _ in range(13):
        moments.append(rig.ledger.now() - rig.clock.now())
        rig.clock.advance(10 * SECOND_US)
        await rig.made()

    assert [(60 - 5 * turn) * SECOND_US for turn in range(13)] == moments
