"""
The feed: from what was committed to everyone who sees it.

The ledger tells it of each commit in the loop turn in which the commit becomes visible. It keeps the newest changes in
the ring and tells, in slices of the turns that follow, the members of the channels that are concerned: found by owner
and by job, so that a change costs those who get it and not those who are connected.

A snapshot and the registration at its position are one act: who joins takes both in one loop turn, with no await
between (subscribe-after-read is the commonest bug of the field: codeframe #757, botmux #900). Nothing queues up for
anybody: a member is a position, and reads on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.changes import read_changes
from jobsvc.channel import Channel, snapshot
from jobsvc.domain.events import Erased
from jobsvc.few import Few, each, has, with_one, without
from jobsvc.framing import weighed
from jobsvc.pieces import Pieces
from jobsvc.ring import Ring
from jobsvc.slices import Slices
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from jobsvc.telemetry import log_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobsvc.changes import Change
    from jobsvc.channel import Member, Scope
    from jobsvc.domain.job import Job
    from jobsvc.framing import EncodedChange, Form
    from jobsvc.memory import Memory
    from jobsvc.store.seam import Store

_Key = tuple["Scope", str]
"""(scope, key of the form): what makes a channel."""


_PIECES_PART: Final = 8
"""What is joined for several weighs at most this part of what the ring may."""

_TOLD_A_STEP: Final = 8
"""To tell one is a send, some 5 µs; to look at the clock after each costs a tenth of that."""


class Feed:
    """
    The ring, and the channels by what they see.

    Cost: a commit costs its receivers, not the connected. Memory is bounded by the ring, whatever readers do.
    """

    def __init__(self, store: Store, memory: Memory, *, ring_events_max: int, ring_bytes_max: int) -> None:
        self._store = store
        self._memory = memory
        self._telling = Slices(failed=_tell_fault)
        self._hashing = Slices(failed=_tell_fault)
        self._members = 0
        self._all: dict[_Key, Channel] = {}
        """Those that see all owners' jobs. The others are found where a change looks for them, and kept only there."""
        self._by_owner: dict[str, Few[Channel]] = {}
        self._by_job: dict[str, Few[Channel]] = {}
        self._stirred: dict[Channel, None] = {}
        self._pieces = Pieces(bytes_max=ring_bytes_max // _PIECES_PART)
        self.ring = Ring(events_max=ring_events_max, bytes_max=ring_bytes_max)

    def start(self) -> None:
        """The feed stands at the head of the log as committed, with an empty ring."""
        self.ring.start(self._memory.position)

    @property
    def position(self) -> int:
        """The newest position that anybody may be told of."""
        return self.ring.position

    @property
    def archived_through(self) -> int:
        """Below this position nobody resumes: what was missed may be archived."""
        return self._memory.archived_through

    def cursor(self, position: int) -> str:
        """The cursor that names *position* in this log."""
        return f"{self._memory.epoch}.{position}"

    def __len__(self) -> int:
        """How many are told what happens."""
        return self._members

    def snapshot(self, scope: Scope) -> list[Job]:
        """The active jobs in *scope* as committed, oldest first."""
        return snapshot(self._memory, scope)

    # Who is told

    def join(self, scope: Scope, form: Form, member: Member) -> Channel:
        """
        *member* is told of everything in *scope* that is committed from now on.

        What it takes in this same loop turn, a snapshot or the position, nothing can come between.
        """
        channel = self._find(scope, form) or self._open(scope, form)
        channel.members = with_one(channel.members, member)
        self._members += 1
        return channel

    def _find(self, scope: Scope, form: Form) -> Channel | None:
        places = self._places_of(scope)
        if not places:
            return self._all.get((scope, form.key))
        index, place = places[0]
        return next((one for one in each(index.get(place)) if one.scope == scope and one.form.key == form.key), None)

    def _open(self, scope: Scope, form: Form) -> Channel:
        channel = Channel(scope, form, ring=self.ring, memory=self._memory, pieces=self._pieces)
        places = self._places_of(scope)
        for index, place in places:
            index[place] = with_one(index.get(place), channel)
        if not places:
            self._all[scope, form.key] = channel
        if (work := channel.begin_digest()) is not None:
            self._hashing.add(work)
        return channel

    def leave(self, channel: Channel, member: Member) -> None:
        """*member* is told nothing any more. Leaving twice does nothing."""
        if not has(channel.members, member):
            # A channel that nobody is in is forgotten, and there may be another of the same scope by now.
            return
        channel.members = without(channel.members, member)
        self._members -= 1
        if channel.members is not None:
            return
        self._all.pop((channel.scope, channel.form.key), None)
        for index, place in self._places_of(channel.scope):
            left = without(index.pop(place), channel)
            if left is not None:
                index[place] = left

    def _places_of(self, scope: Scope) -> list[tuple[dict[str, Few[Channel]], str]]:
        """Where a channel of *scope* is looked for: under each of its jobs, else under its owner."""
        if scope.job_ids:
            return [(self._by_job, job_id) for job_id in scope.job_ids]
        return [(self._by_owner, scope.owner)] if scope.owner is not None else []

    def _channels_of(self, encoded: EncodedChange) -> Iterator[Channel]:
        yield from self._all.values()
        for owner in encoded.owners:
            yield from each(self._by_owner.get(owner))
        yield from each(self._by_job.get(encoded.change.job.id))

    # What comes in

    def publish(self, changes: Iterable[Change]) -> None:
        """These changes are the newest of the log, visible from now on; whom they concern is told in the next turns."""
        epoch = self._memory.epoch
        for change in changes:
            if isinstance(change.event.facts, Erased):
                # What was told of the job before may not be told again; the store knows what of it is left.
                self.ring.clear()
                self._pieces.clear()
            encoded = weighed(change, epoch)
            self.ring.keep(encoded)
            for channel in self._channels_of(encoded) if self._members else ():
                if channel.scope.shows_change(change):
                    self._stir(channel, change)

    def _stir(self, channel: Channel, change: Change) -> None:
        channel.follow(change)
        channel.newest = change.event.position
        channel.fresh = None
        if channel.quiet is None:
            channel.quiet = change.event.position - 1
        if not self._stirred:
            self._telling.add(self._tell())
        self._stirred[channel] = None

    def _tell(self) -> Iterator[None]:
        """Every member of every channel in which something happened is told of it."""
        stirred, self._stirred = self._stirred, {}
        told = 0
        for channel in stirred:
            newest = channel.newest
            for member in each(channel.members):
                member.notice()
                told += 1
                if told % _TOLD_A_STEP == 0:
                    yield
            if channel.newest == newest:
                channel.quiet = channel.fresh = None

    # What goes out, to who is far behind

    async def read_store(self, scope: Scope, *, after: int, limit: int) -> tuple[list[EncodedChange], int]:
        """
        At most *limit* changes in *scope* above *after* out of the log, and the position that is reached with them.

        Only up to where the ring begins. Each carries the job as it stood after it, folded from the job's own stream;
        never the current row.
        """
        until, limit = self.ring.first - 1, min(limit, ROWS_PER_PAGE_MAX)
        job_id = next(iter(scope.job_ids)) if len(scope.job_ids) == 1 else None
        changes = await read_changes(
            self._store, after=after, limit=limit, owner=scope.owner, job_id=job_id, until=until
        )
        reached = changes[-1].event.position if changes else until
        epoch = self._memory.epoch
        return [weighed(change, epoch) for change in changes], reached


def _tell_fault(fault: Exception) -> None:
    log_failure("feed.fault", fault)
