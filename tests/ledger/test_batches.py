"""
What is queued in one loop turn is decided in order and committed at once; nobody pays for a neighbour's fault.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import pytest
from msgspec.structs import replace

from jobsvc.answers import Answer, MarkRequest
from jobsvc.channel import Scope
from jobsvc.desk import Limits
from jobsvc.domain import commands as c
from jobsvc.domain.errors import (
    AccessDenied,
    Draining,
    DuplicateActiveJob,
    IdempotencyKeyReused,
    JobNotFound,
    LeaseLost,
    StoreBusy,
    TooManyActive,
)
from jobsvc.domain.words import Principal
from jobsvc.store.sqlite import SqliteStore
from tests.ledger.rig import Rig, cancel, claim, complete, fail, release, together

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.store.seam import Batch, Head

MARK = MarkRequest("user:a", "POST /api/jobs", "once", "digest")
UNWRITABLE = "\ud800"
"""Half a character: no encoding takes it, so an event that carries it cannot be written."""


class CountingStore(SqliteStore):
    """
    A store that counts its appends.
    """

    appends = 0

    async def append(self, batch: Batch, *, decided_at: int) -> Head:
        """
        As ever, and counted.
        """
        self.appends += 1
        return await super().append(batch, decided_at=decided_at)


async def test_a_hundred_commands_of_one_turn_commit_in_one_append(tmp_path: Path) -> None:
    """
    What gathers while nobody writes is one batch.
    """
    store = CountingStore(tmp_path / "log.db")
    rig = await Rig(tmp_path / "log.db", store=store).open()

    answers = await together(*(rig.execute(rig.create()) for _ in range(100)))

    assert 1 == store.appends
    assert 100 == len({answer.job.id for answer in answers})
    assert [*range(1, 101)] == [answer.position for answer in answers]
    await rig.check()
    await rig.close()


async def test_a_hundred_creates_of_one_turn_for_one_key_make_one_job(rig: Rig) -> None:
    """
    The first makes the job, all others attach to what is only staged, and none is told before the commit.
    """
    answers = await together(*(rig.execute(rig.create("key")) for _ in range(100)))

    assert ["created", *["attached"] * 99] == [answer.outcome for answer in answers]
    assert 1 == len({answer.job.id for answer in answers})
    assert 1 == len(await rig.log())


async def test_a_refused_command_leaves_its_neighbours_alone(rig: Rig) -> None:
    """
    Of three, the one in the middle is refused and the others are carried out.
    """
    stranger = replace(rig.create("b"), who=Principal("guest", "guest:x", "guest:x"))

    first, second, third = await together(
        rig.execute(rig.create("a")), rig.execute(stranger), rig.execute(rig.create("c"))
    )

    assert isinstance(second, AccessDenied)
    assert ["created", "created"] == [first.outcome, third.outcome]


async def test_a_command_that_cannot_be_written_leaves_its_neighbours_alone(rig: Rig) -> None:
    """
    A fault of ours costs the one whose command brought it out, and nobody's lease or progress.
    """
    held = await rig.held("held")
    rig.clock.advance(10_000_000)
    poisoned = replace(rig.create("b"), request_id=UNWRITABLE)

    first, second, third = await together(
        rig.execute(rig.create("a")), rig.execute(poisoned), rig.execute(rig.create("c"))
    )

    assert isinstance(second, UnicodeEncodeError)
    assert ["created", "created"] == [first.outcome, third.outcome]
    assert 20_000_000 == rig.ledger.leases.remaining_us(held.id, elapsed=rig.clock.elapsed())


async def test_a_command_that_cannot_be_decided_leaves_its_neighbours_alone(rig: Rig) -> None:
    """
    A fault while deciding is the same.
    """
    held = await rig.held("held")
    poisoned = replace(fail(held), retry_after_us=cast("int", "soon"))

    first, second, third = await together(
        rig.execute(rig.create("a")), rig.execute(poisoned), rig.execute(complete(held))
    )

    assert isinstance(second, TypeError)
    assert ["created", "changed"] == [first.outcome, third.outcome]


class BrokenLog(logging.Handler):
    """
    A log that breaks over the line about a batch.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """
        Nothing else disturbs it.
        """
        if record.getMessage() == "ledger.answered":
            raise OSError


