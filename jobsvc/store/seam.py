"""
The seam between the service and whatever keeps its log: plain records, and one Protocol.

Every engine passes the one behaviour suite of tests/store. What an engine promises stands here, in the docstrings;
how it keeps the promise never does. Positions mean the same on every engine: from 1, no holes, commit order is
position order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct, field

from jobsvc.domain.errors import Conflict
from jobsvc.domain.events import Event, EventType
from jobsvc.domain.job import Job
from jobsvc.domain.words import JobId, Micros, State

ROWS_PER_PAGE_MAX: Final = 2000
"""A longer read would pin the write-ahead log; read on from where the page ended."""

BYTES_PER_PAGE_MAX: Final = 8_388_608
"""An event that goes beyond this is the last of its page, however few came before it."""

DedupKey = tuple[str, str, str]
"""(owner, kind, key): what is unique among active jobs."""


class KeyRow(Struct, frozen=True, gc=False):
    """A row of the view ``keys``: which active job holds which key."""

    job_id: JobId
    owner: str
    kind: str
    key: str


class HistoryRow(Struct, frozen=True, gc=False):
    """A row of the view ``history``: how to find a job that has ended. What it was stands in its events."""

    job_id: JobId
    owner: str
    kind: str
    key: str | None
    state: State
    created_at: Micros
    finished_at: Micros | None = None


class Mark(Struct, frozen=True, gc=False):
    """
    That a request was answered, that tokens count no more, or that a guest is no more: what must not happen again.

    Attributes:
        principal: Who asked, or whom it is about.
        scope: What it is about: ``request`` for an Idempotency-Key, ``revoked`` for tokens; the guest of a handover.
        key: The Idempotency-Key, ≤ 255 characters.
        digest: SHA-256 of method, path and body, hexadecimal.
        answer: What is needed to give the answer again, in the ledger's own JSON; or what else there is to remember.
        expires_at: When it may be forgotten.
    """

    principal: str
    scope: str
    key: str
    digest: str
    answer: bytes
    expires_at: Micros


MarkKey = tuple[str, str, str]
"""(principal, scope, key)."""


class Batch(Struct, frozen=True):
    """
    What one append makes permanent, all or none.

    Attributes:
        events: At consecutive positions from the caller's head + 1, versions consecutive within each job.
        owners: For each event the owner that it happened under; for ``job.owner_changed`` the new one (the previous one
            stands in its payload).
        active: By job: the row of the view ``active`` after the batch, None where there is none any more.
        keys: The same for the view ``keys``.
        history: The same for the view ``history``.
        marks: Marks to remember.
    """

    events: Sequence[Event]
    owners: Sequence[str]
    active: Mapping[JobId, Job | None] = field(default_factory=dict)
    keys: Mapping[JobId, KeyRow | None] = field(default_factory=dict)
    history: Mapping[JobId, HistoryRow | None] = field(default_factory=dict)
    marks: Sequence[Mark] = ()


class Head(Struct, frozen=True, gc=False):
    """The end of the log: last position (0 for none), chain up to it (32 bytes), its time, and the log's identity."""

    position: int
    chain: bytes
    at: Micros
    epoch: str


class Opening(Struct, frozen=True):
    """What the ledger starts from: the head, and as of it every row of ``active`` with its row of ``keys``."""

    head: Head
    active: Sequence[Job]
    keys: Mapping[JobId, KeyRow]
    archived_through: int = 0
    """The position of the newest event in any segment; whoever resumes below it may find what it missed moved."""


class Needs(Struct, frozen=True):
    """What a batch of commands needs to know of the past before it is decided."""

    jobs: frozenset[JobId] = frozenset()
    marks: frozenset[MarkKey] = frozenset()
    completed: frozenset[DedupKey] = frozenset()
    reports: frozenset[tuple[JobId, str, int, str]] = frozenset()
    """(job, verb, fence, digest) of ending reports that may have been made before."""

    def __bool__(self) -> bool:
        return bool(self.jobs or self.marks or self.completed or self.reports)


class Found(Struct, frozen=True):
    """What was found of the needs; what is absent does not exist."""

    jobs: Mapping[JobId, Job] = field(default_factory=dict)
    history: Mapping[JobId, HistoryRow] = field(default_factory=dict)
    marks: Mapping[MarkKey, Mark] = field(default_factory=dict)
    completed: Mapping[DedupKey, Job] = field(default_factory=dict)
    """The newest completed job of each key."""
    reports: Mapping[tuple[JobId, str, int, str], Job] = field(default_factory=dict)
    """The job as it stood right after that report."""


class Record(Struct, frozen=True, gc=False):
    """An event as stored, byte for byte, for audit and for carrying a log elsewhere."""

    position: int
    job_id: JobId
    version: int
    type: EventType
    schema: int
    at: Micros
    owner: str | None
    facts: bytes
    payload: bytes | None
    salt: bytes | None
    payload_digest: bytes
    chain: bytes
    previous_owner: str | None = None
    archived: bool = False
    """It lies in a segment. No part of what was recorded."""


