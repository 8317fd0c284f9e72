"""
An event that a projection cannot bear parks its job there: that job waits in order, the others go on, nothing is lost.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import json

from jobsvc.domain.errors import Conflict
from jobsvc.store.sqlite import SqliteStore
from projections import runner as runner_module
from projections.counts import Counts
from projections.runner import Runner, TooManyParked, catch_up, forget, read_parked, release
from tests.store.histories import History, job_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from jobsvc.domain.events import Event

PATIENCE_S = 10.0


class Types:
    """
    A user's own: the types of each job's events, in order. It cannot bear what it is told not to.
    """

    name = "types"
    version = 1

    def __init__(self) -> None:
        self.poison: set[int] = set()
        self.asked = 0

    def apply(self, row: list[str] | None, event: Event) -> list[str] | None:
        """
        One more type, or an error.
        """
        self.asked += 1
        if event.position in self.poison:
            raise ZeroDivisionError("a word of the payload")
        return [*(row or []), event.type]


class Keyed(Types):
    """
    The same under keys of its own, which it cannot always make.
    """

    name = "keyed"

    def key(self, event: Event) -> str:
        """
        One row for all.
        """
        if event.position in self.poison:
            raise KeyError
        return "all"


class Unstorable(Types):
    """
    One whose rows cannot always be written.
    """

    name = "unstorable"

    def apply(self, row: Any, event: Event) -> Any:  # noqa: ANN401  # anything
        """
        A row that is no JSON, or the types.
        """
        return object() if event.position in self.poison else super().apply(row, event)


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A runner that has little to do does not wait until there is more.
    """
    monkeypatch.setattr(runner_module, "_PACE_S", 0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """
    An opened store: three jobs, each born (1 to 3), started (4 to 6) and completed (7 to 9).
    """
    opened = SqliteStore(tmp_path / "log.db")
    await opened.open()
    history = History()
    for step in (history.create, history.start, history.complete):
        for number in (1, 2, 3):
            step(number)
    await opened.append(history.batch(), decided_at=0)
    yield opened
    await opened.close()


async def rows_of(store: SqliteStore, projection: Types) -> dict[str, list[str]]:
    """
    What is stored, by job; the types without their prefix.
    """
    stored = await store.read_rows(projection.name, [*(job_id(number) for number in (1, 2, 3)), "all"])
    return {key[-1]: [name.removeprefix("job.") for name in json.decode(body)] for key, body in stored.items()}


@asynccontextmanager
async def running(store: SqliteStore, *projections: Any, parked_max: int = 9) -> AsyncIterator[Runner]:  # noqa: ANN401
    """
    A runner of *projections*, which has told of what it parked in ``told``.
    """
    runner = Runner(store, projections, tell=lambda *_: None, parked_max=parked_max)
    await runner.start()
    yield runner
    await runner.stop()


async def until(condition: Callable[[], bool]) -> None:
    """
    Returns as soon as *condition* holds.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # it stands for whatever the test watches
            await asyncio.sleep(0)


WHOLE = ["created", "started", "completed"]


@pytest.mark.parametrize("kind", [Types, Unstorable])
async def test_only_the_job_of_a_poison_event_waits(store: SqliteStore, kind: type[Types]) -> None:
    """
    Its row stays as it was before, what comes after waits too, and the other jobs go on to the head.
    """
    projection = kind()
    projection.poison = {5}

    reached = await catch_up(store, projection, checkpoint=0)

    assert 9 == reached.position
    assert {"1": WHOLE, "2": ["created"], "3": WHOLE} == await rows_of(store, projection)
    (parked,) = await read_parked(store, projection)
    assert (5, job_id(2), False) == (parked.position, parked.job_id, parked.passed_over)
    assert [parked] == [one for one, _ in reached.failures]


async def test_a_failing_key_parks_too_and_a_shared_row_goes_on(store: SqliteStore) -> None:
    """
    Where jobs share a row, it has all but what waits.
    """
    projection = Keyed()
    projection.poison = {2}

    await catch_up(store, projection, checkpoint=0)

    assert {"l": ["created"] * 2 + ["started"] * 2 + ["completed"] * 2} == await rows_of(store, projection)
    assert [2] == [one.position for one in await read_parked(store, projection)]


async def test_what_is_told_of_a_failure_is_no_word_of_a_payload(store: SqliteStore) -> None:
    """
    A payload may have to be forgotten; type and place of the failure are enough to find it.
    """
    projection = Types()
    projection.poison = {5}

    await catch_up(store, projection, checkpoint=0)

    ((failure,),) = [[one.failure] for one in await read_parked(store, projection)]
    assert failure.startswith("ZeroDivisionError in apply, line ")
    assert "payload" not in failure


async def test_pages_that_follow_leave_a_parked_job_alone(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whatever the pages, and whoever goes on: nothing of that job is taken in, nor tried.
    """
    projection = Types()
    projection.poison = {2}

    for limit in (1, 2, 4):
        monkeypatch.setattr(runner_module, "ROWS_PER_PAGE_MAX", limit)
        await forget(store, projection)
        position = 0
        while (reached := (await catch_up(store, projection, checkpoint=position)).position) > position:
            position = reached
        assert {"1": WHOLE, "3": WHOLE} == await rows_of(store, projection)
        assert [2] == [one.position for one in await read_parked(store, projection)]


@pytest.mark.parametrize("limit", [1, 2, 9])
async def test_a_mended_projection_takes_in_what_waited_in_order(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """
    Tried again with success, the job is where it would be had nothing failed.
    """
    projection = Types()
    projection.poison = {2}
    await catch_up(store, projection, checkpoint=0)
    projection.poison = set()
    (parked,) = await read_parked(store, projection)
    monkeypatch.setattr(runner_module, "ROWS_PER_PAGE_MAX", limit)

    released = await release(store, projection, parked, pass_over=False)

    assert (9, ()) == (released.position, tuple(released.failures))
    assert {"1": WHOLE, "2": WHOLE, "3": WHOLE} == await rows_of(store, projection)
    assert [] == await store.read_parked("types")


async def test_tried_in_vain_it_waits_where_it_failed(store: SqliteStore) -> None:
    """
    At the same event, or at a later one, up to which it has come.
    """
    projection = Types()
    projection.poison = {2, 8}
    await catch_up(store, projection, checkpoint=0)

    (parked,) = await read_parked(store, projection)
    await release(store, projection, parked, pass_over=False)
    (same,) = await read_parked(store, projection)
    projection.poison = {8}
    await release(store, projection, same, pass_over=False)
    (later,) = await read_parked(store, projection)

    assert (parked, 2, 8) == (same, same.position, later.position)
    assert {"1": WHOLE, "2": ["created", "started"], "3": WHOLE} == await rows_of(store, projection)


async def test_a_discarded_event_is_left_out_and_the_job_goes_on(store: SqliteStore) -> None:
    """
    What comes after it is taken in; that it was left out stays known, and is no reason to wait.
    """
    projection = Types()
    projection.poison = {5, 8}
    await catch_up(store, projection, checkpoint=0)

    for _ in range(2):
        (parked,) = await read_parked(store, projection)
        await release(store, projection, parked, pass_over=True)

    assert {"1": WHOLE, "2": ["created"], "3": WHOLE} == await rows_of(store, projection)
    assert [] == await read_parked(store, projection)
    assert [(5, True), (8, True)] == [(one.position, one.passed_over) for one in await store.read_parked("types")]


async def test_of_a_release_and_a_new_beginning_one_gives_way(store: SqliteStore) -> None:
    """
    A sequence that was released meanwhile, by a rebuild, is not released again.
    """
    projection = Types()
    projection.poison = {5}
    await catch_up(store, projection, checkpoint=0)
    (parked,) = await read_parked(store, projection)
    await forget(store, projection)

    with pytest.raises(Conflict):
        await release(store, projection, parked, pass_over=False)


async def test_too_many_parked_jobs_hold_the_projection_instead(store: SqliteStore) -> None:
    """
    It is the projection that is at fault then: nothing is written, and it stays where it is.
    """
    projection = Types()
    projection.poison = {4, 5, 6}

    with pytest.raises(TooManyParked) as held:
        await catch_up(store, projection, checkpoint=0, parked_max=2)
    stored = await store.read_parked("types")
    await catch_up(store, projection, checkpoint=0, parked_max=3)

    assert isinstance(held.value.__cause__, ZeroDivisionError)
    assert [] == stored
    assert 3 == len(await read_parked(store, projection))


async def test_a_runner_shows_what_is_parked_and_releases_it(store: SqliteStore) -> None:
    """
    By job; after a restart too. Once it can bear the event, the job waits no more; nothing is parked twice.
    """
    projection = Types()
    projection.poison = {5}

    async with running(store, projection, Counts()) as runner:
        await until(lambda: {one.position for one in runner.standings.values()} == {9})
    async with running(store, projection, Counts()) as runner:
        shown = dict(runner.standings["types"].parked)
        still = await runner.release("types", job_id(2), pass_over=False)
        projection.poison = set()
        released = await runner.release("types", job_id(2), pass_over=False)
        with pytest.raises(KeyError):
            await runner.release("types", job_id(2), pass_over=False)

    assert [(job_id(2), 5)] == [(job, one.position) for job, one in shown.items()]
    assert (False, True, {}) == (still, released, runner.standings["types"].parked)
    assert {"1": WHOLE, "2": WHOLE, "3": WHOLE} == await rows_of(store, projection)
