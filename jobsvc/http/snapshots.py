"""
The snapshots: the active jobs that somebody sees, as of one position, told in parts that fit a frame.

A thousand watchers who come at once are shown one list, and those who do not take it hold no more than their place in
it: a list is as long as there are jobs, and a part as large as four buffers. It goes with the last who is in it, and
its parts before that if those of all lists together weigh too much: whoever stands still would hold them for ever.
What must never live here: who is shown it, and what happened since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary, ref

from msgspec import Raw

from jobsvc.framing import Frame
from jobsvc.resource import encode, job_resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.channel import Channel
    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.feed import Feed
    from jobsvc.framing import Form
    from jobsvc.ledger import Ledger

_OVERHEAD: Final = 256
_KEPT_US: Final = 1_000_000
"""So old may the leases be that stand in a part."""
_PART_BYTES: Final = 400
"""About what a part weighs besides what is written of it."""


class Snapshots:
    """
    Those that somebody is being told. One per service.
    """

    def __init__(self, feed: Feed, ledger: Ledger, clock: Clock, *, part_bytes_max: int, shared_bytes_max: int) -> None:
        """
        Nobody is told anything yet.

        Args:
            feed: Where the jobs stand.
            ledger: Knows the leases.
            clock: Says how old a part is.
            part_bytes_max: So large a part is; one job that is larger is a part of its own.
            shared_bytes_max: So much the parts weigh that are kept because others may be told them, of all snapshots.
        """
        self._feed = feed
        self._ledger = ledger
        self._clock = clock
        self._part_bytes_max = part_bytes_max
        self.shelf = Shelf(bytes_max=shared_bytes_max)
        self._latest: WeakValueDictionary[Channel, Snapshot] = WeakValueDictionary()

    def __len__(self) -> int:
        """
        How many channels have one.
        """
        return len(self._latest)

    def of(self, channel: Channel) -> Snapshot:
        """
        What *channel* shows at the feed's position: the same one for all who ask at that position.
        """
        latest = self._latest.get(channel)
        if latest is not None and latest.position == self._feed.position:
            latest.is_shared = True
            return latest
        made = self._latest[channel] = self.of_jobs(self._feed.snapshot(channel.scope), channel.form)
        return made

    def of_jobs(self, jobs: Sequence[Job], form: Form) -> Snapshot:
        """
        *jobs*, as they stand at the feed's position, and no others.
        """
        return Snapshot(self, jobs, form, self._feed.position)

    def part(self, jobs: Sequence[Job], first: int, cursor_position: int) -> tuple[Frame, int]:
        """
        The frame that begins with the job at *first*, and how many jobs have been told with it.

        The id stands on the last part, so that a cut snapshot is asked for again.
        """
        told: list[Raw] = []
        size, end, cursor = _OVERHEAD, first, self._feed.cursor(cursor_position)
        while end < len(jobs):
            job = jobs[end]
            content = encode(job_resource(job, lease_expires_at=self._ledger.lease_of(job), brief=True))
            size += len(content) + 1
            if told and size > self._part_bytes_max:
                return Frame("snapshot", encode({"jobs": told, "cursor": cursor, "more": True})), end
            told.append(Raw(content))
            end += 1
        return Frame("snapshot", encode({"jobs": told, "cursor": cursor, "more": False}), id=cursor), end

    def now(self) -> int:
        """
        The moment of the elapsed clock.
        """
        return self._clock.elapsed()


class Shelf:
    """
    The parts that are kept, of whichever snapshot, in the order in which they were made.

    It leads to a part and does not hold it: that goes with its snapshot.

    Attributes:
        bytes: About how much they weigh, and those that went with their snapshot and have not had their turn.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._sizes: dict[tuple[ref[Snapshot], int], int] = {}
        self.bytes = 0

    def note(self, snapshot: Snapshot, first: int, size: int) -> None:
        """
        *snapshot* keeps the part that begins with *first*; those made first are dropped until the bound holds.
        """
        place = (ref(snapshot), first)
        self.bytes += size - self._sizes.pop(place, 0)
        self._sizes[place] = size
        while self.bytes > self._bytes_max:
            oldest = next(iter(self._sizes))
            self.bytes -= self._sizes.pop(oldest)
            if (known := oldest[0]()) is not None:
                known.drop(oldest[1])


class Snapshot:
    """
    The jobs of one scope as of *position*; if more than one is shown them, with the parts that were made last.
    """

    __slots__ = ("__weakref__", "_form", "_jobs", "_made", "_snapshots", "is_shared", "position")

    def __init__(self, snapshots: Snapshots, jobs: Sequence[Job], form: Form, position: int) -> None:
        self._snapshots = snapshots
        self._jobs = jobs
        self._form = form
        self._made: dict[int, tuple[bytes, int | None, int]] = {}
        self.is_shared = False
        self.position = position

    def part(self, first: int) -> tuple[bytes, int | None]:
        """
        As it is written, the part that begins with the job at *first*, and where the next begins; None after the last.
        """
        content, following, made_at = self._made.get(first, (b"", None, -_KEPT_US))
        now = self._snapshots.now()
        if not content or now - made_at > _KEPT_US:
            frame, end = self._snapshots.part(self._jobs, first, self.position)
            content, following = self._form.encode(frame), (end if frame.id is None else None)
            if self.is_shared:
                self._made[first] = (content, following, now)
                self._snapshots.shelf.note(self, first, len(content) + _PART_BYTES)
        return content, following

    def drop(self, first: int) -> None:
        """
        The part that begins with the job at *first* is made anew for whoever comes to it.
        """
        del self._made[first]
