"""
The races for a key: one active job each, whatever comes together; numbers are those of the field's list of races.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.answers import Answer, MarkRequest
from jobsvc.domain import commands as c
from jobsvc.domain.errors import LeaseLost, StoreDown
from jobsvc.domain.words import Principal
from tests.ledger.rig import OPERATOR, cancel, complete, fail, heartbeat, release
from tests.races.schedule import Gone

if TYPE_CHECKING:
    from tests.races.conftest import Explore
    from tests.races.schedule import Play

REPLACE = c.Dedup(on_active="replace")
RUN_AFTER = c.Dedup(on_active="run_after")


async def test_many_creators_of_one_key_get_one_job(explore: Explore) -> None:
    """
    Race 1: whoever comes first creates, and the others are given that very job.
    """

    async def race(play: Play) -> None:
        told = await play.run(*(play.asks(play.create()) for _ in range(4)))

        assert 1 == sum(answer.outcome == "created" for answer in told)
        assert 1 == len({answer.job.id for answer in told})

    await explore(race)


async def test_a_create_finds_its_holder_alive_or_not_at_all(explore: Explore) -> None:
    """
    Race 2: a create that meets the holder's end attaches to it before that, or makes a job after it.
    """

    async def race(play: Play) -> None:
        held = await play.held()
        end = play.chance.choice((complete(held), cancel(held, force=True), c.CleanUp(held.id, OPERATOR, force=True)))

        _, *told = await play.run(play.asks(end), *(play.asks(play.create()) for _ in range(3)))

        assert all(answer.job.active for answer in told)
        fresh = {answer.job.id for answer in told if answer.job.id != held.id}
        assert len(fresh) == sum(answer.outcome == "created" for answer in told) <= 1

    await explore(race)


async def test_nobody_is_told_of_a_job_that_was_not_written(explore: Explore) -> None:
    """
    Race 3: creators wait for a batch that fails; whoever was told of a job, as its maker or beside it, finds it.
    """

    async def race(play: Play) -> None:
        told = await play.run(play.breaks(), *(play.asks(play.create()) for _ in range(3)))

        answers = [one for one in told if isinstance(one, Answer)]
        assert all(isinstance(one, StoreDown) for one in told[1:] if one not in answers)
        for answer in answers:
            assert await play.types(answer.job)
        again = await play.rig.execute(play.create())
        assert {again.job.id} >= {answer.job.id for answer in answers}

    await explore(race)


async def test_a_job_is_replaced_or_completed_and_never_both(explore: Explore) -> None:
    """
    Race 4: where the replacement came first, the success is refused, and kept.
    """

    async def race(play: Play) -> None:
        held = await play.held()

        done, made = await play.run(play.asks(complete(held)), play.asks(play.create(dedup=REPLACE)))

        ends = (await play.types(held))[2:]
        assert "created" == made.outcome
        assert made.job.id != held.id
        if isinstance(done, LeaseLost):
            assert ["cancelled", "late_result"] == ends
        else:
            assert ["completed"] == ends

    await explore(race)


async def test_what_is_to_run_after_a_job_is_never_lost(explore: Explore) -> None:
    """
    Race 5: asked for between the last look and the end of the holder, it runs all the same; the last input wins.
    """

    async def race(play: Play) -> None:
        held = await play.held()
        asked = [play.create(dedup=RUN_AFTER, given=f'{{"n":{number}}}'.encode()) for number in range(3)]

        done, *told = await play.run(play.asks(complete(held)), *map(play.asks, asked))

        promised = [(one.job.version, asked[place]) for place, one in enumerate(told) if one.job.id == held.id]
        created = sum(one.outcome == "created" for one in told)
        assert (done.job.followed_by is not None) == bool(promised)
        assert created == (0 if promised else 1)
        if promised:
            _, last = max(promised, key=lambda one: one[0])
            follower = await play.rig.ledger.read_job(done.job.followed_by)
            assert bytes(last.submission.input) == bytes(follower.submission.input)

    await explore(race)


async def test_an_old_job_never_takes_the_key_of_the_new_one(explore: Explore) -> None:
    """
    Race 6: the worker of a job that has given way still reports; its key is another's by then, and stays so.
    """

    async def race(play: Play) -> None:
        old = await play.held()
        await play.rig.execute(cancel(old))
        reports = [play.chance.choice((complete(old), fail(old), release(old))) for _ in range(2)]

        told = await play.run(*map(play.asks, reports), *(play.asks(play.create()) for _ in range(3)))

        made = {answer.job.id for answer in told[2:]}
        assert 1 == len(made)
        assert old.id not in made
        assert play.rig.ledger.memory.holders[play.owner, "k", "key"] in made

    await explore(race)


async def test_a_crash_leaves_no_key_without_its_job(explore: Explore) -> None:
    """
    Race 7: whatever statement fails and whenever the service dies, each key row has its job, and each such job its key.
    """

    async def race(play: Play) -> None:
        held = await play.held("held")
        ends = play.dies() if play.chance.random() < 0.3 else play.breaks()

        await play.run(
            ends,
            play.asks(play.create("key")),
            play.asks(complete(held)),
            play.asks(play.create("held", dedup=REPLACE)),
            play.asks(play.create("key", dedup=REPLACE)),
        )

        memory = play.rig.ledger.memory
        first, second = [await play.rig.execute(play.create(key)) for key in ("key", "held")]
        assert {first.job.id, second.job.id} == set(memory.keys) == set(memory.jobs)

    await explore(race)


async def test_asking_again_for_a_running_job_changes_nothing_of_it(explore: Explore) -> None:
    """
    Race 11: the key is pushed again while a worker is at it: not its attempt, not its fence, not its lease.
    """

    async def race(play: Play) -> None:
        held = await play.held()

        told = await play.run(*(play.asks(play.create()) for _ in range(3)), play.asks(heartbeat(held)))

        assert [held] * 3 == [answer.job for answer in told[:3]]
        assert "renewed" == told[3].outcome
        assert held == play.rig.job(held)

    await explore(race)


async def test_a_guest_that_becomes_a_user_leaves_no_second_job_behind(explore: Explore) -> None:
    """
    Race 17: guest and user create while the guest's job is claimed; each key has one job at any position.
    """

    async def race(play: Play) -> None:
        guest = f"guest:{play.owner}"
        user = Principal("user", play.owner, play.owner)
        given = await play.made(owner=guest)
        moved = c.ChangeOwner(given.id, user, play.owner)

        async def claims_and_creates() -> list[object]:
            await play.turn("ChangeOwner")
            moving = play.ask(play.rig.execute(moved))
            created = await play.asks(play.create())
            return [await moving, created]

        both, before, after = await play.run(
            claims_and_creates(), play.asks(play.create(owner=guest)), play.asks(cancel(given))
        )

        changed, created = both
        assert play.owner == changed.job.owner
        assert (created.job.id == given.id) == (created.outcome == "attached")
        assert (before.job.id == given.id) == (before.outcome == "attached")
        assert guest == before.job.owner
        assert (await play.rig.ledger.read_job(given.id)).owner == play.owner
        assert not isinstance(after, Gone)

    await explore(race)


async def test_one_request_sent_many_times_makes_one_job(explore: Explore) -> None:
    """
    Race 19: the same Idempotency-Key while the first is under way, while the store fails, and after a restart.
    """

    async def race(play: Play) -> None:
        mark = MarkRequest(play.owner, "POST /api/jobs", "once", "digest")
        trouble = play.chance.choice((play.dies, play.breaks, play.sweeps))

        _, *told = await play.run(trouble(), *(play.asks(play.create(None), mark=mark) for _ in range(4)))

        answers = [one for one in told if isinstance(one, Answer)]
        again = await play.rig.ledger.execute(play.create(None), mark=mark)
        assert {again.job.id} >= {answer.job.id for answer in answers}
        assert [again.job.id] == list(play.rig.ledger.memory.jobs)
        assert len(answers) - 1 <= sum(answer.replayed for answer in answers)

    await explore(race)
