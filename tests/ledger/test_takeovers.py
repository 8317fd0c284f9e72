"""
A guest that becomes a user, however much it has: one transaction for what is active, bounded ones for what has ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from jobsvc import handovers as handovers_module
from jobsvc.desk import Limits
from jobsvc.domain import commands as c
from jobsvc.domain.errors import InvalidCommand, StoreDown
from jobsvc.domain.words import Principal
from jobsvc.handovers import Handovers
from jobsvc.http.revocations import Revocation, Revocations
from jobsvc.memory import Memory
from jobsvc.store.sqlite import SqliteStore
from jobsvc.tokens import Bearer
from tests.ledger.rig import Rig, complete, handed_over, progress, take_over, together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jobsvc.store.seam import Batch, Found, Head, HistoryQuery, HistoryRow, Needs

MANY = 1_000
RUN_AFTER = c.Dedup(on_active="run_after")


class CountingStore(SqliteStore):
    """
    The shipped store, which remembers how many events each transaction held.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batches: list[int] = []

    async def append(self, batch: Batch, *, decided_at: int) -> Head:
        """
        As shipped.
        """
        self.batches.append(len(batch.events))
        return await super().append(batch, decided_at=decided_at)


@pytest.mark.parametrize("older", ["guest:g", "user:a"])
async def test_a_thousand_active_jobs_move_in_one_transaction(tmp_path: Path, older: str) -> None:
    """
    Each a double of the user's, each running with progress held back and a follow-up to be handed on: five events each.
    """
    store = CountingStore(tmp_path / "log.db")
    rig = await Rig(tmp_path / "log.db", store=store, limits=Limits(queue_commands_max=100_000)).open()
    younger = "user:a" if older == "guest:g" else "guest:g"
    for owner in (older, younger):
        await together(*(rig.made(f"{number}", owner=owner) for number in range(MANY)))
    await together(*(rig.execute(rig.create(f"{i}", owner=younger, dedup=RUN_AFTER)) for i in range(MANY)))
    jobs = (await rig.ledger.claim(_claim_all())).jobs
    for percent in (1, 2):
        await together(*(rig.execute(progress(job, percent)) for job in jobs))
    store.batches.clear()

    taken = await rig.ledger.take_over(take_over("guest:g"))

    assert ([5 * MANY], (0, MANY)) == (store.batches, (taken.moved, taken.merged))
    kept = rig.ledger.memory.of_owner("user:a")
    assert MANY == len(kept) == sum(job.followup is not None for job in kept)
    assert {"user:a"} == {job.followup.submission.owner for job in kept if job.followup is not None}
    await rig.check()
    await rig.close()


def _claim_all() -> c.Claim:
    return c.Claim(Principal("worker", "w1"), frozenset(), 2 * MANY, 3_600_000_000, "w1")


