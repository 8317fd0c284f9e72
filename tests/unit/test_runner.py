"""
The runner over a real store: rows and checkpoint go together, nothing is skipped, each projection keeps its own pace.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import json

from jobsvc.domain.errors import Conflict, StoreDown, UnreadableEvent
from jobsvc.store.sqlite import SqliteStore
from projections import runner as runner_module
from projections.active import Active
from projections.counts import Count, Counts
from projections.runner import Runner, catch_up, forget, replay
from tests.store.failing_driver import FailingConnect
from tests.store.histories import History, job_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import ViewProgress

PATIENCE_S = 10.0
PARKED_MAX = 2


class NextCounts(Counts):
    """
    The counts, with another meaning.
    """

    version = 2


class GatedStore(SqliteStore):
    """
    A store of which a read can be held up: it has read already, and answers when it is let.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.gate.set()
        self.held = asyncio.Event()
        self.looks = 0

    async def read_events(self, **bounds: Any) -> Sequence[Event]:  # noqa: ANN401  # passed on
        """
        As the store reads, once the gate is open.
        """
        events = await super().read_events(**bounds)
        self.looks += 1
        if not self.gate.is_set():
            self.held.set()
        await self.gate.wait()
        return events


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A runner that has little to do does not wait until there is more.
    """
    monkeypatch.setattr(runner_module, "_PACE_S", 0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    """
    An opened store on an empty log.
    """
    opened = GatedStore(tmp_path / "log.db")
    await opened.open()
    yield opened
    await opened.close()


async def grow(store: SqliteStore, history: History, jobs: int, *, first: int = 1) -> None:
    """
    The log has *jobs* more jobs, each born, started and completed.
    """
    for number in range(first, first + jobs):
        decided_at = history.position
        history.create(number)
        history.start(number)
        history.complete(number)
        await store.append(history.batch(), decided_at=decided_at)


@asynccontextmanager
async def running(store: SqliteStore, *projections: Any) -> AsyncIterator[tuple[Runner, list[str]]]:  # noqa: ANN401
    """
    A runner of *projections*, and the names of those that it told of because they raised.
    """
    told: list[str] = []
    runner = Runner(store, projections, tell=lambda name, *_: told.append(name), parked_max=PARKED_MAX)
    await runner.start()
    yield runner, told
    await runner.stop()


async def until(condition: Callable[[], bool]) -> None:
    """
    Returns as soon as *condition* holds.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # it stands for whatever the test watches
            await asyncio.sleep(0)


async def counted(store: SqliteStore) -> dict[str, int]:
    """
    The rows of ``counts`` as stored.
    """
    types = ["job.created", "job.started", "job.completed"]
    rows = await store.read_rows("counts", types)
    return {key: json.decode(body, type=Count).events for key, body in rows.items()}


# Replay


async def test_a_replay_ends_where_it_is_told_to(store: GatedStore) -> None:
    """
    Without a bound at the head, else at a position or a moment; the position that it reached stands beside the rows.
    """
    history = History()
    await grow(store, history, 3)
    at_five = history.events[4].at

    whole = await replay(store, Counts())
    to_five = await replay(store, Counts(), until=5)
    to_moment = await replay(store, Counts(), until_at=at_five)
    to_none = await replay(store, Counts(), until=0)

    assert (9, 3) == (whole.position, whole.rows["job.completed"].events)
    assert (5, 1) == (to_five.position, to_five.rows["job.completed"].events)
    assert to_five == to_moment
    assert (0, {}) == (to_none.position, to_none.rows)


