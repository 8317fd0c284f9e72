"""
The races for a job between those who work on it, watch over it and give it up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobsvc.answers import Answer, Grants
from jobsvc.domain import commands as c
from jobsvc.domain.errors import LeaseLost
from jobsvc.domain.moments import SECOND_US
from tests.ledger.rig import HOUR_US, LEASE_US, OPERATOR, cancel, complete, fail, heartbeat, progress, release
from tests.races.schedule import Gone

if TYPE_CHECKING:
    from jobsvc.domain.job import Job
    from tests.races.conftest import Explore
    from tests.races.schedule import Play


async def test_a_lease_that_lapses_beats_or_completes_does_one_of_them(explore: Explore) -> None:
    """
    Race 8: a sign of life before the sweeper counts; a success counts until somebody else has the job, then it is kept.
    """

    async def race(play: Play) -> None:
        held = await play.held()
        play.rig.clock.advance(LEASE_US)

        _, beat, done, other = await play.run(
            play.sweeps(3), play.asks(heartbeat(held)), play.asks(complete(held)), play.claims()
        )

        types = (await play.types(held))[2:]
        taken = bool(other.jobs)
        if isinstance(beat, Answer):
            assert ["completed"] == types
        elif isinstance(done, Answer):
            assert types in (["lease_expired", "completed"], ["lease_expired", "due", "completed"], ["completed"])
        else:
            assert taken
            assert done.may_complete is False
            assert {"late_result", "started"} < set(types)

    await explore(race)


async def test_two_who_rescue_a_job_count_one_loss(explore: Explore) -> None:
    """
    Race 9: both saw the lease lapse; the second finds it done, and takes nothing from the worker who has the job since.
    """

    async def race(play: Play) -> None:
        held = await play.held()
        play.rig.clock.advance(LEASE_US)

        async def goes_on() -> Job | None:
            await play.sweeps(2)
            grants = await play.claims()
            assert isinstance(grants, Grants)
            return grants.jobs[0] if grants.jobs else None

        rescues = [play.late(play.asks(c.Lapse(held.id))) for _ in range(3)]
        *_, fresh = await play.run(*rescues, play.sweeps(), goes_on())

        assert 1 == (await play.types(held)).count("lease_expired")
        assert 1 == play.rig.job(held).lost_leases
        if fresh is not None:
            assert "renewed" == (await play.rig.execute(heartbeat(fresh))).outcome

    await explore(race)


async def test_a_worker_that_comes_back_under_its_name_keeps_what_it_is_given(explore: Explore) -> None:
    """
    Race 10: its first connection closes at any moment, it asks again under the same claim: what it holds is not undone.
    """

    async def race(play: Play) -> None:
        for key in ("a", "b"):
            await play.made(key)

        lost, again, *_ = await play.run(
            play.claims_and_hangs_up(2, name="c"), play.claims(2, name="c"), play.claims_and_hangs_up(1, name="d")
        )

        for grants in (lost, again):
            for job in () if isinstance(grants, Gone) else grants.jobs:
                assert "renewed" == (await play.rig.execute(heartbeat(job))).outcome

    await explore(race)


async def test_a_cancel_a_claim_and_a_success_agree_on_one_end(explore: Explore) -> None:
    """
    Race 12: cancelled while it waits, nobody gets it; cancelled while it runs, its worker's success still counts.
    """

    async def race(play: Play) -> None:
        job = await play.made()

        async def works() -> object:
            grants = await play.claims()
            assert isinstance(grants, Grants)
            return await play.asks(complete(grants.jobs[0])) if grants.jobs else None

        done, asked = await play.run(works(), play.asks(cancel(job)))

        types = (await play.types(job))[1:]
        match asked.job.state:
            case "cancelled":
                assert (None, ["cancelled"]) == (done, types)
            case "cancelling":
                assert "completed" == done.job.state
                assert ["started", "cancel_requested", "completed"] == types
            case _:
                assert ["started", "completed"] == types

    await explore(race)


async def test_a_fence_is_not_good_again_after_a_release(explore: Explore) -> None:
    """
    Race 13: whoever gave a job back may not report on it, whether or not somebody else has it by then.
    """

    async def race(play: Play) -> None:
        held = await play.held()

        async def gives_back_and_regrets() -> list[object]:
            return [await play.asks(release(held)), await play.asks(complete(held)), await play.asks(heartbeat(held))]

        told, other = await play.run(gives_back_and_regrets(), play.claims())

        assert "changed" == told[0].outcome
        assert [LeaseLost, LeaseLost] == [type(refusal) for refusal in told[1:]]
        assert [False, False] == [refusal.may_complete for refusal in told[1:]]
        assert all(held.fence < job.fence for job in other.jobs)

    await explore(race)


async def test_a_job_that_cannot_be_written_keeps_no_other_from_rescue(explore: Explore) -> None:
    """
    Race 14: among the leases that lapse is one whose job no batch can take; the others are found all the same.
    """

    async def race(play: Play) -> None:
        poisoned, *good = [await play.held(key) for key in "abc"]
        await play.rig.execute(progress(poisoned, 1))
        await play.rig.execute(replace(progress(poisoned, 2), message="\ud800"))
        play.rig.clock.advance(LEASE_US)

        _, beat = await play.run(play.sweeps(), play.asks(heartbeat(good[0])))

        found = {job.id for job in good if (await play.types(job))[2:3] == ["lease_expired"]}
        assert found == {job.id for job in good[isinstance(beat, Answer) :]}
        assert play.store.refused
        play.store.refused.clear()

    await explore(race)


async def test_a_stepped_clock_ends_no_lease_and_leaves_none_for_ever(explore: Explore) -> None:
    """
    Race 18: an hour forward or back at any moment: leases last as long as they last, and so does a retry.
    """

    async def race(play: Play) -> None:
        first = await play.held("first")
        await play.made("second")

        async def steps() -> None:
            for _ in range(2):
                await play.turn("step")
                play.rig.clock.step(play.chance.choice((-HOUR_US, HOUR_US)))

        _, grants, *_ = await play.run(
            steps(), play.claims(), play.sweeps(2), play.asks(fail(first, retry_after_us=SECOND_US))
        )

        (second,) = grants.jobs
        await _pass(play, LEASE_US - 1)
        assert "running" == play.rig.job(second).state
        await _pass(play, LEASE_US)
        assert ("queued", 1) == (play.rig.job(second).state, play.rig.job(second).lost_leases)
        assert "queued" == play.rig.job(first).state

    await explore(race)


async def test_a_claim_given_up_costs_nobody_anything(explore: Explore) -> None:
    """
    Jobs granted to connections that close are given to who still asks: attempt 1, no loss, and none to two.
    """

    async def race(play: Play) -> None:
        for key in ("a", "b"):
            await play.made(key)

        told = await play.run(*(play.claims_and_hangs_up() for _ in range(4)), play.claims())
        last = await play.rig.claim(2)

        taken = [job.id for grants in (*told, last) if isinstance(grants, Grants) for job in grants.jobs]
        assert 2 == len(taken) == len(set(taken))
        assert [(1, 0)] * len(last.jobs) == [(job.attempt, job.lost_leases) for job in last.jobs]

    await explore(race)


async def test_a_cleanup_and_the_sweeper_end_a_lapsed_job_once(explore: Explore) -> None:
    """
    Race 9, by two doors: whoever is second finds nothing left to do, or a job that somebody has again.
    """

    async def race(play: Play) -> None:
        held = await play.held()
        play.rig.clock.advance(LEASE_US)

        cleaned, *_ = await play.run(
            play.asks(c.CleanUp(held.id, OPERATOR)), play.sweeps(2), play.asks(c.CleanUp(held.id, OPERATOR))
        )

        types = (await play.types(held))[2:]
        assert isinstance(cleaned, Answer) == (types == ["expired"]) or types[0] == "lease_expired"
        assert 1 == sum(one in {"expired", "lease_expired"} for one in types)

    await explore(race)


async def _pass(play: Play, by_us: int) -> None:
    """
    Time goes by, and the sweeper has seen to it.
    """
    play.rig.clock.advance(by_us)
    for _ in range(2):
        await play.rig.sweep()
