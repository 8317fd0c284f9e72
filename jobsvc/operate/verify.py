"""
Verify: the chain, the positions 1..n, the versions, the times, and every view against a replay.

Reads only, in pages, and may run while the service writes: views are compared as of a head that did not move while
they were read. The first thing that is wrong is named with its position; later ones may only follow from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from jobsvc.domain.errors import UnreadableEvent
from jobsvc.domain.events import Created, OwnerChanged
from jobsvc.memory import INLINE
from jobsvc.store.chain import GENESIS, digest_payload, link
from jobsvc.store.codec import encode_row, read_record
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from projections.runner import Rows, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Record, Store, ViewName

_ATTEMPTS_MAX: Final = 50
"""How often the views are read again because the log grew meanwhile."""


class Finding(Struct, frozen=True):
    """Something wrong: at which position of the log (None: in a view), and what."""

    position: int | None
    what: str


class Verified(Struct, frozen=True):
    """What was looked at, and what was found wrong, gravest first."""

    position: int
    chain: str
    findings: list[Finding]


async def verify(
    store: Store, *, against: tuple[int, bytes] | None = None, progress: Callable[[int], None] | None = None
) -> Verified:
    """
    Whether the log is whole and every view is what its replay makes.

    Args:
        store: Opened, if only for reading.
        against: A head saved earlier, (position, chain): the log must pass through it, so a cut tail is found.
        progress: Told the position after each page.

    Cost: about 15 µs an event; the rows of the views in memory.
    """
    walk = _Walk(against)
    await walk.to_head(store, progress)
    if not walk.findings:
        await _compare_views(store, walk, progress)
    if not walk.findings and against is not None and walk.position < against[0]:
        cut = f"the log ends at {walk.position}, but once reached {against[0]}: its tail was cut"
        walk.found(walk.position + 1, cut)
    return Verified(walk.position, walk.chain.hex(), walk.findings)


class _Walk:
    """One pass over the log, and what its events add up to so far."""

    def __init__(self, against: tuple[int, bytes] | None) -> None:
        self._against = against
        self._versions: dict[str, int] = {}
        self._owners: dict[str, str | None] = {}
        self._last_at = 0
        self.position = 0
        self.chain = GENESIS
        self.findings: list[Finding] = []
        self.rows: dict[str, Rows] = {projection.name: {} for projection in INLINE}

    def found(self, position: int | None, what: str) -> None:
        """*what* is wrong."""
        self.findings.append(Finding(position, what))

    async def to_head(self, store: Store, progress: Callable[[int], None] | None) -> None:
        """Everything up to the end of the log, or to the first thing that is wrong."""
        while not self.findings:
            records = await store.read_records(after=self.position, limit=ROWS_PER_PAGE_MAX)
            self._page(records)
            if progress is not None:
                progress(self.position)
            if len(records) < ROWS_PER_PAGE_MAX:
                break
        if not self.findings:
            await self._check_head(store)

    async def _check_head(self, store: Store) -> None:
        head = await store.read_head()
        if head.position < self.position or (head.position == self.position and head.chain != self.chain):
            self.found(self.position, "the head does not fit the last event")

    def _page(self, records: Sequence[Record]) -> None:
        events: list[Event] = []
        for record in records:
            wrong = self._wrong_with(record)
            if wrong is not None:
                self.found(min(record.position, self.position + 1), wrong)
                break
            try:
                event = read_record(record)
            except UnreadableEvent as error:
                self.found(record.position, error.message)
                break
            wrong = self._wrong_owner(record, event)
            if wrong is not None:
                self.found(record.position, wrong)
                break
            self._advance(record)
            events.append(event)
        for projection in INLINE:
            take(projection, self.rows[projection.name], events)

    def _wrong_with(self, record: Record) -> str | None:
        """What is wrong with *record* in its place, if anything is."""
        if record.position != self.position + 1:
            return f"position {self.position + 1} is missing"
        if record.version != self._versions.get(record.job_id, 0) + 1:
            return f"version {record.version} of {record.job_id} follows {self._versions.get(record.job_id, 0)}"
        if record.at < self._last_at:
            return "its time is before that of the event before it"
        if record.payload is not None and digest_payload(record.salt, record.payload) != record.payload_digest:
            return "its payload is not the one that was recorded"
        if _link(self.chain, record) != record.chain:
            return "the chain breaks here: this event is not the one that was recorded"
        if self._against is not None and self._against[0] == record.position and self._against[1] != record.chain:
            return "the chain differs from the saved head: the log was rewritten"
        return None

    def _wrong_owner(self, record: Record, event: Event) -> str | None:
        """The owner column repeats what the events say, for its index; it has to repeat it rightly."""
        expected = self._owners.get(record.job_id)
        payload = event.payload
        if isinstance(event.facts, Created):
            expected = None if payload is None or payload.submission is None else payload.submission.owner
        elif isinstance(event.facts, OwnerChanged):
            expected = None if payload is None else payload.owner
        self._owners[record.job_id] = expected
        if payload is not None and record.owner != expected:
            return "its owner is not the one that its events name"
        return None

    def _advance(self, record: Record) -> None:
        self.position = record.position
        self.chain = record.chain
        self._last_at = record.at
        self._versions[record.job_id] = record.version


def _link(previous: bytes, record: Record) -> bytes:
    return link(
        previous,
        record.position,
        job_id=record.job_id,
        version=record.version,
        type=record.type,
        schema=record.schema,
        at=record.at,
        facts=record.facts,
        payload_digest=record.payload_digest,
    )


async def _compare_views(store: Store, walk: _Walk, progress: Callable[[int], None] | None) -> None:
    """Every inline view as stored against the replay, both as of one head."""
    for projection in INLINE:
        for _ in range(_ATTEMPTS_MAX):
            stored = await _stored_rows(store, projection.name)
            head = await store.read_head()
            if head.position == walk.position:
                _compare(projection.name, stored, walk)
                break
            await walk.to_head(store, progress)
            if walk.findings:
                return
        else:
            walk.found(None, f"the log grew too fast to compare {projection.name}; verify again when it is quieter")


async def _stored_rows(store: Store, name: str) -> Rows:
    rows: Rows = {}
    view: ViewName = name  # type: ignore[assignment]  # the inline views are named as the seam names them
    after = ""
    while True:
        page: Sequence[Any] = await store.read_view(view, after=after, limit=ROWS_PER_PAGE_MAX)
        for row in page:
            after = _job_id(row)
            rows[after] = row
        if len(page) < ROWS_PER_PAGE_MAX:
            return rows


def _job_id(row: Any) -> str:  # noqa: ANN401  # a row of any inline view
    return str(getattr(row, "job_id", None) or row.id)


def _compare(name: str, stored: Rows, walk: _Walk) -> None:
    replayed = walk.rows[name]
    for job_id in sorted(stored.keys() - replayed.keys()):
        walk.found(None, f"{name} has a row for {job_id} that no replay makes; rebuild {name}")
    for job_id in sorted(replayed.keys() - stored.keys()):
        walk.found(None, f"{name} lacks the row for {job_id} that a replay makes; rebuild {name}")
    for job_id in sorted(stored.keys() & replayed.keys()):
        if not _same(stored[job_id], replayed[job_id]):
            walk.found(None, f"{name} has another row for {job_id} than a replay makes; rebuild {name}")


def _same(stored: Any, replayed: Any) -> bool:  # noqa: ANN401  # rows of any inline view
    """True if both rows would be stored as the same bytes; raw JSON compares by its bytes only so."""
    return stored == replayed or encode_row(stored) == encode_row(replayed)