class Segment(Struct, frozen=True, gc=False):
    """
    A row of the archive's manifest: which events moved there together, and the chain over all such rows so far.

    Attributes:
        number: From 1, no holes.
        first_position: Of its first event; segments overlap, as the jobs in them did.
        last_position: Of its last.
        events: How many.
        archived_at: When they moved.
        content: SHA-256 over the chain values of its events; an erasure leaves it alone.
        chain: SHA-256 over the previous segment's and all of the above but the moment; see store/segments.py.
        digest: SHA-256 of its body as it lies there.
    """

    number: int
    first_position: int
    last_position: int
    events: int
    archived_at: Micros
    content: bytes
    chain: bytes
    digest: bytes


Between = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Runs an action between two batches of whoever decides and appends."""


class Archived(Struct, frozen=True, gc=False):
    """
    What one step of archiving did.

    Attributes:
        jobs: Whose streams moved, whole or as far as they fitted.
        events: How many events did.
        reached: Up to which position everything that may move has moved; read on from there.
        through: The position of the newest event in any segment, 0 for none.
    """

    jobs: int
    events: int
    reached: int
    through: int


class Loaded(Struct, frozen=True):
    """
    A page of another log as it was recorded, with the rows of the views as of its end, as in a ``Batch``.

    Attributes:
        records: At least one, at consecutive positions from the log's head + 1.
        active: By job that the page touches: its row after the page, None where there is none any more.
        keys: The same for the view ``keys``.
        history: The same for the view ``history``.
    """

    records: Sequence[Record]
    active: Mapping[JobId, Job | None]
    keys: Mapping[JobId, KeyRow | None]
    history: Mapping[JobId, HistoryRow | None]


class HistoryQuery(Struct, frozen=True):
    """Which ended jobs to list, newest first: all conditions hold; ``before`` is the last job of the page before."""

    limit: int
    owner: str | None = None
    kind: str | None = None
    key: str | None = None
    states: frozenset[State] | None = None
    before: JobId | None = None


ViewName = Literal["active", "keys", "history"]

Standing = Literal["open", "loading", "sealed"]
"""Whether a log takes events, is being brought here, or has moved away."""


class StreamPlace(Struct, frozen=True, gc=False):
    """
    How far somebody is who reads the log stream by stream: past *version* of *job_id*, and done with all up to *done*.
    """

    job_id: JobId = ""
    version: int = 0
    done: JobId = ""


class ViewProgress(Struct, frozen=True):
    """How far a catch-up projection is: its version, its checkpoint, and how many rows it has."""

    name: str
    version: int
    position: int
    rows: int


class Parked(Struct, frozen=True):
    """
    An event that a projection could not take in.

    Attributes:
        projection: Which.
        position: The event's.
        job_id: Whose sequence waits: nothing of that job is taken in from here on, unless this was passed over.
        failure: What it met there. Never a word of a payload, which may have to be forgotten.
        passed_over: An operator had this one event left out; the job went on after it.
    """

    projection: str
    position: int
    job_id: JobId
    failure: str
    passed_over: bool = False


class StreamsPage(Struct, frozen=True):
    """
    Streams one after the other, in the order of their jobs, and what the views say of those jobs, as of one position.

    Attributes:
        position: The head as of which all of it was read.
        records: What follows on where the caller was, by job and version. The last stream may go on in the next page.
        through: Every job up to this one ends in this page, and those with no events at all; None: all that there are.
        views: By view, the rows of the jobs above the caller's and up to *through*.
    """

    position: int
    records: Sequence[Record]
    through: JobId | None
    views: Mapping[ViewName, Sequence[Job] | Sequence[KeyRow] | Sequence[HistoryRow]]


class Behind(Conflict):
    """The log grew since the caller decided; nothing was written."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self.events = events
        """What came since, in order: fold it and decide again."""


