"""
Two ledgers on one log: who decided on an old head folds what came since and decides again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.desk import Limits
from jobsvc.domain.errors import LeaseLost
from jobsvc.store.sqlite import SqliteStore
from tests.ledger.rig import FakeClock, Rig, claim, complete, heartbeat, progress, together

if TYPE_CHECKING:
    from pathlib import Path


async def pair(path: Path) -> tuple[Rig, Rig]:
    """
    Two services that write one log.
    """
    clock, limits = FakeClock(), Limits(active_per_owner_max=10_000)
    one = await Rig(path, clock=clock, limits=limits, store=SqliteStore(path, alone=False)).open()
    other = await Rig(path, clock=clock, limits=limits, store=SqliteStore(path, alone=False)).open()
    return one, other


async def level(one: Rig, other: Rig) -> None:
    """
    Both have seen the head: each wrote something after the other.
    """
    await one.made()
    await other.made()
    await one.made()
    (last,) = (await other.store.read_events(after=other.ledger.memory.position, limit=9),)
    assert 1 == len(last)


async def test_two_ledgers_never_make_two_active_jobs_for_one_key(tmp_path: Path) -> None:
    """
    Both are asked at once for the same keys, again and again: one job a key, and both answer with it.
    """
    one, other = await pair(tmp_path / "log.db")

    for number in range(10):
        keys = [f"{number}-{place}" for place in range(5)]
        answers = await together(*(rig.execute(rig.create(key)) for key in keys for rig in (one, other)))
        assert 5 == len({answer.job.id for answer in answers})
        assert 5 == sum(answer.outcome == "created" for answer in answers)

    await level(one, other)
    await one.check()
    await one.close()
    await other.close()


async def test_two_ledgers_never_give_one_job_to_two(tmp_path: Path) -> None:
    """
    Each has the job in its line; the one that comes second finds it gone.
    """
    one, other = await pair(tmp_path / "log.db")
    await together(*(one.execute(one.create()) for _ in range(20)))
    await other.made()

    grants = await together(*(rig.ledger.claim(claim(3)) for _ in range(5) for rig in (one, other)))

    given = [job.id for grant in grants for job in grant.jobs]
    assert 21 == len(given) == len(set(given))
    await level(one, other)
    await one.check()
    await one.close()
    await other.close()


async def test_a_ledger_that_is_far_behind_takes_in_everything(tmp_path: Path) -> None:
    """
    More came than one page holds: nothing of it is jumped over, and the feed has each event once.
    """
    one, other = await pair(tmp_path / "log.db")
    for _ in range(9):
        await together(*(one.execute(one.create()) for _ in range(250)))

    await other.made("key")

    assert 2251 == other.ledger.memory.position == len(other.changes)
    assert [*range(1, 2252)] == [change.event.position for change in other.changes]
    await other.check()
    await one.close()
    await other.close()


async def test_what_another_ended_is_over_here_too(tmp_path: Path) -> None:
    """
    A lease ended elsewhere is ended here, and progress that was held for it is not written after the end.
    """
    one, other = await pair(tmp_path / "log.db")
    held = await one.held("key")
    await one.execute(progress(held, 1))
    await one.execute(progress(held, 2))
    await other.execute(complete(held))

    one.clock.advance(1_000_000)
    await one.flush()
    refused = await one.told(heartbeat(held))
    created = await one.execute(one.create("key"))

    assert isinstance(refused, LeaseLost) or "renewed" == refused.outcome  # type: ignore[union-attr]
    assert "created" == created.outcome
    assert isinstance(await one.told(heartbeat(held)), LeaseLost)
    assert ["created", "started", "progressed", "completed"] == await one.types(held)
    await one.check()
    await one.close()
    await other.close()


async def test_running_leases_go_on_while_another_writes(tmp_path: Path) -> None:
    """
    Falling behind is no restart: a lease does not begin anew.
    """
    one, other = await pair(tmp_path / "log.db")
    held = await one.held("key")
    one.clock.advance(10_000_000)
    await other.made("other")

    await one.made("third")

    assert 20_000_000 == one.ledger.leases.remaining_us(held.id, elapsed=one.clock.elapsed())
    await one.close()
    await other.close()
