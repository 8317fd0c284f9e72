"""
One walk along the streams: job after job, its versions, birth, end, owners and erasures, and its rows in the views.

What belongs to a job is met together, so nothing has to be remembered but the job at hand, however many there are; a
page of events and the views' rows of the very same jobs are read as of one moment, so it may run while the service
writes. The chain and the positions are the log walk's (log_walk.py); what today's state machine would refuse is no
fault of a log that another version wrote, and is recording.py's to list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobsvc.domain.errors import UnreadableEvent, ViewMismatch
from jobsvc.domain.events import (
    Cancelled,
    Completed,
    Created,
    Erased,
    Expired,
    Failed,
    FollowupRequested,
    LateResult,
    OwnerChanged,
    Progressed,
)
from jobsvc.domain.words import ERASED
from jobsvc.memory import INLINE
from jobsvc.operate.findings import FINDINGS_MAX, Finding
from jobsvc.store.codec import encode_row, read_record
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, StreamPlace
from projections.projection import is_kept

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jobsvc.domain.events import Event
    from jobsvc.domain.words import JobId
    from jobsvc.store.seam import Record, Store, StreamsPage, ViewName

VIEWS: tuple[ViewName, ...] = ("active", "keys", "history")

_ENDS: Final = (Completed, Failed, Cancelled, Expired)
_MOVES_NOTHING: Final = (Progressed, LateResult, FollowupRequested, OwnerChanged, Erased)
"""What changes no state. All else does, and cannot come after the end in any version: terminal is for ever."""


class _Stream:
    """The job at hand: what its events have added up to so far."""

    __slots__ = ("born", "ended", "forgotten", "job_id", "owner", "rows", "version")

    def __init__(self, job_id: JobId) -> None:
        self.job_id = job_id
        self.version = 0
        self.born = False
        self.ended = False
        self.owner: str | None = None
        self.forgotten: int | None = None
        self.rows: list[Any] = [None for _ in INLINE]


class StreamWalk:
    """
    A walk over every stream, in the order of the jobs' ids.

    Attributes:
        events: How many it has met.
        lowest: What is wrong with an event, of the lowest position.
        in_views: What is wrong with the views, up to a bound.
    """

    def __init__(self, store: Store, *, until: int | None = None, views: Collection[ViewName] = VIEWS) -> None:
        """
        Nothing has been read yet.

        Args:
            store: Opened, if only for reading.
            until: Look at no event above this position; *views* is empty then, since they are as of the head.
            views: Which views are to be what a replay makes.
        """
        self._store = store
        self._until = until
        self._views = set(views)
        self._place = StreamPlace()
        self._stream = _Stream("")
        self._ended: dict[JobId, list[Any]] = {}
        self.lowest: Finding | None = None
        self.in_views: list[Finding] = []
        self.events = 0

    async def step(self, *, limit: int = ROWS_PER_PAGE_MAX) -> bool:
        """
        Up to *limit* events further; False once there are no more.

        Cost: one short read, and about 7 µs an event on the event loop.
        """
        try:
            page = await self._store.read_streams(self._place, limit=limit, until=self._until, views=self._views)
        except ViewMismatch as mismatch:
            self._found_in_view(mismatch.message)
            # The others are looked at all the same.
            self._views.discard(_named(mismatch))
            return True
        for record in page.records:
            self._take(record)
        if page.through is None:
            self._end_stream()
        self._compare(page)
        self._move(page)
        return page.through is not None

    def _move(self, page: StreamsPage) -> None:
        if page.records and page.through is not None:
            last = page.records[-1]
            self._place = StreamPlace(last.job_id, last.version, page.through)
        self.events += len(page.records)

    # Events

    def _take(self, record: Record) -> None:
        if record.job_id != self._stream.job_id:
            self._end_stream()
            self._stream = _Stream(record.job_id)
        stream = self._stream
        if record.version != stream.version + 1:
            self._found(record.position, f"version {record.version} of {record.job_id} follows {stream.version}")
        stream.version = record.version
        try:
            event = read_record(record)
        except UnreadableEvent as error:
            self._found(record.position, error.message)
            return
        for wrong in (_impossible(stream, event), _wrong_owner(stream, record, event)):
            if wrong is not None:
                self._found(record.position, wrong)
        self._note_erasure(event)
        if self._views and not record.archived:
            # The views are of what lies in no segment.
            rows = stream.rows
            for place, projection in enumerate(INLINE):
                rows[place] = projection.apply(rows[place], event)

    def _note_erasure(self, event: Event) -> None:
        """Remembers from where the payloads are gone until the erasure itself is met."""
        if event.payload is None:
            if self._stream.forgotten is None:
                self._stream.forgotten = event.position
        elif isinstance(event.facts, Erased):
            self._stream.forgotten = None

    def _end_stream(self) -> None:
        stream = self._stream
        # Whether it was erased may stand above *until*, where nothing can be trusted.
        if stream.forgotten is not None and self._until is None:
            self._found(stream.forgotten, "its payload is gone, and no job.erased says so")
        if stream.job_id:
            self._ended[stream.job_id] = stream.rows
        self._stream = _Stream("")

    def _found(self, position: int, what: str) -> None:
        """*what* is wrong; the lowest position counts, the others may only follow from it."""
        lowest = self.lowest
        if lowest is None or lowest.position is None or position < lowest.position:
            self.lowest = Finding(position, what)

    # Views

    def _compare(self, page: StreamsPage) -> None:
        """The rows of the jobs whose streams have ended against those that the views hold."""
        ended = [job_id for job_id in self._ended if page.through is None or job_id <= page.through]
        replayed = {job_id: self._ended.pop(job_id) for job_id in ended}
        for place, projection in enumerate(INLINE):
            name: ViewName = projection.name  # type: ignore[assignment]  # the inline views, as the seam names them
            if name in self._views:
                keeps, made = is_kept(projection), {job_id: rows[place] for job_id, rows in replayed.items()}
                made = {job_id: row for job_id, row in made.items() if row is not None and keeps(row)}
                self._compare_view(name, {_job_id(row): row for row in page.views[name]}, made)

    def _compare_view(self, name: str, stored: Mapping[str, Any], replayed: Mapping[str, Any]) -> None:
        if stored == replayed:
            return
        for key in sorted(stored.keys() | replayed.keys()):
            if key not in replayed:
                self._found_in_view(f"{name} has a row for {key} that no replay makes; rebuild {name}")
            elif key not in stored:
                self._found_in_view(f"{name} lacks the row for {key} that a replay makes; rebuild {name}")
            elif not _same(stored[key], replayed[key]):
                self._found_in_view(f"{name} has another row for {key} than a replay makes; rebuild {name}")

    def _found_in_view(self, what: str) -> None:
        if len(self.in_views) < FINDINGS_MAX:
            self.in_views.append(Finding(None, what))


def _impossible(stream: _Stream, event: Event) -> str | None:
    """Why no version would ever have had *event* follow in *stream*, however well it is chained, if so."""
    born, ended = stream.born, stream.ended
    stream.born, stream.ended = True, ended or isinstance(event.facts, _ENDS)
    if isinstance(event.facts, Created):
        return f"a second {event.type} of {event.job_id}, which there was already" if born else None
    if not born:
        return f"the stream of {event.job_id} begins with {event.type}, and not with job.created"
    if ended and not isinstance(event.facts, _MOVES_NOTHING):
        return f"{event.type} of {event.job_id}, which had ended already"
    return None


def _wrong_owner(stream: _Stream, record: Record, event: Event) -> str | None:
    """The owner columns repeat what the events say, for their indexes; they have to repeat it rightly."""
    payload = event.payload
    match event.facts:
        case Created():
            stream.owner = None if payload is None or payload.submission is None else payload.submission.owner
        case OwnerChanged():
            stream.owner = None if payload is None else payload.owner
        case Erased():
            stream.owner = ERASED
        case _:
            pass
    if payload is None:
        forgotten = record.owner is None and record.previous_owner is None
        return None if forgotten else "its payload was erased, and its owner still stands"
    if record.previous_owner != payload.previous_owner:
        return "its previous owner is not the one that it names"
    return None if record.owner == stream.owner else "its owner is not the one that its events name"


def _job_id(row: Any) -> str:  # noqa: ANN401  # a row of any inline view
    return str(getattr(row, "job_id", None) or row.id)


def _named(mismatch: ViewMismatch) -> ViewName:
    """The view that *mismatch* is about."""
    return next(view for view in VIEWS if mismatch.message.startswith(view))


def _same(stored: Any, replayed: Any) -> bool:  # noqa: ANN401  # rows of any inline view
    """True if both rows would be stored as the same bytes; raw JSON compares by its bytes only so."""
    return stored == replayed or encode_row(stored) == encode_row(replayed)
