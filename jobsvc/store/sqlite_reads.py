"""
What the SQLite engine reads back: pages of events, folded jobs, rows of views.

A page of events comes as one packed value (queries.sql says why) and is unpacked on the event loop in slices, so that
nothing else waits for a long page. Every read is one short statement: no cursor outlives its hop, since a long reader
pins the write-ahead log. Nothing is ever written here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

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

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from jobsvc.domain.events import Event, EventType
    from jobsvc.domain.words import Micros
    from jobsvc.store.driver import Cursor, RawConnection

POSITION_MAX: Final = 2**63 - 1
EVENTS_PER_SLICE: Final = 128
"""How many events are decoded before others get a turn: about half a millisecond."""

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
    ) -> Sequence[Event]:
        """
        A page of the log, of an owner's events, or of a job's stream, in order.
        """
        parameters = {
            "after": after,
            "until": POSITION_MAX if until is None else until,
            "limit": min(limit, ROWS_PER_PAGE_MAX),
            "owner": owner,
            "job_id": job_id,
        }
        name = "events_of_job" if job_id is not None else "events_of_owner" if owner is not None else "events_of_log"
        packed = await self._read(lambda raw: select_packed(raw, name, parameters=parameters))
        return [event for _, event in await unpacked(packed)]

    async def read_jobs(self, versions: Mapping[JobId, int | None], *, until: int | None = None) -> Mapping[JobId, Job]:
        """
        Each named job as it stood after that version, or at the position *until*, folded from its stream.
        """
        wanted = list(versions.items())
        packed = await self._read(lambda raw: select_streams(raw, wanted, until=until))
        return {wanted[place][0]: job for place, job in folded(await unpacked(packed)).items()}

    async def read_records(
        self, *, after: int, limit: int, job_id: JobId | None = None, type: EventType | None = None
    ) -> Sequence[Record]:
        """
        A page of the log or of a job's stream, byte for byte.
        """
        most = min(limit, ROWS_PER_PAGE_MAX)
        parameters = {"after": after, "limit": most, "job_id": job_id, "type": type}
        name = "records" if job_id is None else "records_of_job"
        rows, _ = await self._read(lambda raw: _bounded(raw.execute(block(name), parameters), rows_max=most))
        return [_record(*row) for row in rows]

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
            [_record(*row) for row in found.records],
            found.through,
            {view: view_rows(view, rows) for view, rows in found.views.items()},
        )


def select_head(raw: RawConnection) -> Head:
    """
    The head as this connection sees it.
    """
    return Head(*raw.execute(block("head")).fetchall()[0])


def select_packed(raw: RawConnection, name: str, *, parameters: Mapping[str, Any]) -> bytes:
    """
    The page that the block *name* gives; empty for none.
    """
    bounded = {"bytes_max": BYTES_PER_PAGE_MAX, **parameters}
    packed: bytes | None = raw.execute(block(name), bounded).fetchall()[0][0]
    return packed or b""


def select_streams(raw: RawConnection, wanted: Sequence[Wanted], *, until: int | None = None) -> bytes:
    """
    What folds to each of *wanted*, as one page that is told apart by the place in *wanted*.
    """
    if not wanted:
        return b""
    parameters = {"wanted": as_json(wanted), "until": POSITION_MAX if until is None else until}
    return select_packed(raw, "streams", parameters=parameters)


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


def folded(events: Iterable[tuple[int, Event]]) -> dict[int, Job]:
    """
    By place: the job that its events, which come in order, add up to.

    Raises:
        UnreadableEvent: A stream does not begin with its birth.
    """
    jobs: dict[int, Job] = {}
    for place, event in events:
        try:
            jobs[place] = evolve(jobs.get(place), event)
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
    records: list[Row]
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
        records, whole = _bounded(raw.execute(block("records_by_stream"), above), rows_max=bounds["limit"])
        through = None if whole else _last_whole(records, place)
        within = {
            "after": place.done,
            "through": _ABOVE_ALL_TEXT if through is None else through,
            "limit": 2 * ROWS_PER_PAGE_MAX,
        }
        rows = {view: _select_view(raw, view, within) for view in views}
        return _StreamRows(select_head(raw).position, records, through, rows)
    finally:
        roll_back(raw)


def _last_whole(records: Sequence[Row], place: StreamPlace) -> JobId:
    """
    The last job of which the page is known to have everything: the one before that in which it ends.
    """
    last: JobId = records[-1][1]
    before = place.done if place.job_id == last else place.job_id
    return next((row[1] for row in reversed(records) if row[1] != last), before)


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
