"""
What the SQLite engine reads back: pages of the log, jobs as they stood, rows of views.

Every read is one short statement: no cursor outlives its hop, since a long reader pins the write-ahead log. Nothing is
ever written here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from jobsvc.domain.errors import ViewMismatch
from jobsvc.domain.words import JobId
from jobsvc.store import codec
from jobsvc.store.blocks import block
from jobsvc.store.driver import DriverError, Row, roll_back
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, HistoryRow, KeyRow, Mark, Record, StreamsPage, ViewName
from jobsvc.store.sqlite_connections import SqliteConnections
from jobsvc.store.sqlite_folds import folded, select_streams
from jobsvc.store.sqlite_pages import POSITION_MAX, as_json, select_head, select_page, settled_to, unpacked
from jobsvc.store.sqlite_records import fitting, select_by_stream, select_records
from jobsvc.store.sqlite_segments import Which, decoded, joined, select_older

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from jobsvc.domain.events import Event, EventType
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Micros
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import Head, HistoryQuery, StreamPlace
    from jobsvc.store.sqlite_segments import Older

_AFTER_ALL_IDS: Final = "~"

_ABOVE_ALL_TEXT: Final = b""
"""SQLite has every BLOB above every text."""


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
            live, older = await self._read(partial(select_records, which=which))
            if older is None:
                return live
            records = fitting(joined(live, older.records, end=older.end, limit=which.limit))
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


def _select_events(raw: RawConnection, *, which: Which, archived: bool) -> tuple[bytes, Older | None]:
    """
    A page of what is live, and what the archive has up to where it ends; None if the archive does not reach there.
    """
    name = "log" if which.owner is None else "owner"
    name = name if which.job_id is None else "job"
    packed, through = select_page(raw, f"events_of_{name}", parameters=asdict(which))
    if not archived or which.after >= through:
        return packed, None
    return packed, select_older(raw, replace(which, until=settled_to(packed, which)))


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
        records, through = select_by_stream(raw, place, bounds)
        within = {
            "after": place.done,
            "through": _ABOVE_ALL_TEXT if through is None else through,
            "limit": 2 * ROWS_PER_PAGE_MAX,
        }
        of_views = {view: _select_view(raw, view, within) for view in views}
        return _StreamRows(select_head(raw).position, records, through, of_views)
    finally:
        roll_back(raw)


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
