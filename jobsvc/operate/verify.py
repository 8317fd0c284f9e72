"""
Verify: the chain, the positions 1..n, the versions, the times, and every view against a replay.

Reads only, in pages, and may run while the service writes: each page of a view is compared as of the position that it
was read at. The first thing that is wrong is named with its position; later ones may only follow from it.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, json

from jobsvc.domain.errors import StoreDown, UnreadableEvent, ViewMismatch
from jobsvc.domain.events import Created, Erased, OwnerChanged
from jobsvc.domain.words import ERASED
from jobsvc.memory import INLINE
from jobsvc.operate.views import CATCH_UP
from jobsvc.store.chain import GENESIS, digest_payload, link
from jobsvc.store.codec import encode_row, read_record
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from projections.runner import Rows, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Record, Store, ViewName, ViewProgress
    from projections.projection import Projection

_BEFORE_ALL: Final = -(2**63)
"""Below every position, those that no log has included."""

_CHAIN: Final = re.compile(r"[0-9a-fA-F]{64}")

_ATTEMPTS_MAX: Final = 50
"""How often a catch-up projection is read again because it moved on meanwhile."""


class Finding(Struct, frozen=True):
    """Something wrong: at which position of the log (None: in a view), and what."""

    position: int | None
    what: str


class Verified(Struct, frozen=True):
    """What was looked at, and what was found wrong, gravest first."""

    position: int
    chain: str
    findings: list[Finding]


class VerifyReport(Struct, frozen=True):
    """What was found of a log, as operators are told it."""

    ok: bool
    position: int
    chain: str
    first_wrong_position: int | None
    findings: list[Finding]


def report(verified: Verified) -> VerifyReport:
    """*verified* as it is told."""
    first = next((one.position for one in verified.findings if one.position is not None), None)
    return VerifyReport(not verified.findings, verified.position, verified.chain, first, verified.findings)


def saved_head(text: str) -> tuple[int, bytes]:
    """
    The head that *text*, ``POSITION:CHAIN``, says.

    Raises:
        ValueError: It is none.
    """
    position, _, chain = text.partition(":")
    if not (position.isascii() and position.isdigit() and _CHAIN.fullmatch(chain)):
        raise ValueError(f"a head is POSITION:CHAIN, with the chain in 64 hexadecimal digits, not {text!r}")
    return int(position), bytes.fromhex(chain)


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
    walk = _Walk(store, against, progress)
    await walk.to_head()
    for projection in INLINE:
        if not walk.findings:
            await _compare_inline(store, walk, projection)
    for projection in CATCH_UP:
        if not walk.findings:
            await _compare_catch_up(store, walk, projection)
    return Verified(walk.position, walk.chain.hex(), walk.findings)


class _Walk:
    """One pass over the log, and what its events add up to so far."""

    def __init__(self, store: Store, against: tuple[int, bytes] | None, progress: Callable[[int], None] | None) -> None:
        self._store = store
        self._against = against
        self._progress = progress
        self._versions: dict[str, int] = {}
        self._owners: dict[str, str | None] = {}
        self._forgotten: dict[str, int] = {}
        self._erased: set[str] = set()
        self._last_at = 0
        self.position = 0
        self.chain = GENESIS
        self.findings: list[Finding] = []
        self.rows: dict[str, Rows] = {projection.name: {} for projection in INLINE}

    def found(self, position: int | None, what: str) -> None:
        """*what* is wrong."""
        self.findings.append(Finding(position, what))

    async def to_head(self) -> None:
        """Everything up to the end of the log, or to the first thing that is wrong."""
        while not self.findings:
            # Read before the records: what it names is there by then.
            head = await self._store.read_head()
            count = await self._read_on()
            if count or self.findings:
                continue
            if self.position < head.position:
                self.found(self.position + 1, f"position {self.position + 1} is missing, up to {head.position}")
            break
        if not self.findings:
            await self._check_end()

    async def to(self, position: int) -> None:
        """Everything up to *position*, which the head has reached, or to the first thing that is wrong."""
        while not self.findings and self.position < position:
            if not await self._read_on(limit=min(ROWS_PER_PAGE_MAX, position - self.position)):
                self.found(self.position + 1, f"position {self.position + 1} is missing, up to {position}")

    async def _read_on(self, *, limit: int = ROWS_PER_PAGE_MAX) -> int:
        """How many events came; of those that cannot even be read, the first is found."""
        try:
            records = await self._store.read_records(after=self.position or _BEFORE_ALL, limit=limit)
        except StoreDown as failure:
            if limit > 1:
                return await self._read_singly(limit)
            self.found(self.position + 1, f"it cannot be read: {failure.__cause__ or failure.message}")
            return 0
        self._take_in(records)
        if self._progress is not None:
            self._progress(self.position)
        return len(records)

    async def _read_singly(self, limit: int) -> int:
        count = 0
        while count < limit and not self.findings and await self._read_on(limit=1):
            count += 1
        return count

    async def _check_end(self) -> None:
        """The end of the log is where its head says, and not before the head that was saved."""
        head = await self._store.read_head()
        if head.position < self.position:
            self.found(head.position + 1, f"the head says that the log ends at {head.position}")
        elif head.position == self.position and (head.chain, head.at) != (self.chain, self._last_at):
            self.found(self.position, "the head does not fit the last event")
        elif self._against is not None and head.position < self._against[0]:
            cut = f"the log ends at {head.position}, but once reached {self._against[0]}: its tail was cut"
            self.found(head.position + 1, cut)
        elif self._forgotten:
            self.found(min(self._forgotten.values()), "its payload is gone, and no job.erased says so")

    def _take_in(self, records: Sequence[Record]) -> None:
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
            self._note_erasure(event)
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
        match event.facts:
            case Created():
                expected = None if payload is None or payload.submission is None else payload.submission.owner
            case OwnerChanged():
                expected = None if payload is None else payload.owner
            case Erased():
                expected = ERASED
            case _:
                pass
        self._owners[record.job_id] = expected
        if payload is None:
            forgotten = record.owner in (None, ERASED) and record.previous_owner is None
            return None if forgotten else "its payload was erased, and its owner still stands"
        if record.previous_owner != payload.previous_owner:
            return "its previous owner is not the one that it names"
        return None if record.owner == expected else "its owner is not the one that its events name"

    def _note_erasure(self, event: Event) -> None:
        """Remembers whose payload is gone until the erasure itself is met."""
        if isinstance(event.facts, Erased):
            self._erased.add(event.job_id)
            self._forgotten.pop(event.job_id, None)
        elif event.payload is None and event.job_id not in self._erased:
            self._forgotten.setdefault(event.job_id, event.position)

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


# Views that are written with the events


async def _compare_inline(store: Store, walk: _Walk, projection: Projection) -> None:
    """Each page of the view as stored against the replay as of the position at which the page was read."""
    name, after, is_last = projection.name, "", False
    view: ViewName = name  # type: ignore[assignment]  # the inline views are named as the seam names them
    keys, keys_as_of = sorted(walk.rows[name]), walk.position
    while not is_last and not walk.findings:
        try:
            position, page, is_last = await _settled_page(store, view, after)
        except (ViewMismatch, StoreDown) as error:
            walk.found(None, f"{name} cannot be read ({error.__cause__ or error.message}); rebuild {name}")
            return
        await walk.to(position)
        if keys_as_of != walk.position:
            keys, keys_as_of = sorted(walk.rows[name]), walk.position
        stored = {_job_id(row): row for row in page}
        first, after = bisect_right(keys, after), max(stored, default=after)
        expected = keys[first:] if is_last else keys[first : bisect_right(keys, after)]
        _compare(walk, name, stored, {key: walk.rows[name][key] for key in expected})


async def _settled_page(store: Store, view: ViewName, after: str) -> tuple[int, Sequence[Any], bool]:
    """
    A page of *view* after *after*, the position that it is as of, and whether it is the last.

    The three reads go to one connection one behind the other; if a commit came between them, a smaller page is read.
    """
    limit = ROWS_PER_PAGE_MAX
    while True:
        before, page, then = await asyncio.gather(
            store.read_head(), store.read_view(view, after=after, limit=limit), store.read_head()
        )
        if before.position == then.position:
            return then.position, page, len(page) < limit
        limit = max(1, limit // 2)


def _job_id(row: Any) -> str:  # noqa: ANN401  # a row of any inline view
    return str(getattr(row, "job_id", None) or row.id)


def _compare(walk: _Walk, name: str, stored: Rows, replayed: Rows) -> None:
    for key in sorted(stored.keys() | replayed.keys()):
        if key not in replayed:
            walk.found(None, f"{name} has a row for {key} that no replay makes; rebuild {name}")
        elif key not in stored:
            walk.found(None, f"{name} lacks the row for {key} that a replay makes; rebuild {name}")
        elif not _same(stored[key], replayed[key]):
            walk.found(None, f"{name} has another row for {key} than a replay makes; rebuild {name}")


def _same(stored: Any, replayed: Any) -> bool:  # noqa: ANN401  # rows of any inline view
    """True if both rows would be stored as the same bytes; raw JSON compares by its bytes only so."""
    return stored == replayed or encode_row(stored) == encode_row(replayed)


# Projections that catch up


async def _compare_catch_up(store: Store, walk: _Walk, projection: Projection) -> None:
    """
    The rows of a catch-up projection against a replay up to its checkpoint; nothing if it has not begun.

    Whether it has rows that no replay makes is seen by their number. One that never stands still is left at that.
    """
    rows: Rows = {}
    reached = 0
    for _ in range(_ATTEMPTS_MAX):
        keys = list(rows)
        before, stored, then = await asyncio.gather(
            store.read_checkpoints(), store.read_rows(projection.name, keys), store.read_checkpoints()
        )
        standing = then.get(projection.name)
        if standing is None or standing.version != projection.version:
            return
        if standing.position < reached:
            rows, reached = {}, 0
        reached = await _fold_on(store, projection, rows, after=reached, until=standing.position)
        if before == then and rows.keys() <= set(keys):
            if reached < standing.position:
                walk.found(None, f"{standing.name} stands past the end of the log; rebuild {standing.name}")
            else:
                _compare_standing(walk, standing, dict(stored), rows)
            return


async def _fold_on(store: Store, projection: Projection, rows: Rows, *, after: int, until: int) -> int:
    """How far *rows* are, which have taken in what there is of the log from *after* to *until*."""
    while after < until:
        events = await store.read_events(after=after, limit=ROWS_PER_PAGE_MAX, until=until)
        if not events:
            break
        take(projection, rows, events)
        after = events[-1].position
    return after


def _compare_standing(walk: _Walk, standing: ViewProgress, stored: Rows, replayed: Rows) -> None:
    name = standing.name
    _compare(walk, name, stored, {key: json.encode(row) for key, row in replayed.items()})
    if not walk.findings and standing.rows != len(replayed):
        walk.found(None, f"{name} has {standing.rows} rows where a replay makes {len(replayed)}; rebuild {name}")