async def test_a_replay_reads_on_page_by_page_and_says_how_far(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A log longer than a page is folded whole, and whoever waits is told after each page.
    """
    monkeypatch.setattr(runner_module, "ROWS_PER_PAGE_MAX", 4)
    await grow(store, History(), 4)
    told: list[int] = []

    replayed = await replay(store, Active(), progress=told.append)
    ended_on_a_page = await replay(store, Active(), until=8)

    assert (12, {}) == (replayed.position, replayed.rows)
    assert [4, 8, 12, 12] == told
    assert (8, {job_id(3)}) == (ended_on_a_page.position, set(ended_on_a_page.rows))


# Catching up


async def test_a_crash_between_pages_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whoever goes on from the stored checkpoint counts each event once.
    """
    monkeypatch.setattr(runner_module, "ROWS_PER_PAGE_MAX", 4)
    first = SqliteStore(tmp_path / "log.db")
    await first.open()
    await grow(first, History(), 4)
    await catch_up(first, Counts(), checkpoint=0)
    await first.close()

    second = SqliteStore(tmp_path / "log.db")
    await second.open()
    position = (await second.read_checkpoints())["counts"].position
    while (reached := (await catch_up(second, Counts(), checkpoint=position)).position) > position:
        position = reached

    assert 12 == position
    assert {"job.created": 4, "job.started": 4, "job.completed": 4} == await counted(second)
    await second.close()


async def test_rows_and_checkpoint_are_one_transaction(tmp_path: Path) -> None:
    """
    Whichever statement fails, there are neither rows nor a checkpoint; once none does, there are both.
    """
    failing = FailingConnect()
    store = SqliteStore(tmp_path / "log.db", connect=failing.connect)
    await store.open()
    await grow(store, History(), 1)

    failures = 0
    failing.arm(0)
    while await _fails(store):
        assert {} == await store.read_checkpoints()
        assert {} == await counted(store)
        failures += 1
        failing.arm(failures)

    assert "COMMIT" == failing.statements[failures - 1]
    assert {"job.created": 1, "job.started": 1, "job.completed": 1} == await counted(store)
    await store.close()


async def _fails(store: SqliteStore) -> bool:
    """
    True if catching up failed; the store is open again then.
    """
    try:
        await catch_up(store, Counts(), checkpoint=0)
    except StoreDown:
        await store.reopen()
        return True
    return False


async def test_what_is_at_hand_is_not_read_from_the_store_again(store: GatedStore) -> None:
    """
    Events that came a moment ago are taken as they are; for older ones the store is asked.
    """
    history = History()
    await grow(store, history, 3)

    def recent(position: int, limit: int) -> Sequence[Event] | None:
        return history.events[position : position + limit] if position >= 3 else None

    from_store = await catch_up(store, Counts(), checkpoint=0, recent=recent)
    looks = store.looks
    await grow(store, history, 2, first=4)
    at_hand = await catch_up(store, Counts(), checkpoint=9, recent=recent)
    nothing_new = await catch_up(store, Counts(), checkpoint=15, recent=recent)

    assert (9, 15, 15) == (from_store.position, at_hand.position, nothing_new.position)
    assert looks == store.looks
    assert {"job.created": 5, "job.started": 5, "job.completed": 5} == await counted(store)


async def test_a_row_that_is_none_is_dropped(store: GatedStore) -> None:
    """
    A projection that returns None has no row under that key any more.
    """
    history = History()
    history.create(1)
    await store.append(history.batch(), decided_at=0)
    reached = await catch_up(store, Active(), checkpoint=0)
    there = await store.read_rows("active", [job_id(1)])

    history.start(1)
    history.complete(1)
    await store.append(history.batch(), decided_at=1)
    row_type_less = _Lasting()
    await catch_up(store, row_type_less, checkpoint=0)

    assert 1 == reached.position
    assert [job_id(1)] == list(there)
    assert {} == await store.read_rows("lasting", [job_id(1)])


class _Lasting:
    name = "lasting"
    version = 1

    def apply(self, row: Any, event: Event) -> Any:  # noqa: ANN401  # anything
        return None if event.type == "job.completed" else {"since": event.at, "before": row}


async def test_of_two_runners_one_gives_way(store: GatedStore) -> None:
    """
    Whoever goes on from a checkpoint that has moved is told so, and has written nothing.
    """
    await grow(store, History(), 1)
    await catch_up(store, Counts(), checkpoint=0)

    with pytest.raises(Conflict):
        await catch_up(store, Counts(), checkpoint=0)

    assert {"job.created": 1, "job.started": 1, "job.completed": 1} == await counted(store)


async def test_forgetting_what_never_began_does_nothing(store: GatedStore) -> None:
    """
    A projection without a checkpoint stays without one.
    """
    await forget(store, Counts())

    assert {} == await store.read_checkpoints()


# Running


async def test_a_running_projection_stays_at_the_head(store: GatedStore) -> None:
    """
    What is appended while it runs is taken in as soon as it is told of.
    """
    history = History()
    await grow(store, history, 2)

    async with running(store, Counts()) as (runner, told):
        await until(lambda: runner.standings["counts"].position == 6)
        await grow(store, history, 1, first=3)
        runner.notice()
        await until(lambda: runner.standings["counts"].position == 9)

    assert [] == told
    assert {"job.created": 3, "job.started": 3, "job.completed": 3} == await counted(store)


async def test_one_that_is_far_behind_does_not_pause(store: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Only near the head are events left to gather; what fills its pages goes on at once.
    """
    monkeypatch.setattr(runner_module, "_PACE_S", 3_600)
    monkeypatch.setattr(runner_module, "ROWS_PER_PAGE_MAX", 4)
    await grow(store, History(), 4)

    async with running(store, Counts()) as (runner, _):
        await until(lambda: runner.standings["counts"].position == 12)

    assert {"job.created": 4, "job.started": 4, "job.completed": 4} == await counted(store)


async def test_it_looks_by_itself_if_nobody_tells(store: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A notice is a hint only.
    """
    monkeypatch.setattr(runner_module, "_IDLE_S", 0.001)

    async with running(store, Counts()) as (runner, _):
        await until(lambda: store.looks > 2)
        await grow(store, History(), 1)
        await until(lambda: runner.standings["counts"].position == 3)

    assert {"job.created": 1, "job.started": 1, "job.completed": 1} == await counted(store)


async def test_an_unreadable_event_holds_a_projection_and_skips_nothing(tmp_path: Path) -> None:
    """
    What is wrong with the log is no job's fault: the projection says so, keeps its place, and goes on once it can.
    """
    store = ForgetfulStore(tmp_path / "log.db")
    await store.open()
    await grow(store, History(), 2)
    store.unreadable = True

    async with running(store, Counts()) as (runner, told):
        await until(lambda: len(told) > 0)
        held = (runner.standings["counts"].position, runner.standings["counts"].failure)
        store.unreadable = False
        await until(lambda: runner.standings["counts"].position == 6)

    assert (0, "UnreadableEvent('An event of the log cannot be read by this version of the service.')") == held
    assert runner.standings["counts"].failure is None
    assert {} == runner.standings["counts"].parked
    await store.close()


async def test_a_raised_version_begins_anew(store: GatedStore) -> None:
    """
    Rows of another version are gone, and the log is counted from its beginning, once.
    """
    await grow(store, History(), 2)
    async with running(store, Counts()) as (runner, _):
        await until(lambda: runner.standings["counts"].position == 6)
    await store.write_rows("counts", {"stale": b"1"}, version=1, checkpoint=6, resumed_from=6)

    async with running(store, NextCounts()) as (runner, _):
        await until(lambda: runner.standings["counts"].position == 6)

    standing = (await store.read_checkpoints())["counts"]
    assert (2, 6, 3) == (standing.version, standing.position, standing.rows)
    assert {"job.created": 2, "job.started": 2, "job.completed": 2} == await counted(store)


async def test_it_goes_on_from_where_another_runner_left_off(store: GatedStore) -> None:
    """
    A Conflict is answered by reading the checkpoint again; no event counts twice.
    """
    history = History()
    await grow(store, history, 1)

    async with running(store, Counts()) as (runner, told):
        await until(lambda: runner.standings["counts"].position == 3)
        store.gate.clear()
        await grow(store, history, 1, first=2)
        runner.notice()
        await store.held.wait()
        # The runner has its page in hand and has not written it.
        other = SqliteStore(store.path, alone=False)
        await other.open()
        await catch_up(other, Counts(), checkpoint=3)
        await other.close()
        store.gate.set()
        await until(lambda: runner.standings["counts"].position == 6)

    assert [] == told
    assert {"job.created": 2, "job.started": 2, "job.completed": 2} == await counted(store)


async def test_what_is_done_alone_is_done_between_two_pages(store: GatedStore) -> None:
    """
    While a look is under way nobody comes in between; after it the projection goes on from where the store says.
    """
    await grow(store, History(), 2)

    async with running(store, Counts()) as (runner, _):
        await until(lambda: runner.standings["counts"].position == 6)
        store.gate.clear()
        runner.notice()
        await store.held.wait()
        anew = asyncio.create_task(runner.alone("counts", lambda: forget(store, Counts())))
        await asyncio.sleep(0)
        waited = not anew.done()
        store.gate.set()
        await anew
        await until(lambda: runner.standings["counts"].position == 6)
        rows = await counted(store)

    assert waited
    assert {"job.created": 2, "job.started": 2, "job.completed": 2} == rows


class ForgetfulStore(SqliteStore):
    """
    A store that, once, neither takes rows nor knows where a projection is.
    """

    faulty = False
    unreadable = False

    async def read_events(self, **bounds: Any) -> Sequence[Event]:  # noqa: ANN401  # passed on
        """
        As the store reads, unless what it reads is of no type that is known.
        """
        if self.unreadable:
            raise UnreadableEvent
        return await super().read_events(**bounds)

    async def write_rows(self, *rows: Any, **bounds: Any) -> None:  # noqa: ANN401  # passed on
        """
        As the store writes, but when it is faulty.
        """
        if self.faulty:
            raise Conflict
        await super().write_rows(*rows, **bounds)

    async def read_checkpoints(self) -> Mapping[str, ViewProgress]:
        """
        As the store knows, but once when it is faulty, after which it is not.
        """
        if self.faulty:
            self.faulty = False
            raise StoreDown
        return await super().read_checkpoints()


async def test_a_checkpoint_that_cannot_be_asked_for_is_outlived(tmp_path: Path) -> None:
    """
    The runner goes on when the store answers again, and nothing is counted twice.
    """
    history, store = History(), ForgetfulStore(tmp_path / "log.db")
    await store.open()
    async with running(store, Counts()) as (runner, _):
        store.faulty = True
        await grow(store, history, 1)
        runner.notice()

        await until(lambda: runner.standings["counts"].position == 3)

    assert {"job.created": 1, "job.started": 1, "job.completed": 1} == await counted(store)
    assert runner.standings["counts"].failure is None
    await store.close()