async def test_a_fault_after_the_commit_carries_nothing_out_again(rig: Rig) -> None:
    """
    What is written stays written once, whatever cannot bear to hear of it, and the next command goes on from there.
    """
    logger, broken = logging.getLogger("jobsvc"), BrokenLog()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(broken)
    try:
        answers = await together(rig.execute(rig.create()), rig.execute(rig.create()))
    finally:
        logger.removeHandler(broken)
        logger.setLevel(level)

    later = await rig.execute(rig.create())

    assert ["created"] * 3 == [answer.outcome for answer in (*answers, later)]
    assert ["job.created"] * 3 == [event.type for event in await rig.log()]


async def test_a_claim_that_cannot_be_written_leaves_the_job_in_the_line(rig: Rig) -> None:
    """
    What was taken off the line for a grant that came to nothing is there for the next.
    """
    job = await rig.made("key")
    poisoned = replace(claim(), worker=UNWRITABLE)

    (fault,) = await together(rig.ledger.claim(poisoned))

    assert isinstance(fault, UnicodeEncodeError)
    assert [job.id] == [granted.id for granted in (await rig.claim()).jobs]


async def test_a_key_freed_in_a_batch_is_free_for_the_rest_of_it(rig: Rig) -> None:
    """
    Complete, then create with the same key: a new job, in one transaction.
    """
    held = await rig.held("key")

    _, created, attached = await together(
        rig.execute(complete(held)), rig.execute(rig.create("key")), rig.execute(rig.create("key"))
    )

    assert ("created", "attached") == (created.outcome, attached.outcome)
    assert held.id != created.job.id == attached.job.id


async def test_a_completion_in_a_batch_is_fresh_for_the_rest_of_it(rig: Rig) -> None:
    """
    Reuse finds a result that is only staged; reject refuses because of it.
    """
    held = await rig.held("key")

    _, reused, rejected = await together(
        rig.execute(complete(held)),
        rig.execute(rig.create("key", dedup=c.Dedup(on_completed="reuse"))),
        rig.execute(rig.create("key", dedup=c.Dedup(on_completed="reject"))),
    )

    assert ("fresh_result", held.id, "completed") == (reused.outcome, reused.job.id, reused.job.state)
    assert isinstance(rejected, DuplicateActiveJob)


async def test_the_same_mark_twice_in_a_batch_is_carried_out_once(rig: Rig) -> None:
    """
    The second gets the first one's answer, built from the job as of then.
    """
    first, second = await together(
        rig.ledger.execute(rig.create(), mark=MARK), rig.ledger.execute(rig.create(), mark=MARK)
    )

    assert (False, True) == (first.replayed, second.replayed)
    assert first.job == second.job
    assert 1 == len(await rig.log())


async def test_a_marked_answer_is_the_job_as_of_then_after_a_restart(rig: Rig) -> None:
    """
    Whatever became of the job since, the same request gets the same answer.
    """
    first = await rig.ledger.execute(rig.create("key"), mark=MARK)
    await rig.claim()
    rig = await rig.restarted()

    again = await rig.ledger.execute(rig.create("key"), mark=MARK)
    other = await together(rig.ledger.execute(rig.create(), mark=replace(MARK, digest="other")))

    assert (True, first.job, first.position) == (again.replayed, again.job, again.position)
    assert isinstance(other[0], IdempotencyKeyReused)
    await rig.close()


async def test_several_commands_get_results_in_order_and_the_same_ones_again(rig: Rig) -> None:
    """
    Refusals stand in their places, also in the answer given again.
    """
    commands = [rig.create("a"), rig.create("a", dedup=c.Dedup(on_active="reject")), rig.create("b")]

    first, replayed_first = await rig.ledger.execute_all(commands, mark=MARK)
    again, replayed_again = await rig.ledger.execute_all(commands, mark=MARK)

    assert (False, True) == (replayed_first, replayed_again)
    for results in (first, again):
        created, refused, other = results
        assert isinstance(created, Answer)
        assert isinstance(other, Answer)
        assert isinstance(refused, DuplicateActiveJob)
        assert refused.job == created.job != other.job


async def test_the_same_report_twice_in_a_batch_is_accepted_once(rig: Rig) -> None:
    """
    The second is the first again; another digest under the spent lease is refused and kept.
    """
    held = await rig.held()

    first, second, other = await together(
        rig.execute(complete(held)), rig.execute(complete(held)), rig.execute(complete(held, digest="other"))
    )

    assert ("changed", "repeated") == (first.outcome, second.outcome)
    assert first.job == second.job
    assert isinstance(other, LeaseLost)


