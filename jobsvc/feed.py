"""
The feed: the tail of the log in memory, and everyone who reads along.

The ledger tells it of each commit in the loop turn in which the commit becomes visible; it keeps the newest changes in
a bounded ring and wakes those whom they concern. A reader is a position, not a queue: it takes what comes after its
position from the ring, or from the store where the ring no longer reaches, at its own pace: a slow one costs nothing.

A snapshot and the registration at its position are one act: ``open`` copies the owner's jobs and registers in one loop
turn, with no await between (subscribe-after-read is the commonest bug of the field: codeframe #757, botmux #900).
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.changes import read_changes
from jobsvc.domain.words import JobId
from jobsvc.framing import EncodedChange
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobsvc.changes import Change
    from jobsvc.domain.job import Job
    from jobsvc.memory import Memory
    from jobsvc.store.seam import Store


class Scope(Struct, frozen=True):
    """
    What a reader may and wants to see; all conditions hold.

    Attributes:
        owner: Only what happened under this owner; None for one who may see all.
        kinds: Only these kinds; empty for any.
        job_ids: Only these jobs; empty for any.
    """

    owner: str | None = None
    kinds: frozenset[str] = frozenset()
    job_ids: frozenset[JobId] = frozenset()

    def shows(self, job: Job) -> bool:
        """True if *job*, as it stands, is one that the reader wants and may see."""
        if self.owner is not None and job.owner != self.owner:
            return False
        return self._wants(job)

    def shows_change(self, change: Change) -> bool:
        """True if *change* is; a change of owner is shown to both owners."""
        if self.owner is not None and self.owner not in (change.job.owner, change.previous_owner):
            return False
        return self._wants(change.job)

    def _wants(self, job: Job) -> bool:
        if self.job_ids and job.id not in self.job_ids:
            return False
        return not self.kinds or job.kind in self.kinds


class Reader:
    """
    One who reads along: a scope, and the position up to which it has been given everything.

    Attributes:
        scope: What it sees.
        position: Everything in scope up to here was handed out.
        caught_up: True while there is nothing in scope above ``position``; then its place is the head.
        farewell: Why it is to go, once somebody decided that; it is given what stood before that moment nevertheless.
    """

    __slots__ = ("_dismissed_at", "_feed", "_woken", "caught_up", "farewell", "position", "scope")

    def __init__(self, feed: Feed, scope: Scope, position: int, *, caught_up: bool) -> None:
        self._feed = feed
        self._woken: asyncio.Future[None] | None = None
        self.scope = scope
        self.position = position
        self.caught_up = caught_up
        self.farewell: str | None = None
        self._dismissed_at = 0

    @property
    def has_all_before_farewell(self) -> bool:
        """True once it is to go and was given everything that stood in the log when that was decided."""
        return self.farewell is not None and (self.caught_up or self.position >= self._dismissed_at)

    @property
    def place(self) -> int:
        """The position from which a resume would miss nothing and repeat nothing."""
        return self._feed.position if self.caught_up else self.position

    async def read(self, limit: int) -> Sequence[EncodedChange]:
        """
        The next changes in scope, in order; at most *limit*, and possibly none before the head is reached.

        ``caught_up`` says whether more is there. The store is asked only below the ring.
        """
        if self._feed.reaches(self.position):
            return self._feed.read_ring(self, limit)
        return await self._feed.read_store(self, limit)

    async def wait(self, timeout_s: float) -> bool:
        """True once there is something in scope to read, or it is time to say farewell; False after *timeout_s*."""
        if not self.caught_up or self.farewell is not None:
            return True
        self._woken = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken
        except TimeoutError:
            return False
        finally:
            self._woken = None
        return True

    def notice(self, position: int) -> None:
        """Something in scope stands at *position*, the first since the reader was caught up."""
        if self.caught_up:
            self.caught_up = False
            self.position = position - 1
        self.wake()

    def dismiss(self, reason: str) -> None:
        """The reader is to say farewell, once it has been given what stands in the log now."""
        if self.farewell is None:
            self.farewell, self._dismissed_at = reason, self._feed.position
        self.wake()

    def wake(self) -> None:
        """Whoever waits goes on."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class Feed:
    """
    The newest changes, and the readers by what they see.

    Cost: a commit costs its receivers, not the connected. Memory is bounded by the ring, whatever readers do.
    """

    def __init__(self, store: Store, memory: Memory, *, ring_events_max: int, ring_bytes_max: int) -> None:
        self._store = store
        self._memory = memory
        self._ring_events_max = ring_events_max
        self._ring_bytes_max = ring_bytes_max
        self._ring: dict[int, EncodedChange] = {}
        self._ring_bytes = 0
        self._first = 1
        self._all: set[Reader] = set()
        self._by_owner: dict[str, set[Reader]] = {}
        self.position = 0

    def start(self) -> None:
        """The feed stands at the head of the log as committed, with an empty ring."""
        self.position = self._memory.position
        self._first = self.position + 1

    def __len__(self) -> int:
        return len(self._all) + sum(len(readers) for readers in self._by_owner.values())

    @property
    def ring_bytes(self) -> int:
        """About how many bytes the ring holds."""
        return self._ring_bytes

    def cursor(self, position: int) -> str:
        """The cursor that names *position* in this log."""
        return f"{self._memory.epoch}.{position}"

    # Readers

    def open(self, scope: Scope, *, after: int | None = None) -> tuple[Reader, list[Job]]:
        """
        A registered reader, and the active jobs in scope as of its position, if it begins afresh (*after* None).

        One loop turn: nothing can happen between the snapshot and the registration.
        """
        jobs = self.snapshot(scope) if after is None else []
        position = self.position if after is None else after
        reader = Reader(self, scope, position, caught_up=position >= self.position)
        self._readers_of(scope).add(reader)
        return reader, jobs

    def close(self, reader: Reader) -> None:
        """The reader is forgotten. Closing twice does nothing."""
        owner = reader.scope.owner
        self._readers_of(reader.scope).discard(reader)
        if owner is not None and not self._by_owner[owner]:
            del self._by_owner[owner]

    def readers(self) -> list[Reader]:
        """Everyone who reads along."""
        return [*self._all, *(reader for readers in self._by_owner.values() for reader in readers)]

    def snapshot(self, scope: Scope) -> list[Job]:
        """The active jobs in scope as committed, oldest first."""
        owned = self._memory.jobs.values() if scope.owner is None else self._memory.of_owner(scope.owner)
        return [job for job in owned if scope.shows(job)]

    def digest(self, scope: Scope) -> str:
        """What a client checks its own map with: XOR of FNV-1a-32 of ``<id>:<version>`` over the jobs, 8 hex digits."""
        digest = 0
        for job in self.snapshot(scope):
            digest ^= _hash_on(_hash_id(job.id), str(job.version))
        return f"{digest:08x}"

    def _readers_of(self, scope: Scope) -> set[Reader]:
        if scope.owner is None:
            return self._all
        return self._by_owner.setdefault(scope.owner, set())

    # What comes in

    def publish(self, changes: Iterable[Change]) -> None:
        """These changes are the newest of the log, visible from now on; whom they concern is woken."""
        for change in changes:
            self._keep(EncodedChange(change, self._memory.epoch))
            for owner in (change.job.owner, change.previous_owner):
                if owner is not None and owner in self._by_owner:
                    self._notify(self._by_owner[owner], change)
            if self._all:
                self._notify(self._all, change)

    def _notify(self, readers: set[Reader], change: Change) -> None:
        for reader in readers:
            if reader.scope.shows_change(change):
                reader.notice(change.event.position)

    def _keep(self, encoded: EncodedChange) -> None:
        position = encoded.change.event.position
        self._ring[position] = encoded
        self._ring_bytes += encoded.size
        self.position = position
        while len(self._ring) > self._ring_events_max or (
            self._ring_bytes > self._ring_bytes_max and len(self._ring) > 1
        ):
            self._ring_bytes -= self._ring.pop(self._first).size
            self._first += 1

    # What goes out

    def reaches(self, position: int) -> bool:
        """True if everything above *position* is in the ring."""
        return position + 1 >= self._first

    def read_ring(self, reader: Reader, limit: int) -> list[EncodedChange]:
        """The next changes for *reader* from the ring, and its position moved past them."""
        found: list[EncodedChange] = []
        position = reader.position
        while position < self.position and len(found) < limit:
            position += 1
            encoded = self._ring[position]
            if reader.scope.shows_change(encoded.change):
                found.append(encoded)
        reader.position = position
        reader.caught_up = position >= self.position
        return found

    async def read_store(self, reader: Reader, limit: int) -> list[EncodedChange]:
        """
        The next changes for *reader* from the log, up to where the ring begins, and its position moved past them.

        Each carries the job as it stood after it, folded from the job's own stream; never the current row.
        """
        scope, until, limit = reader.scope, self._first - 1, min(limit, ROWS_PER_PAGE_MAX)
        job_id = next(iter(scope.job_ids)) if len(scope.job_ids) == 1 else None
        changes = await read_changes(
            self._store, after=reader.position, limit=limit, owner=scope.owner, job_id=job_id, until=until
        )
        reader.position = changes[-1].event.position if changes else until
        epoch = self._memory.epoch
        return [EncodedChange(change, epoch) for change in changes if scope.shows_change(change)]


_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


def _hash_on(state: int, text: str) -> int:
    """FNV-1a-32 continued from *state* over *text*."""
    for byte in text.encode():
        state = ((state ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return state


@lru_cache(maxsize=131_072)  # more than active jobs there may be, or a scan of all would find nothing kept
def _hash_id(job_id: JobId) -> int:
    return _hash_on(_FNV_OFFSET, f"{job_id}:")
