"""
What every engine promises, whatever it is made of. Engines are params of the fixture ``log``.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from jobsvc.domain.errors import Conflict, StoreDown
from jobsvc.store import chain
from jobsvc.store.seam import Batch, Behind, HistoryQuery, Mark, Needs, Parked, StreamPlace, StreamsPage, ViewName
from jobsvc.store.sqlite import SqliteStore
from tests.store.histories import START, History, chain_of, ended_row, history_row, job_id, key_row

if TYPE_CHECKING:
    from tests.store.conftest import Log

HISTORY_ONLY: Final[tuple[ViewName, ...]] = ("history",)


async def test_positions_have_no_holes(store: SqliteStore) -> None:
    """
    Events of several batches stand at 1, 2, 3 … in the order they were appended, and come back as they were.
    """
    history = History()

    heads = []
    for number in range(3):
        history.create(number)
        history.start(number)
        heads.append(await store.append(history.batch(), decided_at=2 * number))

    assert await store.read_events(after=0, limit=100) == history.events
    assert [record.position for record in await store.read_records(after=0, limit=100)] == [1, 2, 3, 4, 5, 6]
    assert [2, 4, 6] == [head.position for head in heads]
    assert await store.read_head() == heads[-1]
    assert heads[-1].at == history.events[-1].at


async def test_a_second_writer_is_told_what_it_missed(log: Log, store: SqliteStore) -> None:
    """
    Who decided at an older position gets the events since, nothing is written, and deciding again works.
    """
    second = await log.writer()
    history = History()
    history.create(1)
    await store.append(history.batch(), decided_at=0)
    late = replace(history.events[0], job_id=job_id(9))

    with pytest.raises(Behind) as behind:
        await second.append(Batch(events=[late], owners=["user:ada"]), decided_at=0)

    assert history.events == behind.value.events
    assert await second.read_events(after=0, limit=10) == history.events
    history.create(2)
    head = await second.append(history.batch(), decided_at=1)
    assert head.position == 2
    history.create(3)
    assert (await store.append(history.batch(), decided_at=2)).position == 3


async def test_an_append_whose_caller_went_away_is_whole(store: SqliteStore) -> None:
    """
    A cancelled append runs to its end in the store; who decides at the old position is then told of its events.
    """
    history = History()
    history.create(1)
    batch = history.batch()
    append = asyncio.ensure_future(store.append(batch, decided_at=0))
    await asyncio.sleep(0)

    append.cancel()
    with pytest.raises(asyncio.CancelledError):
        await append

    with pytest.raises(Behind) as behind:
        await store.append(batch, decided_at=0)
    assert history.events == behind.value.events


async def test_a_key_has_one_holder(store: SqliteStore) -> None:
    """
    A batch that would give a held key to another job is refused by the schema, and nothing of it stays.
    """
    history = History()
    history.create(1, key="same")
    await store.append(history.batch(), decided_at=0)
    history.create(2, key="same")

    with pytest.raises(StoreDown):
        await store.append(history.batch(), decided_at=1)

    opening = await store.reopen()
    assert opening.head.position == 1
    assert [job.id for job in opening.active] == [job_id(1)]


async def test_a_key_passes_from_one_job_to_the_next_in_one_batch(store: SqliteStore) -> None:
    """
    Rows that go are dropped before rows come.
    """
    history = History()
    history.create(1, key="same")
    history.start(1)
    await store.append(history.batch(), decided_at=0)

    history.complete(1)
    history.create(2, key="same")
    await store.append(history.batch(), decided_at=2)

    assert await store.read_view("keys", after="", limit=10) == [key_row(history.jobs[job_id(2)])]


async def test_opening_gives_back_the_views(store: SqliteStore) -> None:
    """
    A store that is opened anew says what was active, and which keys are held.
    """
    history = History()
    for number in (1, 2):
        history.create(number)
        history.start(number)
    history.complete(1)
    head = await store.append(history.batch(), decided_at=0)

    await store.close()
    opening = await store.open()

    running = history.jobs[job_id(2)]
    assert opening.head == head
    assert opening.active == [running]
    assert opening.keys == {running.id: key_row(running)}


async def test_the_chain_holds_from_the_first_event(store: SqliteStore) -> None:
    """
    Whoever recomputes the chain from the stored records ends at the head.
    """
    history = History()
    for number in range(20):
        history.create(number, raw=b'{"n": 1}')

    head = await store.append(history.batch(), decided_at=0)
    records = await store.read_records(after=0, limit=100)

    assert head.chain == chain_of(records)
    assert [chain.digest_payload(record.salt, record.payload) for record in records] == [
        record.payload_digest for record in records
    ]
    assert [record.chain for record in records] == [chain_of(records[:count]) for count in range(1, 21)]


async def test_raw_values_come_back_as_they_were_sent(store: SqliteStore) -> None:
    """
    Neither spaces nor integers above 64 bits, nor the last digit of a float, change on the way through the store.
    """
    raw = b'{ "n": 123456789012345678901234567890, "f": 1.10, "s": "\\u00e4\\u001f \xc3\xa4" }'
    history = History()
    history.create(1, raw=raw)

    await store.append(history.batch(), decided_at=0)

    (event,) = await store.read_events(after=0, limit=1)
    assert event.payload is not None
    assert event.payload.submission is not None
    assert event.payload.submission.input == Raw(raw)
    assert (await store.read_jobs({job_id(1): None}))[job_id(1)].submission.input == Raw(raw)
    (job,) = await store.read_view("active", after="", limit=1)
    assert job == history.jobs[job_id(1)]


async def test_pages_are_bounded(store: SqliteStore) -> None:
    """
    No read gives more than 2,000 rows, and reading on from where it ended gives the rest.
    """
    history = History()
    for number in range(2_001):
        history.create(number)
    await store.append(history.batch(), decided_at=0)

    pages = [await store.read_events(after=after, limit=9_999) for after in (0, 2_000)]

    assert [2_000, 1] == [len(page) for page in pages]
    assert len(await store.read_records(after=0, limit=9_999)) == 2_000
    ended = {job.id: ended_row(job) for job in history.jobs.values()}
    await store.append(Batch([], [], history=ended), decided_at=2_001)
    for view in ("active", "keys", "history"):
        assert len(await store.read_view(view, after="", limit=9_999)) == 2_000


async def test_a_page_of_large_events_ends_early(store: SqliteStore) -> None:
    """
    A page is bounded in bytes as well, by whatever it is read; reading on from where it ended gives the rest.
    """
    history = History()
    for number in range(20):
        history.create(number, raw=b'"%b"' % (b"x" * 1_000_000))
    await store.append(history.batch(), decided_at=0)

    pages = [await store.read_events(after=0, limit=2_000)]
    while page := await store.read_events(after=pages[-1][-1].position, limit=2_000):
        pages.append(page)

    assert [9, 9, 2] == [len(page) for page in pages]
    assert list(range(1, 21)) == [event.position for page in pages for event in page]
    assert len(await store.read_events(after=0, limit=2_000, owner="user:ada")) == 9
    assert [1] == [event.position for event in await store.read_events(after=0, limit=2_000, job_id=job_id(0))]
    assert len(await store.read_records(after=0, limit=2_000)) <= 9


async def test_events_are_read_by_owner_by_job_and_up_to_a_position(store: SqliteStore) -> None:
    """
    Each filter gives its own events in order, and they may be joined.
    """
    history = History()
    for number in range(6):
        history.create(number, owner=f"user:{number % 2}")
    history.start(0)
    await store.append(history.batch(), decided_at=0)

    of_owner = await store.read_events(after=1, limit=2, owner="user:0")
    of_job = await store.read_events(after=0, limit=9, job_id=job_id(0))
    until = await store.read_events(after=2, limit=9, until=4)

    assert [3, 5] == [event.position for event in of_owner]
    assert [1, 7] == [event.position for event in of_job]
    assert [3, 4] == [event.position for event in until]
    assert not await store.read_events(after=0, limit=9, job_id=job_id(0), owner="user:1")


async def test_a_former_owner_reads_the_event_that_took_its_job_and_nothing_after_it(store: SqliteStore) -> None:
    """
    In its place among the owner's other events, in pages of any size, and in the job's own stream.
    """
    history = History()
    for number in range(3):
        history.create(number, owner="guest:g")
    history.move(0, owner="user:u")
    history.create(3, owner="guest:g")
    history.start(0)
    history.move(2, owner="user:u")
    await store.append(history.batch(), decided_at=0)

    whole = await store.read_events(after=0, limit=9, owner="guest:g")
    pages = [await store.read_events(after=after, limit=2, owner="guest:g") for after in (0, 2, 4)]
    until = await store.read_events(after=3, limit=9, owner="guest:g", until=6)
    of_job = [
        await store.read_events(after=0, limit=9, owner=owner, job_id=job_id(0)) for owner in ("guest:g", "user:u")
    ]

    assert [1, 2, 3, 4, 5, 7] == [event.position for event in whole]
    assert whole == [event for page in pages for event in page]
    assert [4, 5] == [event.position for event in until]
    assert [[1, 4], [4, 6]] == [[event.position for event in events] for events in of_job]


async def test_a_principal_s_marks_are_read_by_scope_until_they_expire(store: SqliteStore) -> None:
    """
    All of them and nobody else's, those that have run out left aside.
    """
    marks = [
        Mark(name, scope, "", "", b"u", START + left) for name in ("a", "b") for scope, left in (("y", 2), ("x", 1))
    ]
    await store.append(Batch((), (), marks=marks), decided_at=0)

    read = [await store.read_marks("a", now=START + passed) for passed in (0, 1, 2)]

    assert [[marks[1], marks[0]], [marks[0]], []] == read


async def test_a_job_is_folded_as_of_any_version(store: SqliteStore) -> None:
    """
    Skipping all progress but the last before a version gives the same job as folding everything.
    """
    history = History()
    history.create(1)
    history.start(1)
    for percent in (10.0, 20.0, 30.0):
        history.progress(1, percent=percent)
    history.complete(1)
    history.late_result(1, fence=0, digest="late")
    await store.append(history.batch(), decided_at=0)

    at = [await store.read_jobs({job_id(1): version}) for version in range(1, 8)]

    assert [{job_id(1): history.job_at(1, version=version)} for version in range(1, 8)] == at
    assert await store.read_jobs({job_id(1): None, job_id(2): None}) == {job_id(1): history.jobs[job_id(1)]}


async def test_jobs_are_folded_as_of_any_position(store: SqliteStore) -> None:
    """
    At each position of the log each job is what a fold up to there makes, and one that was made later is not there.
    """
    history = History()
    history.create(1)
    history.create(2)
    history.start(1)
    for percent in (10.0, 20.0):
        history.progress(1, percent=percent)
        history.start(2) if percent < 20 else history.progress(2, percent=percent)
    history.complete(1)
    await store.append(history.batch(), decided_at=0)
    wanted = dict.fromkeys(history.jobs)

    at = [await store.read_jobs(wanted, until=position) for position in range(history.position + 2)]

    assert [history.jobs_at(position) for position in range(history.position + 2)] == at


async def test_a_look_up_answers_all_kinds_of_needs_at_once(store: SqliteStore) -> None:
    """
    Jobs with their history, marks, the newest completed job of a key, and the job right after a report.
    """
    history = History()
    for number in (1, 2):
        history.create(number, key="same")
        history.start(number)
        history.complete(number)
    history.late_result(1, fence=0, digest="late")
    history.create(3)
    history.complete(3)
    mark = Mark("user:ada", "POST /api/jobs", "once", "ff", b'{"version":1}', START)
    await store.append(replace(history.batch(), marks=[mark]), decided_at=0)

    found = await store.look_up(
        Needs(
            jobs=frozenset({job_id(3), job_id(4)}),
            marks=frozenset({(mark.principal, mark.scope, mark.key), ("user:bob", mark.scope, mark.key)}),
            completed=frozenset({("user:ada", "post", "same"), ("user:ada", "post", "other")}),
            reports=frozenset({(job_id(1), "complete", 1, "d1"), (job_id(1), "complete", 0, "late")}),
        )
    )

    assert found.jobs == {job_id(3): history.jobs[job_id(3)]}
    assert found.history == {job_id(3): history_row(history.jobs[job_id(3)])}
    assert found.marks == {("user:ada", "POST /api/jobs", "once"): mark}
    assert found.completed == {("user:ada", "post", "same"): history.jobs[job_id(2)]}
    assert found.reports == {(job_id(1), "complete", 1, "d1"): history.job_at(1, version=3)}


async def test_history_is_listed_newest_first_by_every_condition(store: SqliteStore) -> None:
    """
    Owner, kind, key and states narrow the list, ``before`` reads on, and no active job is in it.
    """
    history = History()
    for number in range(6):
        history.create(number, owner=f"user:{number % 2}", key=f"key-{number % 3}")
        history.start(number)
        history.complete(number)
    history.create(6, owner="user:0", key="key-0")
    await store.append(history.batch(), decided_at=0)

    async def listed(query: HistoryQuery) -> list[int]:
        return [int(row.job_id[-2:], 16) for row in await store.read_history(query)]

    assert [5, 4] == await listed(HistoryQuery(limit=2))
    assert [3, 2] == await listed(HistoryQuery(limit=2, before=job_id(4)))
    assert [4, 2, 0] == await listed(HistoryQuery(limit=9, owner="user:0"))
    assert [3, 0] == await listed(HistoryQuery(limit=9, key="key-0"))
    assert [0] == await listed(HistoryQuery(limit=9, key="key-0", owner="user:0", kind="post"))
    assert [5] == await listed(HistoryQuery(limit=1, states=frozenset({"completed"})))
    assert [] == await listed(HistoryQuery(limit=9, states=frozenset({"queued"})))
    assert [] == await listed(HistoryQuery(limit=9, states=frozenset()))
    assert [] == await listed(HistoryQuery(limit=9, owner="user:0", kind="other"))


async def test_marks_are_forgotten_once_expired(store: SqliteStore) -> None:
    """
    A mark goes when its time has come and no earlier; marks alone make a batch too.
    """
    marks = [Mark("user:ada", "POST", f"k{number}", "ff", b"{}", START + number) for number in range(5)]
    await store.append(Batch(events=[], owners=[], marks=marks), decided_at=0)

    forgotten = await store.forget_marks(expired_at=START + 2)

    keys = frozenset(("user:ada", "POST", f"k{number}") for number in range(5))
    assert forgotten == 3
    assert {"k3", "k4"} == {mark.key for mark in (await store.look_up(Needs(marks=keys))).marks.values()}


async def test_a_shadow_takes_the_views_place_only_if_it_saw_everything(store: SqliteStore) -> None:
    """
    A swap below the head is refused with what is missing; at the head the shadow is the view, a stale row gone.
    """
    history = History()
    for number in (1, 2):
        history.create(number)
    rows = {job.id: key_row(job) for job in history.jobs.values()}
    stale = replace(rows[job_id(1)], job_id=job_id(77))
    await store.append(replace(history.batch(), keys={job_id(77): stale}), decided_at=0)

    for _ in range(3):
        await store.begin_shadow("keys")
        await store.fill_shadow("keys", rows)
        with pytest.raises(Behind) as behind:
            await store.swap_shadow("keys", built_to=1)
        assert history.events[1:] == behind.value.events
        await store.swap_shadow("keys", built_to=2)

    assert list(rows.values()) == await store.read_view("keys", after="", limit=9)
    history.create(3)
    await store.append(history.batch(), decided_at=2)
    assert len(await store.read_view("keys", after="", limit=9)) == 3


async def test_streams_are_read_one_after_the_other_beside_their_rows(store: SqliteStore) -> None:
    """
    In pages of any size each event comes once, by job and version; each row comes once, with or after its job's last.
    """
    history = History()
    for number in (2, 1, 3):
        history.create(number)
    for number in (1, 2, 1, 1, 1):
        history.progress(number, percent=1.0)
    await store.append(history.batch(), decided_at=0)
    planted = [replace(ended_row(history.jobs[job_id(1)]), job_id=job_id(number)) for number in (0, 1, 2, 3, 9)]
    await store.append(Batch([], [], history={row.job_id: row for row in planted}), decided_at=8)
    expected = sorted((event.job_id, event.version) for event in history.events)

    for limit in range(1, 10):
        pages = await _streams(store, limit=limit)
        events = [(record.job_id, record.version) for page in pages for record in page.records]
        rows = [getattr(row, "job_id", "") for page in pages for row in page.views["history"]]
        assert expected == events
        assert [job_id(number) for number in (0, 1, 2, 3, 9)] == rows


async def _streams(store: SqliteStore, *, limit: int) -> list[StreamsPage]:
    """
    All pages of the streams beside ``history``, which never has a row of a job whose events are still to come.
    """
    place, pages = StreamPlace(), list[StreamsPage]()
    while True:
        pages.append(page := await store.read_streams(place, limit=limit, views=HISTORY_ONLY))
        assert page.position == 8
        if page.through is None:
            return pages
        assert all(getattr(row, "job_id", "") <= page.through for row in page.views["history"])
        place = StreamPlace(page.records[-1].job_id, page.records[-1].version, page.through)


async def test_streams_can_be_read_up_to_a_position(store: SqliteStore) -> None:
    """
    What came after it is left out, and no view is read that was not asked for.
    """
    history = History()
    for number in (2, 1):
        history.create(number)
        history.progress(number, percent=1.0)
    await store.append(history.batch(), decided_at=0)

    page = await store.read_streams(StreamPlace(), limit=9, until=3)

    assert [3, 1, 2] == [record.position for record in page.records]
    assert (None, {}) == (page.through, page.views)


async def test_a_shadow_is_read_back_and_what_it_replaced_is_cleared(store: SqliteStore) -> None:
    """
    Rows that were written to a shadow are found in it by job; after the swap nothing is left beside the view.
    """
    history = History()
    for number in (1, 2):
        history.create(number)
    await store.append(history.batch(), decided_at=0)
    rows = {job.id: ended_row(job) for job in history.jobs.values()}

    await store.begin_shadow("history")
    await store.fill_shadow("history", {job_id(1): rows[job_id(1)]})
    found = await store.read_shadow("history", [job_id(1), job_id(2)])
    await store.fill_shadow("history", {job_id(1): None, job_id(2): rows[job_id(2)]})
    await store.swap_shadow("history", built_to=2)
    before = await store.count_rows("history")
    await store.clear_shadow("history")
    await store.clear_shadow("history")

    assert {job_id(1): rows[job_id(1)]} == found
    assert (1, 1) == (before, await store.count_rows("history"))
    assert [rows[job_id(2)]] == await store.read_view("history", after="", limit=9)


async def test_what_is_parked_goes_with_rows_and_checkpoint(store: SqliteStore) -> None:
    """
    Parked and freed in the transaction that moves the checkpoint, or not at all; gone with another version.
    """
    first, second = Parked("counts", 3, job_id(1), "failed"), Parked("counts", 4, job_id(2), "failed")
    await store.write_rows("counts", {"a": b"1"}, version=1, checkpoint=5, resumed_from=0, parked=[first, second])
    passed = replace(first, passed_over=True)

    with pytest.raises(Conflict):
        await store.write_rows("counts", {}, version=1, checkpoint=6, resumed_from=4, freed=[3, 4])
    unmoved = await store.read_parked("counts")
    await store.write_rows("counts", {}, version=1, checkpoint=5, resumed_from=5, freed=[3], parked=[passed])
    settled = await store.read_parked("counts")
    await store.swap_rows("counts", "others")
    moved = await store.read_parked("others"), await store.read_rows("others", ["a"])
    await store.write_rows("others", {}, version=2, checkpoint=1, resumed_from=0)

    assert ([first, second], [passed, second]) == (unmoved, settled)
    assert ([replace(passed, projection="others"), replace(second, projection="others")], {"a": b"1"}) == moved
    assert ([], []) == (await store.read_parked("counts"), await store.read_parked("others"))
    assert "counts" not in await store.read_checkpoints()


async def test_a_projection_has_one_runner(store: SqliteStore) -> None:
    """
    Rows and checkpoint advance together from where they were, else not at all; another version begins anew.
    """
    await store.write_rows("counts", {"a": b"1", "b": b"2"}, version=1, checkpoint=5, resumed_from=0)

    with pytest.raises(Conflict):
        await store.write_rows("counts", {"a": b"9"}, version=1, checkpoint=6, resumed_from=4)

    await store.write_rows("counts", {"a": None}, version=1, checkpoint=6, resumed_from=5)
    assert await store.read_rows("counts", ["a", "b", "c"]) == {"b": b"2"}
    assert (await store.read_checkpoints())["counts"].position == 6
    await store.write_rows("counts", {"z": b"1"}, version=2, checkpoint=1, resumed_from=0)
    assert await store.read_rows("counts", ["b", "z"]) == {"z": b"1"}


_STEP = st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["go", "progress"])), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=st.lists(_STEP, max_size=6))
async def test_any_log_is_what_a_list_would_be(batches: list[list[tuple[int, str]]]) -> None:
    """
    Whatever is appended, in whatever batches: the log, the jobs and the views are those of a plain list of events.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "log.db")
        await store.open()
        history = History()
        for steps in batches:
            decided_at = history.position
            for number, step in steps:
                _advance(history, number, step=step)
            await store.append(history.batch(), decided_at=decided_at)
        await store.close()
        opening = await store.open()
        jobs = await store.read_jobs(dict.fromkeys(history.jobs))
        events = await store.read_events(after=0, limit=2_000)
        await store.close()

    assert history.events == events
    assert history.jobs == jobs
    assert [job for _, job in sorted(history.jobs.items()) if job.active] == opening.active
    assert {job.id for job in opening.active} == set(opening.keys)


def _advance(history: History, number: int, *, step: str) -> None:
    job = history.jobs.get(job_id(number))
    match job.state if job else None:
        case None:
            history.create(number, owner=f"user:{number % 3}")
        case "queued":
            history.start(number)
        case "running" if step == "progress":
            history.progress(number, percent=float(history.position % 100))
        case "running":
            history.complete(number)
        case _:
            history.late_result(number, fence=0, digest=str(history.position))
