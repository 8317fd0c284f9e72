"""
The races between what is written and those who hear of it: readers, waiting workers, callers, projections.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from msgspec import json

from jobsvc.channel import Scope
from jobsvc.domain.errors import Conflict, StoreDown
from jobsvc.http import workers
from jobsvc.http.limits import Limits
from jobsvc.settings import Settings
from projections.counts import Count, Counts
from projections.runner import catch_up, replay
from tests.ledger.reading import Reader, active_of
from tests.ledger.rig import claim, complete, progress
from tests.races.schedule import Gone

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from jobsvc.changes import Change
    from jobsvc.domain.job import Job
    from jobsvc.http.call import Call
    from tests.races.conftest import Explore
    from tests.races.schedule import Play


async def test_a_reader_that_comes_at_any_moment_misses_nothing(explore: Explore) -> None:
    """
    Race 15: its snapshot and the events after it make the active list, each event once, whatever was being committed.
    """

    async def race(play: Play) -> None:
        held = await play.held("held")
        opened: list[Reader] = []

        async def comes() -> None:
            await play.turn("reader comes")
            opened.append(Reader(play.rig, Scope(play.owner)))

        await play.run(
            *(comes() for _ in range(3)),
            play.asks(play.create("new")),
            play.asks(progress(held, 1)),
            play.asks(complete(held)),
            play.asks(play.create("other")),
        )

        for reader in opened:
            await _check_reader(play, await reader.settled())

    await explore(race)


async def _check_reader(play: Play, reader: Reader) -> None:
    untold = set(range(reader.began + 1, play.rig.feed.position + 1)) - set(reader.positions)
    assert {change.event.position for change in play.rig.changes if _is_superseded(play, change)} >= untold
    assert sorted(set(reader.positions)) == reader.positions
    assert active_of(play.rig) == reader.jobs
    await reader.close()


def _is_superseded(play: Play, change: Change) -> bool:
    """
    Progress of which more is known by now.
    """
    standing = play.rig.ledger.memory.jobs.get(change.job.id)
    return change.event.type == "job.progressed" and (standing is None or standing.version > change.event.version)


async def test_a_caller_that_hangs_up_leaves_its_job_to_be_done(explore: Explore) -> None:
    """
    Race 15: gone before the first answer, its job is made once, or not at all, and does not wait for ever.
    """

    async def race(play: Play) -> None:
        async def asks_and_hangs_up() -> object:
            await play.turn("create to be given up")
            return await play.given_up(play.rig.execute(play.create()))

        *told, other = await play.run(asks_and_hangs_up(), asks_and_hangs_up(), play.asks(play.create()))
        grants = await play.rig.claim(9)

        assert [other.job.id] == [job.id for job in grants.jobs]
        assert {other.job.id} >= {answer.job.id for answer in told if not isinstance(answer, Gone)}

    await explore(race)


async def test_a_worker_never_sleeps_through_a_job(explore: Explore) -> None:
    """
    Race 15, the worker's: of claims that wait some close at any moment, also just woken; the one that stays has a job.
    """

    async def race(play: Play) -> None:
        def waits_for_work() -> Coroutine[Any, Any, tuple[Sequence[Job], Sequence[Job]]]:
            limits = Limits(Settings(), play.rig.clock)
            service = SimpleNamespace(ledger=play.rig.ledger, waits=True, limits=limits)
            call = cast("Call", SimpleNamespace(service=service, check_not_revoked=lambda: None))
            return workers._granted(call, claim(), 600.0)  # noqa: SLF001  # the endpoint's own loop

        async def stays() -> tuple[Sequence[Job], Sequence[Job]]:
            await play.turn("worker waits")
            return await play.ask(waits_for_work())

        async def goes() -> None:
            await play.turn("worker waits")
            if not isinstance(await play.given_up(waits_for_work()), Gone):
                # It was given the job just before, so that there has to be another.
                await play.asks(play.create(None))

        (given, _), *_ = await play.run(
            play.late(stays()), goes(), goes(), goes(), play.late(play.asks(play.create(None)))
        )

        assert 0 == len(play.rig.ledger.worker_waiters)
        assert [(1, 0)] == [(job.attempt, job.lost_leases) for job in given]

    await explore(race)


async def test_a_projection_that_dies_in_the_middle_counts_each_event_once(explore: Explore) -> None:
    """
    Race 20: rows and checkpoint go together, so whatever fails, and whoever else runs, a replay gives the same rows.
    """

    async def race(play: Play) -> None:
        async def runs() -> None:
            for _ in range(3):
                await play.turn("projection")
                await play.answer(_caught_up(play))

        ends = play.dies() if play.chance.random() < 0.3 else play.breaks(statements=20)
        await play.run(runs(), runs(), ends, play.asks(play.create("a")), play.asks(play.create("b")))
        await play.insists(play.create("c"))
        await _caught_up(play)

        replayed = (await replay(play.store, Counts())).rows
        stored = await play.store.read_rows("counts", list(replayed))
        assert replayed == {key: json.decode(body, type=Count) for key, body in stored.items()}

    await explore(race)


async def _caught_up(play: Play) -> None:
    """
    The projection has taken in what there was, or somebody else has, or the store was away.
    """
    store = play.store
    stored = (await store.read_checkpoints()).get("counts")
    checkpoint = 0 if stored is None else stored.position
    try:
        while (reached := (await catch_up(store, Counts(), checkpoint=checkpoint)).position) != checkpoint:
            checkpoint = reached
    except (Conflict, StoreDown):
        return
