"""
What the SQLite engine reads back: pages of events, folded jobs, rows of views.

A page of events comes as one packed value (queries.sql says why) and is unpacked on the event loop in slices, so that
nothing else waits for a long page. Every read is one short statement: no cursor outlives its hop, since a long reader
pins the write-ahead log. Nothing is ever written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from jobsvc.domain.errors import UnreadableEvent, ViewMismatch
from jobsvc.domain.job import Job, evolve
from jobsvc.domain.words import JobId
from jobsvc.store import codec
from jobsvc.store.blocks import block
from jobsvc.store.driver import DriverError, Row, roll_back
from jobsvc.store.seam import (
    BYTES_PER_PAGE_MAX,
    ROWS_PER_PAGE_MAX,
    Head,
    HistoryQuery,
    HistoryRow,
    KeyRow,
    Mark,
    Record,
    StreamPlace,
    StreamsPage,
    ViewName,
)
from jobsvc.store.sqlite_connections import SqliteConnections
from jobsvc.store.sqlite_segments import (
    EVENTS_PER_SLICE,
    Older,
    Which,
    decoded,
    joined,
    select_older,
    select_older_streams,
    select_parts,
    select_through,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from jobsvc.domain.events import Event, EventType
    from jobsvc.domain.words import Micros
    from jobsvc.store.driver import Cursor, RawConnection

POSITION_MAX: Final = 2**63 - 1
_AFTER_ALL_IDS: Final = "~"

_ABOVE_ALL_TEXT: Final = b""
"""SQLite has every BLOB above every text."""

Wanted = tuple["JobId", "int | None"]
"""A job and the version that it is wanted at; None for the newest."""


class SqliteReads(SqliteConnections):
    """
    The reading half of the engine, on the reader's connection.
    """

    async def read_head(self) -> Head:
        """
        The end of the log as committed.
        """
        return await self._read(select_head)

    async def read_events(
        self,
        *,
        after: int,
        limit: int,
        owner: str | None = None,
        job_id: JobId | None = None,
        until: int | None = None,
        archived: bool = True,
    ) -> Sequence[Event]:
        """
        A page of the log, of an owner's events, or of a job's stream, in order, read through the archive.
        """
        end = POSITION_MAX if until is None else until
        while True:
            which = Which(after, end, min(limit, ROWS_PER_PAGE_MAX), job_id=job_id, owner=owner)
            packed, older = await self._read(partial(_select_events, which=which, archived=archived))
            live = [event for _, event in await unpacked(packed)]
            if older is None:
                return live
            events = joined(live, await decoded(older.records), end=older.end, limit=which.limit)
            if events or older.end >= end:
                return events
            after = older.end

    async def read_jobs(self, versions: Mapping[JobId, int | None], *, until: int | None = None) -> Mapping[JobId, Job]:
        """
        Each named job as it stood after that version, or at the position *until*, folded from its stream.
        """
        wanted = list(versions.items())
        streams = await self._read(lambda raw: select_streams(raw, wanted, until=until))
        return {wanted[place][0]: job for place, job in (await folded(streams)).items()}

    async def read_records(
        self, *, after: int, limit: int, job_id: JobId | None = None, type: EventType | None = None
    ) -> Sequence[Record]:
        """
        A page of the log or of a job's stream, byte for byte.
        """
        while True:
            which = Which(after, POSITION_MAX, min(limit, ROWS_PER_PAGE_MAX), job_id=job_id, type=type)
            live, older = await self._read(partial(_select_records, which=which))
            if older is None:
                return live
            records = _fitting(joined(live, older.records, end=older.end, limit=which.limit))
            if records or older.end >= POSITION_MAX:
                return records
            after = older.end

    async def read_history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """
        The rows of ``history`` that *query* asks for, ended jobs only, newest first.
        """
        name = "all" if query.owner is None else "owner"
        name = name if query.key is None else "key"
        parameters = {
            "owner": query.owner,
            "kind": query.kind,
            "key": query.key,
            "states": None if query.states is None else as_json(sorted(query.states)),
            "before": query.before or _AFTER_ALL_IDS,
            "limit": min(query.limit, ROWS_PER_PAGE_MAX),
        }
        rows = await self._read(lambda raw: raw.execute(block(f"history_of_{name}"), parameters).fetchall())
        return [HistoryRow(*row) for row in rows]

    async def read_marks(self, principal: str, *, now: Micros) -> Sequence[Mark]:
        """
        The marks of *principal* that have not expired, by scope.
        """
        parameters = {"principal": principal, "now": now, "limit": ROWS_PER_PAGE_MAX}
        rows = await self._read(lambda raw: raw.execute(block("marks_of"), parameters).fetchall())
        return [Mark(*row) for row in rows]

    async def read_view(
        self, view: ViewName, *, after: JobId, limit: int
    ) -> Sequence[Job] | Sequence[KeyRow] | Sequence[HistoryRow]:
        """
        A page of *view* as stored.
        """
        parameters = {"after": after, "through": _ABOVE_ALL_TEXT, "limit": min(limit, ROWS_PER_PAGE_MAX)}
        rows = await self._read(lambda raw: raw.execute(block(f"view_{view}"), parameters).fetchall())
        return view_rows(view, rows)

    async def read_streams(
        self, place: StreamPlace, *, limit: int, until: int | None = None, views: Collection[ViewName] = ()
    ) -> StreamsPage:
        """
        A page of the log in the order of its jobs, beside the rows of *views*.
        """
        bounds = {"limit": min(limit, ROWS_PER_PAGE_MAX), "until": POSITION_MAX if until is None else until}
        found = await self._read(lambda raw: _select_streams_page(raw, place, bounds, views=sorted(views)))
        return StreamsPage(
            found.position,
            found.records,
            found.through,
            {view: view_rows(view, rows) for view, rows in found.views.items()},
        )


def select_head(raw: RawConnection) -> Head:
    """
    The head as this connection sees it.
    """
    return Head(*raw.execute(block("head")).fetchall()[0])


class Streams(Struct, frozen=True):
    """
    What folds to jobs: live events as one packed page, archived ones beside it, both with the place of their job.
    """

    packed: bytes = b""
    archived: Sequence[tuple[int, Record]] = ()


def select_page(raw: RawConnection, name: str, *, parameters: Mapping[str, Any]) -> tuple[bytes, Any]:
    """
    The page that the block *name* gives, empty for none, and what it says of the archive.
    """
    bounded = {"bytes_max": BYTES_PER_PAGE_MAX, **parameters}
    packed, archive = raw.execute(block(name), bounded).fetchall()[0]
    return packed or b"", archive


def select_streams(raw: RawConnection, wanted: Sequence[Wanted], *, until: int | None = None) -> Streams:
    """
    What folds to each of *wanted*, told apart by the place in *wanted*.
    """
    if not wanted:
        return Streams()
    end = POSITION_MAX if until is None else until
    packed, parts = select_page(raw, "streams", parameters={"wanted": as_json(wanted), "until": end})
    if parts == "[]":
        return Streams(packed)
    return Streams(packed, _archived_streams(raw, wanted, parts=codec.loads(parts), until=end))


def _archived_streams(
    raw: RawConnection, wanted: Sequence[Wanted], *, parts: Sequence[tuple[int, int]], until: int
) -> list[tuple[int, Record]]:
    """
    Of each of *wanted* what is archived, in order; of its progress only the last.
    """
    by_place: dict[int, list[Record]] = {}
    for place, records in select_parts(raw, parts):
        job_id, version = wanted[place]
        newest = POSITION_MAX if version is None else version
        by_place.setdefault(place, []).extend(
            record
            for record in records
            if record.job_id == job_id and record.version <= newest and record.position <= until
        )
    streams: list[tuple[int, Record]] = []
    for place, stream in by_place.items():
        stream.sort(key=lambda record: record.version)
        ticks = [record for record in stream if record.type == "job.progressed"]
        streams += [(place, record) for record in stream if record.type != "job.progressed" or record is ticks[-1]]
    return streams


def _select_events(raw: RawConnection, *, which: Which, archived: bool) -> tuple[bytes, Older | None]:
    """
    A page of what is live, and what the archive has up to where it ends; None if the archive does not reach there.
    """
    name = "log" if which.owner is None else "owner"
    name = name if which.job_id is None else "job"
    packed, through = select_page(raw, f"events_of_{name}", parameters=asdict(which))
    if not archived or which.after >= through:
        return packed, None
    return packed, select_older(raw, replace(which, until=_settled_to(packed, which)))


def select_live_records(raw: RawConnection, which: Which) -> tuple[list[Record], bool]:
    """
    A page of what lies in no segment, as stored, byte for byte; whether that is all there is.
    """
    name = "records" if which.job_id is None else "records_of_job"
    rows, whole = _bounded(raw.execute(block(name), asdict(which)), rows_max=which.limit)
    return [_record(*row) for row in rows], whole


def _select_records(raw: RawConnection, *, which: Which) -> tuple[list[Record], Older | None]:
    """
    The same as stored, byte for byte.
    """
    live, whole = select_live_records(raw, which)
    through = select_through(raw)
    if not through or which.after >= through:
        return live, None
    return live, select_older(raw, which if whole else replace(which, until=live[-1].position))


async def unpacked(packed: bytes) -> list[tuple[int, Event]]:
    """
    The events of a page, each with its place among what was wanted. Others get a turn after every 128.

    Raises:
        UnreadableEvent: One of them does not decode.
    """
    events: list[tuple[int, Event]] = []
    for entry in _unpack(packed):
        events.append(entry)
        if len(events) % EVENTS_PER_SLICE == 0:
            await asyncio.sleep(0)
    return events


async def folded(streams: Streams) -> dict[int, Job]:
    """
    By place: the job that its events add up to, archived ones first. Others get a turn after every 128 events.

    Raises:
        UnreadableEvent: An event does not decode, or a stream does not begin with its birth.
    """
    older = await decoded([record for _, record in streams.archived])
    events = [(place, event) for (place, _), event in zip(streams.archived, older, strict=True)]
    jobs: dict[int, Job] = {}
    for place, event in events + await unpacked(streams.packed):
        job = jobs.get(place)
        # A stream that was archived between two statements is here twice.
        if job is not None and event.version <= job.version:
            continue
        try:
            jobs[place] = evolve(job, event)
        except ValueError as error:
            raise UnreadableEvent(f"the event at position {event.position} does not follow from its stream") from error
    return jobs


def as_json(value: object) -> str:
    """
    *value* as the JSON text that a list parameter is.
    """
    return codec.dumps(value).decode()


class _StreamRows(Struct, frozen=True):
    position: int
    records: list[Record]
    through: JobId | None
    views: dict[ViewName, list[Row]]


def _select_streams_page(
    raw: RawConnection, place: StreamPlace, bounds: Mapping[str, int], *, views: Iterable[ViewName]
) -> _StreamRows:
    """
    As ``read_streams``, all of it as of one moment.
    """
    raw.execute("BEGIN")
    try:
        above = {"job_id": place.job_id, "version": place.version, **bounds}
        rows, whole = _bounded(raw.execute(block("records_by_stream"), above), rows_max=bounds["limit"])
        live = [_record(*row) for row in rows]
        records, through = _with_older(raw, place, bounds, live=live, whole=whole)
        within = {
            "after": place.done,
            "through": _ABOVE_ALL_TEXT if through is None else through,
            "limit": 2 * ROWS_PER_PAGE_MAX,
        }
        of_views = {view: _select_view(raw, view, within) for view in views}
        return _StreamRows(select_head(raw).position, records, through, of_views)
    finally:
        roll_back(raw)


def _with_older(
    raw: RawConnection, place: StreamPlace, bounds: Mapping[str, int], *, live: list[Record], whole: bool
) -> tuple[list[Record], JobId | None]:
    """
    A page of streams with what of them is archived, and the last job of which it has everything; None for the last.
    """
    last = None if whole else live[-1].job_id
    older, reached = select_older_streams(raw, place, last=last, until=bounds["until"], limit=bounds["limit"])
    records = [record for record in (*older, *live) if reached is None or record.job_id <= reached]
    records.sort(key=lambda record: (record.job_id, record.version))
    if reached is not None and (last is None or reached < last):
        return records, reached
    return records, None if whole else _last_whole(records, place)


def _last_whole(records: Sequence[Record], place: StreamPlace) -> JobId:
    """
    The last job of which the page is known to have everything: the one before that in which it ends.
    """
    last = records[-1].job_id
    before = place.done if place.job_id == last else place.job_id
    return next((record.job_id for record in reversed(records) if record.job_id != last), before)


def _select_view(raw: RawConnection, view: ViewName, within: Mapping[str, Any]) -> list[Row]:
    try:
        return raw.execute(block(f"view_{view}"), within).fetchall()
    except DriverError as error:
        raise ViewMismatch(f"{view} cannot be read ({error}); rebuild {view}") from error


def view_rows(view: ViewName, rows: Sequence[Row]) -> Sequence[Job] | Sequence[KeyRow] | Sequence[HistoryRow]:
    """
    The rows of *view* as records.
    """
    match view:
        case "active":
            return [_active(*row) for row in rows]
        case "keys":
            return [KeyRow(*row) for row in rows]
        case "history":
            return [HistoryRow(*row) for row in rows]


def _active(job_id: JobId, position: int, state: str, body: bytes) -> Job:
    """
    The job in a row of the view ``active``.

    Raises:
        ViewMismatch: It cannot be read, or is not the job that the columns beside it say.
    """
    job = codec.decode_job(body)
    if (job.id, job.position, job.state) != (job_id, position, state):
        raise ViewMismatch(f"active has a row for {job_id} that holds something else; rebuild active")
    return job


def _record(*columns: Any) -> Record:  # noqa: ANN401 - as many as the block ``records`` has
    position, job_id, version, type, schema, at, owner, facts, *others = columns
    return Record(position, job_id, version, type, schema, at, owner, facts.encode(), *others)


def _bounded(rows: Cursor, *, rows_max: int) -> tuple[list[Row], bool]:
    """
    The first of *rows*, up to the one that makes them too large for a page; whether that is all there are.
    """
    taken: list[Row] = []
    size = 0
    while size <= BYTES_PER_PAGE_MAX and (row := rows.fetchone()) is not None:
        taken.append(row)
        size += len(row[7]) + (len(row[8]) if row[8] else 0)
    return taken, size <= BYTES_PER_PAGE_MAX and len(taken) < rows_max


def _fitting(records: Iterable[Record]) -> list[Record]:
    """
    The first of *records*, up to the one that makes them too large for a page.
    """
    taken: list[Record] = []
    size = 0
    for record in records:
        taken.append(record)
        size += len(record.facts) + len(record.payload or b"")
        if size > BYTES_PER_PAGE_MAX:
            break
    return taken


def _settled_to(packed: bytes, which: Which) -> int:
    """
    Up to which position a page holds all of *which* that is live: its last one's, if it was cut.
    """
    start = count = size = position = 0
    while start < len(packed):
        end = packed.index(b"\n", start)
        header = packed[start:end].split(b"\x1f")
        length = int(header[-2]) + max(int(header[-1]), 0)
        count, size, position, start = count + 1, size + length, int(header[1]), end + 1 + length
    return which.until if count < which.limit and size < BYTES_PER_PAGE_MAX else position


def _unpack(packed: bytes) -> Iterator[tuple[int, Event]]:
    start = 0
    while start < len(packed):
        end = packed.index(b"\n", start)
        place, position, job_id, version, name, schema, at, facts, payload = packed[start:end].split(b"\x1f")
        facts_end = end + 1 + int(facts)
        payload_length = int(payload)
        start = facts_end + max(payload_length, 0)
        yield (
            int(place),
            codec.decode_event(
                int(position),
                job_id.decode(),
                version=int(version),
                type=name.decode(),
                schema=int(schema),
                at=int(at),
                facts=packed[end + 1 : facts_end],
                payload=None if payload_length < 0 else packed[facts_end:start],
            ),
        )
