"""
One walk along the log: the chain, the positions 1..n and the times, event after event.

It needs to remember nothing but where it is, so it costs the same memory however long the log is, and can be gone on
with after any pause. What holds a job's events together is the stream walk's (stream_walk.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import StoreDown, UnreadableEvent
from jobsvc.operate.findings import Finding
from jobsvc.store.chain import GENESIS, digest_payload, link
from jobsvc.store.codec import read_record
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Record, Store

_BEFORE_ALL: Final = -(2**63)
"""Below every position, those that no log has included."""

_HASH_BYTES: Final = 32


class LogWalk:
    """
    A walk from the first event to the head, or to the first thing that is wrong.

    Attributes:
        position: How far it is: all up to here is as it was recorded.
        chain: The chain up to there.
        finding: What it stopped at.
    """

    def __init__(
        self,
        store: Store,
        *,
        against: tuple[int, bytes] | None = None,
        take: Callable[[Sequence[Event]], None] | None = None,
    ) -> None:
        """
        Nothing has been read yet.

        Args:
            store: Opened, if only for reading.
            against: A head saved earlier, (position, chain), through which the log must pass.
            take: Given the events of each step, in order.
        """
        self._store = store
        self._against = against
        self._take = take
        self._last_at = 0
        self.position = 0
        self.chain = GENESIS
        self.finding: Finding | None = None

    async def step(self, *, limit: int = ROWS_PER_PAGE_MAX) -> bool:
        """
        Up to *limit* events further; False at the end of the log, or once something is wrong.

        Cost: one short read, and about 7 µs an event on the event loop.
        """
        # Read before the records: what it names is there by then.
        head = await self._store.read_head()
        count = await self._read_on(limit)
        if count == 0 and self.finding is None:
            if self.position < head.position:
                self._found(self.position + 1, f"position {self.position + 1} is missing, up to {head.position}")
            else:
                await self._check_end()
        return count > 0 and self.finding is None

    async def _read_on(self, limit: int) -> int:
        """How many events came; of those that cannot even be read, the first is found."""
        try:
            records = await self._store.read_records(after=self.position or _BEFORE_ALL, limit=limit)
        except (StoreDown, UnreadableEvent) as failure:
            if limit > 1:
                return await self._read_singly(limit)
            self._found(self.position + 1, f"it cannot be read: {failure.__cause__ or failure.message}")
            return 0
        self._check(records)
        return len(records)

    async def _read_singly(self, limit: int) -> int:
        count = 0
        while count < limit and self.finding is None and await self._read_on(1):
            count += 1
        return count

    async def _check_end(self) -> None:
        """The end of the log is where its head says, and not before the head that was saved."""
        head = await self._store.read_head()
        if head.position < self.position:
            self._found(head.position + 1, f"the head says that the log ends at {head.position}")
        elif head.position == self.position and (head.chain, head.at) != (self.chain, self._last_at):
            self._found(self.position, "the head does not fit the last event")
        elif self._against is not None and head.position < self._against[0]:
            cut = f"the log ends at {head.position}, but once reached {self._against[0]}: its tail was cut"
            self._found(head.position + 1, cut)

    def _found(self, position: int, what: str) -> None:
        self.finding = Finding(position, what)

    def _check(self, records: Sequence[Record]) -> None:
        events: list[Event] = []
        for record in records:
            wrong = self._wrong_with(record)
            if wrong is not None:
                self._found(min(record.position, self.position + 1), wrong)
                break
            try:
                events.append(read_record(record))
            except UnreadableEvent as error:
                self._found(record.position, error.message)
                break
            self.position, self.chain, self._last_at = record.position, record.chain, record.at
        if self._take is not None:
            self._take(events)

    def _wrong_with(self, record: Record) -> str | None:
        """What is wrong with *record* in its place, if anything is."""
        if record.position != self.position + 1:
            return f"position {self.position + 1} is missing"
        if record.at < self._last_at:
            return "its time is before that of the event before it"
        if (record.payload is None) != (record.salt is None):
            return "its payload and its salt are not both there, nor both gone"
        if record.payload is not None and digest_payload(record.salt, record.payload) != record.payload_digest:
            return "its payload is not the one that was recorded"
        if len(record.payload_digest) != _HASH_BYTES or _link(self.chain, record) != record.chain:
            return "the chain breaks here: this event is not the one that was recorded"
        if self._against is not None and self._against[0] == record.position and self._against[1] != record.chain:
            return "the chain differs from the saved head: the log was rewritten"
        return None


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