async def test_a_late_result_told_again_is_refused_again(rig: Rig) -> None:
    """
    Kept once, it is still no report that was accepted: neither in its batch, nor later, nor after a restart.
    """
    held = await rig.held()
    await rig.execute(cancel(held, force=True))

    early = await together(rig.execute(complete(held)), rig.execute(complete(held)))
    late = await rig.told(complete(held))
    rig = await rig.restarted()
    last = await rig.told(complete(held))

    assert all(isinstance(refusal, LeaseLost) for refusal in [*early, late, last])
    assert ["created", "started", "cancelled", "late_result"] == await rig.types(held)
    await rig.close()


async def test_a_release_told_again_after_another_claim_gets_its_first_answer(rig: Rig) -> None:
    """
    The same report again is never late, whoever holds the job by now.
    """
    held = await rig.held()
    first = await rig.execute(release(held))
    (held_again,) = (await rig.claim()).jobs

    again = await rig.execute(release(held))

    assert ("repeated", first.job) == (again.outcome, again.job)
    assert held_again == rig.job(held)


async def test_a_caller_that_goes_away_leaves_its_command_to_finish(rig: Rig) -> None:
    """
    A cancelled request has queued its command, and that is that.
    """
    asking = asyncio.create_task(rig.execute(rig.create("key")))
    await asyncio.sleep(0)

    asking.cancel()
    await asyncio.wait([asking])
    await rig.settled()

    assert asking.cancelled()
    assert 1 == len(await rig.log())


async def test_no_reader_sees_what_is_not_committed(rig: Rig) -> None:
    """
    While a batch is on its way, memory and feed stand where they stood.
    """
    asking = asyncio.create_task(rig.execute(rig.create("key")))
    seen = []
    while not asking.done():
        seen.append((len(rig.ledger.memory.jobs), rig.feed.position, len(rig.feed.snapshot(Scope()))))
        await asyncio.sleep(0)

    assert {(0, 0, 0)} == set(seen) - {(1, 1, 1)}
    assert sorted(seen) == seen


async def test_a_full_queue_refuses_and_recovers(tmp_path: Path) -> None:
    """
    More than may wait is refused at once; what waits is carried out.
    """
    rig = await Rig(tmp_path / "log.db", limits=Limits(queue_commands_max=10)).open()

    answers = await together(*(rig.execute(rig.create()) for _ in range(12)))

    assert 2 == sum(isinstance(answer, StoreBusy) for answer in answers)
    assert 10 == len(await rig.log())
    assert "created" == (await rig.execute(rig.create())).outcome
    await rig.close()


async def test_bounds_count_what_is_staged(tmp_path: Path) -> None:
    """
    One too many is refused in the very batch; one that replaces another is not one too many.
    """
    rig = await Rig(tmp_path / "log.db", limits=Limits(active_per_owner_max=2)).open()

    replacing = rig.create("a", dedup=c.Dedup(on_active="replace"))
    first, second, third, fourth = await together(
        rig.execute(rig.create("a")), rig.execute(rig.create("b")), rig.execute(rig.create("c")), rig.execute(replacing)
    )

    assert ["created", "created", "created"] == [first.outcome, second.outcome, fourth.outcome]
    assert isinstance(third, TooManyActive)
    await rig.close()


async def test_what_was_queued_is_written_before_the_end(rig: Rig) -> None:
    """
    A stop takes nothing more and loses nothing that was asked.
    """
    asking = [asyncio.create_task(rig.execute(rig.create())) for _ in range(3)]
    await asyncio.sleep(0)

    await rig.close()
    (late,) = await together(rig.execute(rig.create()))

    assert ["created"] * 3 == [(await one).outcome for one in asking]
    assert isinstance(late, Draining)


async def test_an_unknown_job_is_not_found(rig: Rig) -> None:
    """
    Neither to read nor to change.
    """
    unknown = rig.ledger.new_id()

    with pytest.raises(JobNotFound):
        await rig.ledger.read_job(unknown)
    with pytest.raises(JobNotFound):
        await rig.execute(c.Cancel(unknown, Principal("operator", "root")))
