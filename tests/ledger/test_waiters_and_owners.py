"""
Who waits for a job's next event, and jobs that pass from one owner to another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobsvc.domain import commands as c
from jobsvc.domain.words import Principal
from tests.ledger.rig import Rig, cancel, together

if TYPE_CHECKING:
    from jobsvc.domain.job import Job

USER = Principal("user", "user:a", "user:a")


def moved(job: Job) -> c.ChangeOwner:
    """
    *job* becomes the user's.
    """
    return c.ChangeOwner(job.id, USER, USER.subject)


async def test_every_waiter_of_a_job_is_woken_by_its_next_event_and_by_no_other(rig: Rig) -> None:
    """
    In the turn of the commit, however many wait.
    """
    job, other = await rig.made(), await rig.made()
    waiters = rig.ledger.job_waiters
    waiting = [asyncio.create_task(waiters.wait(job.id, timeout_s=30)) for _ in range(9)]
    elsewhere = asyncio.create_task(waiters.wait(other.id, timeout_s=30))
    await asyncio.sleep(0)

    await rig.execute(cancel(job))

    assert [True] * 9 == await together(*waiting)
    assert not elsewhere.done()
    waiters.wake_all()
    assert await elsewhere
    assert 0 == len(waiters)


async def test_a_waiter_that_is_cancelled_is_gone_and_the_others_are_not(rig: Rig) -> None:
    """
    Before it is woken, and in the very turn in which it is.
    """
    job = await rig.made()
    waiters = rig.ledger.job_waiters
    early, late, stays = (asyncio.create_task(waiters.wait(job.id, timeout_s=30)) for _ in range(3))
    await asyncio.sleep(0)

    early.cancel()
    await asyncio.wait([early])
    left = len(waiters)
    cancelling = asyncio.create_task(rig.execute(cancel(job)))

    def close(_: object) -> None:
        late.cancel()

    rig.ledger.on_commit.append(close)
    await asyncio.wait([late, stays, cancelling])

    assert 2 == left
    assert late.cancelled()
    assert stays.result()
    assert 0 == len(waiters)


async def test_a_wait_ends_in_time(rig: Rig) -> None:
    """
    Nothing happened, and nothing is left behind.
    """
    job = await rig.made()

    assert not await rig.ledger.job_waiters.wait(job.id, timeout_s=0)
    assert not await rig.ledger.worker_waiters.wait(frozenset(), timeout_s=0)
    assert 0 == len(rig.ledger.job_waiters) == len(rig.ledger.worker_waiters)


async def test_a_job_takes_its_key_its_lease_and_its_place_to_its_new_owner(rig: Rig) -> None:
    """
    Queued or held: it is found under the new owner and key, oldest first, and the old key is free.
    """
    queued = await rig.made("key", owner="guest:g")
    held = await rig.made("held", owner="guest:g", kind="other")
    (held,) = (await rig.claim(kinds=["other"])).jobs
    younger = await rig.made("younger")

    await rig.ledger.execute_all([moved(queued), moved(held)])

    assert [queued.id, held.id, younger.id] == [job.id for job in rig.ledger.memory.of_owner("user:a")]
    assert "attached" == (await rig.execute(rig.create("key"))).outcome
    assert "created" == (await rig.execute(rig.create("key", owner="guest:g"))).outcome
    assert queued.id in {job.id for job in (await rig.claim(3)).jobs}


async def test_two_jobs_for_one_key_become_one_in_one_transaction(rig: Rig) -> None:
    """
    Whichever is older; the key row passes from one to the other, and memory with it.
    """
    for order in (("guest:g", "user:a"), ("user:a", "guest:g")):
        key = "-".join(order)
        jobs = {owner: await rig.made(key, owner=owner) for owner in order}
        keep, give = jobs[order[0]], jobs[order[1]]
        commands: list[c.JobCommand] = [c.Merge(give.id, keep.id, USER)]
        if order[0] == "guest:g":
            commands.append(moved(keep))

        await rig.ledger.execute_all(commands)

        attached = await rig.execute(rig.create(key))
        assert ("attached", keep.id, "user:a") == (attached.outcome, attached.job.id, attached.job.owner)
        await rig.check()


async def test_a_claim_and_creates_at_once_leave_one_job_a_key(rig: Rig) -> None:
    """
    A create by the guest or the user in the batch of the claim finds the key where it is by then.
    """
    job = await rig.made("key", owner="guest:g")

    before, _, after, fresh = await together(
        rig.execute(rig.create("key", owner="guest:g")),
        rig.execute(moved(job)),
        rig.execute(rig.create("key")),
        rig.execute(rig.create("key", owner="guest:g")),
    )

    assert ["attached", "attached", "created"] == [before.outcome, after.outcome, fresh.outcome]
    assert job.id == after.job.id