class PausedStore(SqliteStore):
    """
    The shipped store, whose next look-up is answered but comes back only when the test lets it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.armed = False
        self.paused = asyncio.Event()
        self.go_on = asyncio.Event()

    async def look_up(self, needs: Needs) -> Found:
        """
        As shipped, and late.
        """
        found = await super().look_up(needs)
        if self.armed:
            self.armed = False
            self.paused.set()
            await self.go_on.wait()
        return found


async def test_a_narrow_revocation_under_way_undoes_no_claim(tmp_path: Path) -> None:
    """
    A guest is spent for good, though an operator was just revoking its older tokens, here and after a restart.
    """
    store = PausedStore(tmp_path / "log.db")
    rig = await Rig(tmp_path / "log.db", store=store).open()
    revocations = Revocations(store, rig.ledger, rig.clock, ttl_s=3_600)
    rig.ledger.on_spent.append(revocations.note_claimed)
    now = rig.clock.now()
    guest = Bearer(Principal("guest", "guest:g", "guest:g"), now + 3_600_000_000, issued_at=now)

    store.armed = True
    revoking = asyncio.create_task(revocations.revoke(Revocation("guest:g", "lost", issued_before=now - 1)))
    await store.paused.wait()
    await rig.ledger.take_over(take_over("guest:g"))
    store.go_on.set()
    await revoking

    after_restart = Revocations(store, rig.ledger, rig.clock, ttl_s=3_600)
    assert (True, True) == (revocations.covered_lately(guest), await after_restart.covers(guest))
    await rig.close()


async def test_ended_jobs_follow_in_bounded_transactions_each_guest_in_turn(tmp_path: Path) -> None:
    """
    Nobody's handover waits for the whole of another's, and none moves more in one transaction than it may.
    """
    store = CountingStore(tmp_path / "log.db")
    rig = await Rig(tmp_path / "log.db", store=store).open()
    for guest, count in (("guest:many", 5), ("guest:few", 1)):
        for _ in range(count):
            await rig.execute(complete(await rig.held(owner=guest)))
        await rig.ledger.take_over(take_over(guest))
    handovers = Handovers(rig.ledger, store, jobs_max=2)
    await handovers.find()
    store.batches.clear()

    left: list[int] = []
    while len(handovers):
        await handovers.step()
        left.append(len(handovers))

    assert [1, 2, 2, 1] == store.batches
    assert [1, 1, 1, 0] == left
    await rig.check()
    await rig.close()


async def test_a_guest_is_claimed_once_also_by_who_comes_after_a_restart(rig: Rig) -> None:
    """
    What the store remembers of it is asked for again, whoever claims.
    """
    await rig.made("key", owner="guest:g")
    await rig.ledger.take_over(take_over("guest:g"))
    again: Any = await together(rig.ledger.take_over(take_over("guest:g")))

    later_rig = await rig.restarted()

    later: Any = await together(later_rig.ledger.take_over(take_over("guest:g", "user:b")))
    assert [InvalidCommand, InvalidCommand] == [type(again[0]), type(later[0])]
    assert 1 == len(later_rig.ledger.memory.of_owner("user:a"))
    await handed_over(later_rig)
    await later_rig.check()
    await later_rig.close()


async def test_a_report_of_an_ended_job_is_repeated_under_its_new_owner(rig: Rig) -> None:
    """
    The worker that asks again after the handover gets the first answer.
    """
    held = await rig.held("key", owner="guest:g")
    await rig.execute(complete(held))
    await rig.ledger.take_over(take_over("guest:g"))
    await handed_over(rig)

    again = await rig.execute(complete(held))

    assert ("repeated", "guest:g") == (again.outcome, again.job.owner)
    assert "user:a" == (await rig.ledger.read_job(held.id)).owner


async def test_what_was_forgotten_of_a_finished_handover_is_found_by_nobody(rig: Rig) -> None:
    """
    Its mark has run out as soon as the last job has moved, and goes with the next sweep.
    """
    await rig.ledger.take_over(take_over("guest:g"))
    pending = await rig.store.read_marks("handovers", now=rig.clock.now())

    await handed_over(rig)

    assert ["guest:g"] == [mark.scope for mark in pending]
    assert [] == await rig.store.read_marks("handovers", now=rig.clock.now())
    assert 1 == await rig.store.forget_marks(expired_at=rig.clock.now())


class StumblingStore(SqliteStore):
    """
    The shipped store, whose first looks into the history fail, each in its own way.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.failures: list[Exception] = [StoreDown(), RuntimeError("a fault")]

    async def read_history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """
        As shipped, once nothing fails any more.
        """
        if self.failures:
            raise self.failures.pop(0)
        return await super().read_history(query)


async def test_a_handover_outlives_a_store_that_is_away_and_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It is tried again until it is done; only the fault is an error that somebody is told of.
    """
    monkeypatch.setattr(handovers_module, "_RETRY_S", 0.001)
    store = StumblingStore(tmp_path / "log.db")
    rig = await Rig(tmp_path / "log.db", store=store).open()
    held = await rig.held(owner="guest:g")
    await rig.execute(complete(held))
    handovers = Handovers(rig.ledger, store, jobs_max=2)
    await handovers.start()

    await rig.ledger.take_over(take_over("guest:g"))
    moved = await handovers.wait("guest:g", 30)

    assert (1, "user:a") == (moved, (await rig.ledger.read_job(held.id)).owner)
    assert ["handover.failed"] == [record.message for record in caplog.records if record.levelname == "ERROR"]
    await handovers.stop()
    await rig.close()


def test_only_so_many_spent_guests_are_remembered() -> None:
    """
    The newest: memory is bounded however many claims there are.
    """
    memory = Memory()

    for number in range(100_001):
        memory.spend(f"guest:{number}")

    assert 100_000 == len(memory.spent)
    assert ("guest:0" in memory.spent, "guest:100000" in memory.spent) == (False, True)