class Store(Protocol):
    """An engine that keeps the log, the views that follow from it, and the idempotency marks."""

    async def open(self) -> Opening:
        """
        The store is ready, alone, and its schema is this version's.

        Raises:
            StoreDown: Another process owns it, or it cannot be opened.
            Corrupt: The head does not fit the log.

        Cost: independent of the length of the log; proportional to the active jobs.
        """
        ...

    async def reopen(self) -> Opening:
        """
        The store takes appends again, and what it answers is what the log holds: the way back from ``StoreDown``.

        Ownership is never let go of meanwhile. Raises and costs as ``open``.
        """
        ...

    async def close(self) -> None:
        """Everything is released; the store can be opened again."""
        ...

    async def announce(self, where: bytes) -> None:
        """Whoever finds the store owned by this process is told *where* it can be asked, until the store is closed."""
        ...

    async def append(self, batch: Batch, *, decided_at: int) -> Head:
        """
        Make *batch* permanent at the end of the log, all or none, with the view rows and marks that follow from it.

        Args:
            batch: Any number of events over any jobs, at consecutive positions from decided_at + 1. The ledger brings
                four for each command of a batch at most, or five for each active job of a guest that is claimed. With
                ``job.erased`` go the payloads and owners of all earlier events of that job, wherever they lie, and the
                marks of requests whose answers show it.
            decided_at: Position of the newest event that the caller had seen when it decided.

        Returns:
            The head, whose events are durable and visible to every reader when this returns.

        Raises:
            Behind: Someone appended since *decided_at*; carries those events. Nothing was written: fold, decide again.
            StoreDown: The commit failed or its outcome is unknown; ``kind`` says what the engine complained of. Until
                ``reopen`` every further append raises it too.

        Cost: one write transaction, one thread hop.
        """
        ...

    async def look_up(self, needs: Needs) -> Found:
        """What the past knows of *needs*, as of the newest commit. Cost: one thread hop; a fold per job named."""
        ...

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
        Up to *limit* (≤ 2,000) events above position *after* (and not above *until*), in order.

        Archived ones come in their places; unless *archived* is False, which leaves them out.

        With *owner*, only those that happened under it or took a job away from it; with *job_id*, only that job's. A
        page of large events is shorter than *limit*; only an empty one means that there are no more. Cost: an indexed
        read of one page.
        """
        ...

    async def read_jobs(self, versions: Mapping[JobId, int | None], *, until: int | None = None) -> Mapping[JobId, Job]:
        """
        Each named job as it stood after that version (None: its newest), folded from its stream.

        With *until*, as it stood at that position; a job that was made later is left out. Progress other than the last
        before that is skipped, so the cost follows the states, not the ticks.
        """
        ...

    async def read_records(
        self, *, after: int, limit: int, job_id: JobId | None = None, type: EventType | None = None
    ) -> Sequence[Record]:
        """
        Up to *limit* (≤ 2,000) stored events above position *after*, byte for byte, in order; fewer if they are large.

        With *job_id*, only that job's, by an index; with *type*, only those of that type, found by reading on.
        """
        ...

    async def read_streams(
        self, place: StreamPlace, *, limit: int, until: int | None = None, views: Collection[ViewName] = ()
    ) -> StreamsPage:
        """
        A page of up to *limit* (≤ 2,000) stored events above *place*, job after job, beside the rows of *views*.

        Events above position *until* are left out. All of it is read in one short transaction, so views and events are
        of the same moment; of a view that has more rows than there can be jobs, the first are read.

        Raises:
            ViewMismatch: A row of a view cannot be read; the message begins with the view's name.
        """
        ...

    async def read_history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """
        The rows of ``history`` that *query* asks for, ended jobs only, newest first, at most 2,000.

        Active jobs are in the ledger's memory: whoever lists both takes that first, so that no job is missed that ends
        in between.
        """
        ...

    async def read_view(
        self, view: ViewName, *, after: JobId, limit: int
    ) -> Sequence[Job] | Sequence[KeyRow] | Sequence[HistoryRow]:
        """Up to *limit* (≤ 2,000) rows of *view* as stored, by job id above *after*. For verify and rebuild."""
        ...

    async def read_head(self) -> Head:
        """The end of the log as committed."""
        ...

    async def read_marks(self, principal: str, *, now: Micros) -> Sequence[Mark]:
        """The marks of *principal* that have not expired, by scope; at most 2,000."""
        ...

    async def forget_marks(self, *, expired_at: Micros) -> int:
        """How many marks were forgotten because they had expired by *expired_at*; at most 1,000 a call."""
        ...

    async def archive(self, *, after: int, until: int, at: Micros, between: Between | None = None) -> Archived:
        """
        Some streams above position *after*, first those that begin first, lie in a new segment, in one transaction.

        Only of jobs that have ended and of which nothing is above *until*. Every read but those of views,
        lists and newest results finds them as before; their history rows are gone. A stream that is too long for a
        segment moves in parts. Nothing moves if one of them has grown meanwhile: then, as after every step, read on
        from where it *reached*. Killed at any point, it has been done or not.

        Who else writes gives *between*, by which the move itself is run once it was planned, when nothing is being
        decided. Cost: about 10 ms on the reader's thread and as long on the writer's; at most 256 events, or 512 KiB.
        """
        ...

    async def read_segments(self, *, after: int, limit: int) -> Sequence[Segment]:
        """Up to *limit* (≤ 2,000) rows of the manifest above number *after*, in order."""
        ...

    async def read_segment(self, number: int) -> Sequence[Record]:
        """
        The events of segment *number* in order; none if there is no such.

        Raises:
            UnreadableEvent: Its body is not what was written.
        """
        ...

    async def find_archived(self, job_ids: Collection[JobId]) -> frozenset[JobId]:
        """Those of *job_ids* that have some of their stream in a segment."""
        ...

    async def read_archived_jobs(self, owner: str, *, after: JobId, limit: int) -> Sequence[JobId]:
        """Up to *limit* (≤ 2,000) archived jobs of *owner*, by id above *after*."""
        ...

    async def forget_principal(self, principal: str) -> None:
        """
        No mark of a request is *principal*'s any more, and that a guest became it is not said; the guest stays spent.
        """
        ...

    async def scrub(self) -> bool:
        """
        What was erased stands nowhere in the store's files, its own log of writes included.

        False while somebody reads who began before; try again. Cost: up to 64 MiB are copied, and everyone waits.
        """
        ...

    async def begin_shadow(self, view: ViewName) -> None:
        """An empty shadow of *view* stands beside it; what a broken rebuild left is gone, some rows at a time."""
        ...

    async def fill_shadow(self, view: ViewName, rows: Mapping[JobId, Job | KeyRow | HistoryRow | None]) -> None:
        """The shadow of *view* holds *rows* (None: holds none for that job), in one transaction."""
        ...

    async def read_shadow(
        self, view: ViewName, job_ids: Sequence[JobId]
    ) -> Mapping[JobId, Job] | Mapping[JobId, KeyRow] | Mapping[JobId, HistoryRow]:
        """The rows of *job_ids* in the shadow of *view*, those that it has."""
        ...

    async def swap_shadow(self, view: ViewName, *, built_to: int) -> None:
        """
        The shadow is the view, in one transaction that is short however large they are; the old one is set aside.

        Raises:
            Behind: The log is past *built_to*; nothing was changed. Fold the rest into the shadow and swap again.
        """
        ...

    async def clear_shadow(self, view: ViewName) -> None:
        """What was set aside is gone, some rows at a time, so that nobody who writes waits long."""
        ...

    async def count_rows(self, view: ViewName) -> int:
        """How many rows *view* has."""
        ...

    async def read_rows(self, projection: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        """The rows of a catch-up projection under *keys*, those that exist."""
        ...

    async def write_rows(
        self,
        projection: str,
        rows: Mapping[str, bytes | None],
        *,
        version: int,
        checkpoint: int,
        resumed_from: int,
        freed: Collection[int] = (),
        parked: Sequence[Parked] = (),
    ) -> None:
        """
        A catch-up projection's rows, its checkpoint and what it parked advance together, in one transaction.

        What was parked at the positions *freed* is so no more; then *parked* is. Another version begins anew.

        Raises:
            Conflict: The checkpoint was not *resumed_from*: another runner is at work.
        """
        ...

    async def swap_rows(self, beside: str, projection: str) -> None:
        """Rows, checkpoint and what is parked of *beside* are *projection*'s, in one transaction; its own are gone."""
        ...

    async def read_parked(self, projection: str) -> Sequence[Parked]:
        """What *projection* could not take in, by position, events that were passed over too."""
        ...

    async def read_checkpoints(self) -> Mapping[str, ViewProgress]:
        """How far each catch-up projection is."""
        ...

    async def carry_marks(self, take: Callable[[Sequence[Mark]], None]) -> Head:
        """
        The head, and as of it every mark, by principal, scope and key, given to *take* in pages of ≤ 2,000.

        *take* is called on another thread. Cost: one read over all marks, as of one moment.
        """
        ...

    async def standing(self) -> Standing:
        """Whether the log is ``open``, ``loading`` (nobody may open it), or ``sealed`` (nobody may append to it)."""
        ...

    async def seal(self) -> Head:
        """
        Nothing is appended to the log any more, here, as long as it has this epoch; doing it again changes nothing.

        Raises:
            InvalidCommand: A load into it was broken off.
        """
        ...

    async def begin_load(self) -> Head:
        """
        The log takes pages of another by ``load``, after its head; ``open`` refuses it before ``end_load``.

        Raises:
            InvalidCommand: There is something in it already, which no broken load left there.
        """
        ...

    async def load(self, page: Loaded) -> None:
        """The records of *page* stand at the end of the log, byte for byte, with their rows; all or none."""
        ...

    async def load_marks(self, marks: Sequence[Mark]) -> None:
        """*marks*, ≤ 2,000, are remembered, those that were already too."""
        ...

    async def end_load(self, *, epoch: str | None) -> Head:
        """The log is open, under *epoch*, or under the one that it was made with."""
        ...

    async def read_history_rows(self, job_ids: Iterable[JobId]) -> Mapping[JobId, HistoryRow]:
        """The rows of ``history`` of *job_ids*, those that exist."""
        ...
