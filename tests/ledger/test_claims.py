"""
A claim gives each job to one worker, and what never reached its worker is given back unharmed.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from jobsvc.domain.errors import LeaseLost
from jobsvc.domain.events import Terms
from jobsvc.domain.words import Principal
from tests.ledger.rig import LEASE_US, Rig, cancel, claim, complete, heartbeat, release, together


async def test_no_job_is_given_to_two(rig: Rig) -> None:
    """
    Fifty claims at once for thirty jobs: each job once.
    """
    await together(*(rig.execute(rig.create()) for _ in range(30)))

    grants = await together(*(rig.claim() for _ in range(50)))

    given = [job.id for grant in grants for job in grant.jobs]
    assert 30 == len(given) == len(set(given))


async def test_a_claim_gets_what_is_staged_before_it(rig: Rig) -> None:
    """
    A job of the same batch is ready.
    """
    created, grants = await together(rig.execute(rig.create()), rig.claim())

    assert [created.job.id] == [job.id for job in grants.jobs]


async def test_the_same_claim_gives_the_same_grants_while_their_leases_live(rig: Rig) -> None:
    """
    A lost answer costs nothing: in one batch, later, and after a restart, in the same order.
    """
    await together(*(rig.execute(rig.create()) for _ in range(9)))

    first, second = await together(rig.claim(5, name="c"), rig.claim(5, name="c"))
    third = await rig.claim(5, name="c")
    await rig.execute(heartbeat(first.jobs[0]))
    fourth = await rig.claim(5, name="c")
    other = await rig.claim(5, name="d")
    restarted = await rig.restarted()
    last = await restarted.claim(5, name="c")

    assert 5 == len(first.jobs) == len(first.fresh)
    assert list(first.jobs) == list(second.jobs) == list(third.jobs) == list(fourth.jobs)
    assert sorted(job.id for job in first.jobs) == sorted(job.id for job in last.jobs)
    assert () == tuple(second.fresh) == tuple(last.fresh)
    assert 4 == len(other.jobs)
    await restarted.close()


async def test_the_same_claim_gives_others_once_its_leases_are_over(rig: Rig) -> None:
    """
    What lapsed or ended is not given again by name.
    """
    await together(*(rig.execute(rig.create()) for _ in range(2)))
    (first,) = (await rig.claim(name="c")).jobs
    rig.clock.advance(LEASE_US)

    (second,) = (await rig.claim(name="c")).jobs

    assert first.id != second.id


async def test_a_job_released_and_claimed_by_the_same_name_in_a_batch_is_given_once(rig: Rig) -> None:
    """
    The claim's name leads to each job once, however often it got it.
    """
    await rig.made()
    (held,) = (await rig.claim(name="c")).jobs

    _, second, third = await together(rig.execute(release(held)), rig.claim(name="c"), rig.claim(name="c"))

    assert 1 == len(second.jobs) == len(third.jobs)
    assert held.fence + 2 == second.jobs[0].fence


async def test_a_claim_cancelled_before_its_commit_gives_its_grants_back(rig: Rig) -> None:
    """
    Attempt and losses are as before, and the fence has moved on.
    """
    job = await rig.made("key")
    asking = asyncio.create_task(rig.claim())
    await asyncio.sleep(0)

    asking.cancel()
    await asyncio.wait([asking])
    await rig.settled()
    await rig.settled()

    back = rig.job(job)
    assert ("queued", 0, 0, 2) == (back.state, back.attempt, back.lost_leases, back.fence)
    assert job.ready_at == back.ready_at


async def test_a_claim_cancelled_between_commit_and_answer_gives_its_grants_back(rig: Rig) -> None:
    """
    The connection closes in the very turn in which the answer is there: nobody took it, so nobody has the job.
    """
    job = await rig.made("key")
    asking = asyncio.create_task(rig.claim())

    def close(_: object) -> None:
        asyncio.get_running_loop().call_soon(asking.cancel)

    rig.ledger.on_commit.append(close)

    await asyncio.wait([asking])
    rig.ledger.on_commit.pop()
    await rig.settled()
    await rig.settled()

    assert asking.cancelled()
    back = rig.job(job)
    assert ("queued", 0, 0, 2) == (back.state, back.attempt, back.lost_leases, back.fence)


async def test_a_grant_given_again_under_its_name_is_not_taken_back(rig: Rig) -> None:
    """
    The first answer was lost, and the worker asked again before that was known: it keeps the job.
    """
    await rig.made("key")
    lost = asyncio.create_task(rig.claim(name="c"))
    asked_again = asyncio.create_task(rig.claim(name="c"))
    await asyncio.sleep(0)

    lost.cancel()
    await asyncio.wait([lost, asked_again])
    await rig.settled()
    await rig.settled()

    (held,) = (await asked_again).jobs
    assert held == rig.job(held)
    assert "renewed" == (await rig.execute(heartbeat(held))).outcome


async def test_a_grant_undone_after_its_lease_ended_changes_nothing(rig: Rig) -> None:
    """
    Undoing is a release: too late, it is refused like any.
    """
    held = await rig.held()
    await rig.execute(complete(held))

    rig.ledger.undo([held])
    await rig.settled()

    assert ["created", "started", "completed"] == await rig.types(held)


async def test_a_hundred_abandoned_waits_cost_the_live_one_nothing(rig: Rig) -> None:
    """
    100 waiters whose connections closed, then one job: the one that still waits has it at once.
    """
    waiters = rig.ledger.worker_waiters
    gone = [asyncio.create_task(waiters.wait(frozenset(), timeout_s=30)) for _ in range(100)]
    alive = asyncio.create_task(waiters.wait(frozenset(), timeout_s=30))
    await asyncio.sleep(0)

    for waiter in gone:
        waiter.cancel()
    job = await rig.made()

    assert await alive
    (held,) = (await rig.claim()).jobs
    assert (job.id, 1, 0) == (held.id, held.attempt, held.lost_leases)
    await asyncio.wait(gone)
    assert 0 == len(waiters)


async def test_a_waiter_woken_and_gone_has_the_next_one_woken(rig: Rig) -> None:
    """
    A connection that closes in the turn in which its waiter is woken does not swallow the news.
    """
    waiters = rig.ledger.worker_waiters
    gone = [asyncio.create_task(waiters.wait(frozenset(), timeout_s=30)) for _ in range(3)]
    alive = asyncio.create_task(waiters.wait(frozenset(), timeout_s=30))
    await asyncio.sleep(0)

    def close_all(_: object) -> None:
        for waiter in gone:
            asyncio.get_running_loop().call_soon(waiter.cancel)

    rig.ledger.on_commit.append(close_all)
    await rig.made()

    async with asyncio.timeout(1):
        assert await alive
    await asyncio.wait(gone)


async def test_waiters_are_woken_by_kind_in_the_order_they_came(rig: Rig) -> None:
    """
    A job wakes the first that wants its kind, and nobody else.
    """
    waiters = rig.ledger.worker_waiters
    other, first, second = (
        asyncio.create_task(waiters.wait(frozenset([kind]), timeout_s=30)) for kind in ("other", "k", "k")
    )
    await asyncio.sleep(0)

    await rig.made()

    assert await first
    assert (False, False) == (other.done(), second.done())
    waiters.wake_all()
    await asyncio.wait([other, second])


async def test_a_job_that_may_not_start_is_passed_over_and_leaves_the_line(rig: Rig) -> None:
    """
    Past its deadline and not yet swept, a job is given to nobody and found by no other claim; it hides none.
    """
    late = await rig.made("late", terms=Terms(deadline_us=1_000_000, priority=9))
    rig.clock.advance(2_000_000)
    good = await rig.made("good")

    grants = await rig.claim(2)
    still_ready = rig.ledger.ready
    await rig.sweep()

    assert [good.id] == [job.id for job in grants.jobs]
    assert 0 == still_ready
    assert ["created", "expired"] == await rig.types(late)


async def test_a_job_whose_kind_a_token_does_not_name_stays_for_others(rig: Rig) -> None:
    """
    A refusal takes nothing off the line.
    """
    job = await rig.made(kind="secret")
    blind = replace(claim(), who=Principal("worker", "w2", kinds=frozenset(["plain"])))

    refused = await rig.ledger.claim(blind)
    given = await rig.claim()

    assert [] == list(refused.jobs)
    assert [job.id] == [one.id for one in given.jobs]


async def test_a_cancelled_job_is_given_to_nobody(rig: Rig) -> None:
    """
    In the same batch or before.
    """
    first, second, third = [await rig.made() for _ in range(3)]
    await rig.execute(cancel(first))

    _, grants = await together(rig.execute(cancel(second)), rig.claim(3))

    assert [third.id] == [job.id for job in grants.jobs]


async def test_a_fence_never_repeats(rig: Rig) -> None:
    """
    Over grants, releases and undone grants it only rises, and the old holder is refused.
    """
    job = await rig.made()
    fences = []
    for _ in range(5):
        (held,) = (await rig.claim()).jobs
        fences.append(held.fence)
        rig.ledger.undo([held])
        await rig.settled()
        assert isinstance(await rig.told(heartbeat(held)), LeaseLost)

    assert sorted(set(fences)) == fences
    assert rig.job(job).fence > fences[-1]
