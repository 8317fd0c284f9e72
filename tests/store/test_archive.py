"""
What every engine promises of its archive: streams move there whole, and every read goes on through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.events import Erased, Event, Payload
from jobsvc.store.seam import Batch, Mark, Needs, StreamPlace
from jobsvc.store.segments import content_of, link_segment
from tests.store.histories import START, History, chain_of, job_id

if TYPE_CHECKING:
    from jobsvc.store.seam import Archived, ViewName
    from jobsvc.store.sqlite import SqliteStore
    from tests.store.conftest import Log

ACTIVE: tuple[ViewName, ...] = ("active",)
LATER = START + 40 * 86_400 * 1_000_000


async def archived(store: SqliteStore, *, until: int) -> list[Archived]:
    """
    Everything up to *until* that may move has moved; what each step did.
    """
    steps = [await store.archive(after=0, until=until, at=LATER)]
    while steps[-1].reached < until:
        steps.append(await store.archive(after=steps[-1].reached, until=until, at=LATER))
    return steps


async def three_of_four_ended(store: SqliteStore) -> History:
    """
    Four jobs whose events are mixed; the second goes on.
    """
    history = History()
    for number in range(4):
        history.create(number, owner=f"user:{number % 2}")
    for number in range(4):
        history.start(number)
    for number in (0, 2, 3):
        history.progress(number, percent=10.0)
        history.progress(number, percent=20.0)
        history.complete(number, digest=f"d{number}")
    await store.append(history.batch(), decided_at=0)
    return history


async def test_the_log_reads_on_through_segments(store: SqliteStore) -> None:
    """
    Whatever moved, pages of any size give the events that were there before, and the chain holds.
    """
    history = await three_of_four_ended(store)
    records = await store.read_records(after=0, limit=100)

    steps = await archived(store, until=history.position)

    assert 3 == sum(step.jobs for step in steps)
    assert steps[-1].through == history.position
    for limit in (1, 2, 3, 5, 100):
        events: list[Event] = []
        position = 0
        while page := await store.read_events(after=position, limit=limit):
            events += page
            position = page[-1].position
        assert history.events == events
    again = await store.read_records(after=0, limit=100)
    assert [record.chain for record in records] == [record.chain for record in again]
    assert chain_of(again) == (await store.read_head()).chain
    live = await store.read_events(after=0, limit=100, archived=False)
    assert {job_id(1)} == {event.job_id for event in live}
    assert {record.job_id for record in again if not record.archived} == {job_id(1)}


async def test_filters_hold_in_the_archive_too(store: SqliteStore) -> None:
    """
    By owner, by job, by type and up to a position, as if nothing had moved.
    """
    history = await three_of_four_ended(store)
    history.move(2, owner="user:9")
    await store.append(history.batch(), decided_at=history.position - 1)
    whole = [
        await store.read_events(after=0, limit=100, owner="user:0"),
        await store.read_events(after=3, limit=100, owner="user:9"),
        await store.read_events(after=0, limit=100, job_id=job_id(3)),
        await store.read_events(after=2, limit=100, until=9),
        await store.read_events(after=0, limit=100, job_id=job_id(2), owner="user:0"),
    ]
    started = [record.position for record in await store.read_records(after=0, limit=100, type="job.started")]

    await archived(store, until=history.position)

    assert whole == [
        await store.read_events(after=0, limit=100, owner="user:0"),
        await store.read_events(after=3, limit=100, owner="user:9"),
        await store.read_events(after=0, limit=100, job_id=job_id(3)),
        await store.read_events(after=2, limit=100, until=9),
        await store.read_events(after=0, limit=100, job_id=job_id(2), owner="user:0"),
    ]
    records = await store.read_records(after=0, limit=100, type="job.started")
    assert started == [record.position for record in records]
    assert {job_id(2)} == {r.job_id for r in await store.read_records(after=0, limit=100, job_id=job_id(2))}


async def test_streams_are_read_through_the_archive_one_after_the_other(store: SqliteStore) -> None:
    """
    In pages of any size every stream is there as it was, beside the views' rows of the same jobs.
    """
    history = await three_of_four_ended(store)
    await archived(store, until=history.position)
    history.late_result(2, fence=0, digest="late")
    batch = history.batch()
    await store.append(Batch(batch.events, batch.owners), decided_at=history.position - 1)
    expected = sorted((event.job_id, event.version) for event in history.events)

    for limit in (1, 2, 3, 4, 7, 100):
        place, found, rows = StreamPlace(), [], []
        while True:
            page = await store.read_streams(place, limit=limit, views=ACTIVE)
            found += [(record.job_id, record.version) for record in page.records]
            rows += [row.id for row in page.views["active"]]  # type: ignore[union-attr]  # as was asked
            if page.through is None:
                break
            place = StreamPlace(page.records[-1].job_id, page.records[-1].version, page.through)
        assert expected == found, limit
        assert [job_id(1)] == rows


async def test_an_archived_job_is_found_by_its_id_and_in_no_list(store: SqliteStore) -> None:
    """
    As of any version; what is gone is its row in the history, and with it the newest result of its key.
    """
    history = await three_of_four_ended(store)

    await archived(store, until=history.position)

    for version in (None, 1, 2, 3, 4, 5):
        expected = history.jobs[job_id(3)] if version is None else history.job_at(3, version=version)
        assert {job_id(3): expected} == await store.read_jobs({job_id(3): version})
    report = (job_id(3), "complete", 1, "d3")
    found = await store.look_up(
        Needs(
            jobs=frozenset({job_id(3)}),
            completed=frozenset({("user:1", "post", "key-3")}),
            reports=frozenset({report, (job_id(3), "complete", 1, "other")}),
        )
    )
    assert {job_id(3): history.jobs[job_id(3)]} == found.jobs
    assert {report: history.jobs[job_id(3)]} == found.reports
    assert not found.history
    assert not found.completed
    assert not await store.read_view("history", after="", limit=9)
    assert {job_id(3)} == await store.find_archived([job_id(1), job_id(3)])
    assert [job_id(0), job_id(2)] == await store.read_archived_jobs("user:0", after="", limit=9)
    assert [job_id(2)] == await store.read_archived_jobs("user:0", after=job_id(0), limit=9)


async def test_what_happens_to_an_archived_job_follows_its_stream(store: SqliteStore) -> None:
    """
    A late result and a new owner are the next versions; in time they are archived too, and the stream is still one.
    """
    history = await three_of_four_ended(store)
    await archived(store, until=history.position)

    history.late_result(0, fence=0, digest="late")
    history.move(0, owner="user:9")
    batch = history.batch()
    await store.append(Batch(batch.events, batch.owners), decided_at=history.position - 2)
    apart = await store.read_jobs({job_id(0): None})
    owners = [await store.read_archived_jobs(owner, after="", limit=9) for owner in ("user:0", "user:9")]
    steps = await archived(store, until=history.position)

    assert {job_id(0): history.jobs[job_id(0)]} == apart
    assert [[job_id(2)], [job_id(0)]] == owners
    assert [2] == [step.events for step in steps if step.events]
    assert {job_id(0): history.jobs[job_id(0)]} == await store.read_jobs({job_id(0): None})
    assert history.events == await store.read_events(after=0, limit=100)


async def test_what_may_not_be_archived_stays(store: SqliteStore) -> None:
    """
    A job that goes on, and one with an event above the position.
    """
    history = await three_of_four_ended(store)
    last = history.position
    history.late_result(2, fence=0, digest="late")
    await store.append(history.batch(), decided_at=last)

    steps = await archived(store, until=last)

    assert 2 == sum(step.jobs for step in steps)
    assert frozenset({job_id(0), job_id(3)}) == await store.find_archived([job_id(number) for number in range(4)])


async def test_a_long_stream_moves_in_parts(store: SqliteStore) -> None:
    """
    Between two parts it is read as one, and its job as it was.
    """
    history = History()
    history.create(1)
    history.start(1)
    for percent in range(1_200):
        history.progress(1, percent=float(percent % 100))
    history.complete(1)
    history.create(2, raw=b'"%b"' % (b"x" * 1_500_000))
    history.start(2)
    history.complete(2)
    await store.append(history.batch(), decided_at=0)

    first = await store.archive(after=0, until=history.position, at=LATER)
    between = [await store.read_jobs({job_id(1): None}), await store.read_events(after=0, limit=2_000)]
    steps = await archived(store, until=history.position)

    assert (1, 256) == (first.jobs, first.events)
    assert [{job_id(1): history.jobs[job_id(1)]}, history.events] == between
    assert [256, 256, 256, 179, 1, 2] == [step.events for step in steps if step.events]
    assert history.events == await store.read_events(after=0, limit=2_000)


async def test_the_manifest_is_a_chain(log: Log, store: SqliteStore) -> None:
    """
    Each segment is chained to the one before, over its own events' chain values; a store that is opened anew goes on.
    """
    history = History()
    for number in range(300):
        history.create(number)
        history.start(number)
        history.complete(number)
    await store.append(history.batch(), decided_at=0)
    await store.archive(after=0, until=900, at=LATER)
    await store.close()
    opening = await store.open()
    steps = await archived(store, until=900)

    chain = bytes(32)
    for segment in await store.read_segments(after=0, limit=9):
        records = await store.read_segment(segment.number)
        assert content_of(records) == segment.content
        assert (records[0].position, records[-1].position) == (segment.first_position, segment.last_position)
        chain = link_segment(
            chain,
            segment.number,
            first_position=segment.first_position,
            last_position=segment.last_position,
            events=segment.events,
            content=segment.content,
        )
        assert chain == segment.chain
    assert 4 == segment.number
    assert 900 == steps[-1].through
    assert 0 < opening.archived_through < 900
    assert not await store.read_segments(after=4, limit=9)
    assert not await store.read_segment(5)
    assert 900 == len(await (await log.reader()).read_records(after=0, limit=2_000))


async def test_a_store_whose_newest_event_is_archived_opens(store: SqliteStore) -> None:
    """
    The head is held against the newest event, wherever it lies; the next stands after it.
    """
    history = await three_of_four_ended(store)
    await archived(store, until=history.position)

    await store.close()
    opening = await store.open()
    history.create(7)
    head = await store.append(history.batch(), decided_at=history.position - 1)

    assert history.position - 1 == opening.head.position == opening.archived_through
    assert history.position == head.position


async def test_a_step_on_a_stream_that_grew_meanwhile_moves_nothing(store: SqliteStore, log: Log) -> None:
    """
    What was planned is not what is there any more; the next step takes all of it.
    """
    history = await three_of_four_ended(store)
    last = history.position
    second = await log.writer()
    growing = store._read  # noqa: SLF001  # between plan and transaction nothing else can be let in

    async def then_grow(function: object) -> object:
        plan: object = await growing(function)  # type: ignore[arg-type]
        if history.position == last:
            history.late_result(0, fence=0, digest="late")
            await second.append(history.batch(), decided_at=last)
        return plan

    store._read = then_grow  # type: ignore[method-assign,assignment]  # noqa: SLF001  # as above
    step = await store.archive(after=0, until=last + 1, at=LATER)

    assert (0, 0, 0) == (step.jobs, step.events, step.reached)
    assert 3 == sum(step.jobs for step in await archived(store, until=last + 1))
    assert history.events == await store.read_events(after=0, limit=100)


async def test_an_erasure_takes_the_payloads_wherever_they_lie(store: SqliteStore) -> None:
    """
    With its event, in one append: of what is live, of what is archived, and of the answers that show the job.
    """
    history = await three_of_four_ended(store)
    await archived(store, until=history.position)
    marks = [
        Mark("user:1", "request", job_id(n), "d", b'[{"job_id":"%b"}]' % job_id(n).encode(), LATER) for n in (1, 3)
    ]
    await store.append(Batch((), (), marks=marks), decided_at=history.position)
    history.late_result(3, fence=0, digest="late")
    event = Event(history.position + 1, job_id(3), 7, LATER, Erased(), Payload(actor="operator:o"))
    batch = history.batch()
    appended = Batch([*batch.events, event], [*batch.owners, "erased"])

    head = await store.append(appended, decided_at=event.position - 2)

    records = await store.read_records(after=0, limit=100, job_id=job_id(3))
    assert [True] * 6 + [False] == [record.payload is None and record.owner is None for record in records]
    assert head.chain == chain_of(await store.read_records(after=0, limit=100))
    assert not await store.read_archived_jobs("user:1", after="", limit=9)
    assert [job_id(1)] == [mark.key for mark in await store.read_marks("user:1", now=START)]
    assert history.jobs[job_id(0)] == (await store.read_jobs({job_id(0): None}))[job_id(0)]
    assert await store.scrub()
