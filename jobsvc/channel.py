"""
The channel: everyone who sees the same in the same form, and what they are told, joined once for all of them.

A member is a position. What comes after a position is a *piece*: the frames in scope from there on, up to one buffer
full, as one run of bytes. Members at the same position, which is nearly all of them nearly always, get the same piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from jobsvc.digest import digest_after, digest_before, digest_of, written
from jobsvc.domain.words import JobId
from jobsvc.few import Few, count
from jobsvc.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jobsvc.changes import Change
    from jobsvc.domain.job import Job
    from jobsvc.framing import EncodedChange, Form
    from jobsvc.memory import Memory
    from jobsvc.pieces import Pieces
    from jobsvc.ring import Ring

_HASHED_AT_ONCE: Final = 64
"""So many jobs are hashed where they are asked for; a longer list in slices."""


class Scope(Struct, frozen=True, gc=False):
    """
    What a reader may and wants to see; all conditions hold.

    Attributes:
        owner: Only what happened under this owner; None for one who may see all.
        kinds: Only these kinds; empty for any.
        job_ids: Only these jobs; empty for any.
        ends: Of the one job that it is about nothing is shown after the job's end.
    """

    owner: str | None = None
    kinds: frozenset[str] = frozenset()
    job_ids: frozenset[JobId] = frozenset()
    ends: bool = False

    def shows(self, job: Job) -> bool:
        """True if *job*, as it stands, is one that the reader wants and may see."""
        return self.owner in {None, job.owner} and self.wants(job)

    def shows_change(self, change: Change) -> bool:
        """True if *change* is; a change of owner is shown to both owners."""
        return self.owner in {None, change.job.owner, change.previous_owner} and self.wants(change.job)

    def wants(self, job: Job) -> bool:
        """True if *job* is among those asked for, whosever it is."""
        if self.job_ids and job.id not in self.job_ids:
            return False
        return not self.kinds or job.kind in self.kinds


class Member(Protocol):
    """
    One who is told.
    """

    def notice(self) -> None:
        """
        There is something to be told, perhaps.
        """
        ...


class Channel:
    """
    The members of one scope and form. Made and kept by the feed.

    Attributes:
        members: In the order in which they came.
        quiet: While changes are being told: up to here a member that had caught up missed nothing. Else None.
        newest: The position of the newest change in scope that was published to it.
        fresh: The piece that leads from where it was quiet to the head, while nothing newer is in scope. Else None.
        fresh_s: When the last of those was made; who is told of it is told about then.
    """

    __slots__ = (
        "_digest",
        "_memory",
        "_pieces",
        "_ring",
        "_unhashed",
        "form",
        "fresh",
        "fresh_s",
        "members",
        "newest",
        "quiet",
        "scope",
    )

    def __init__(self, scope: Scope, form: Form, *, ring: Ring, memory: Memory, pieces: Pieces) -> None:
        self.scope = scope
        self.form = form
        self.members: Few[Member] = None
        self.quiet: int | None = None
        self.newest = 0
        self.fresh: Piece | None = None
        self.fresh_s = 0.0
        self._ring = ring
        self._memory = memory
        self._pieces = pieces
        self._digest = 0
        self._unhashed: list[Job] | None = None

    # Pieces

    def piece(self, after: int, *, bytes_max: int, now_s: float) -> Piece:
        """
        What comes after the position *after*, which the ring reaches: about *bytes_max* bytes, or all up to the head.
        """
        made = self._pieces.find(self, after)
        if made is not None:
            return made
        made = self.joined(self._ring.after(after, self.scope.owner), until=self._ring.position, bytes_max=bytes_max)
        if count(self.members) > 1 and made.content:
            self._pieces.keep(self, after, made)
            if after == self.quiet and made.position == self._ring.position and made.ended is None:
                self.fresh, self.fresh_s = made, now_s
        return made

    def joined(self, encoded: Iterable[EncodedChange], *, until: int, bytes_max: int) -> Piece:
        """
        The first of *encoded* that are in scope, as one piece; *until* is the position of the last of them.

        Progress that a later event of its job has superseded is left out: that event comes, with all there is to know.
        """
        parts: list[bytes] = []
        size = 0
        for one in encoded:
            if not self.scope.shows_change(one.change) or self._is_superseded(one):
                continue
            part = one.encoded(self.form)
            parts.append(part)
            size += len(part)
            if self.scope.ends and not one.change.job.active:
                return Piece(one.position, b"".join(parts), ended=one.change.job)
            if size >= bytes_max:
                return Piece(one.position, b"".join(parts))
        return Piece(until, b"".join(parts))

    def _is_superseded(self, one: EncodedChange) -> bool:
        event = one.change.event
        if event.type != "job.progressed":
            return False
        standing = self._memory.jobs.get(event.job_id)
        return standing is None or standing.version > event.version

    # What the members hold

    def follow(self, change: Change) -> None:
        """*change*, which is in scope, is committed: the digest is as of after it."""
        owner = self.scope.owner
        if owner is None or owner == change.previous_owner or change.previous_owner is None:
            self._digest ^= digest_before(change)
        if owner is None or owner == change.job.owner:
            self._digest ^= digest_after(change)

    def begin_digest(self) -> Iterator[None] | None:
        """The digest is of what is active now, once the work that is given back, if any, is done."""
        self._unhashed = snapshot(self._memory, self.scope)
        work = self._hashing()
        if len(self._unhashed) > _HASHED_AT_ONCE:
            return work
        for _ in work:
            pass
        return None

    def _hashing(self) -> Iterator[None]:
        while self._unhashed:
            job = self._unhashed.pop()
            self._digest ^= digest_of(job.id, job.version)
            yield
        self._unhashed = None

    def digest(self) -> str | None:
        """What a client checks its own map with, as of the newest commit; None while it is still being made."""
        return None if self._unhashed is not None else written(self._digest)


def snapshot(memory: Memory, scope: Scope) -> list[Job]:
    """The active jobs in *scope* as committed, oldest first."""
    owned: Sequence[Job] | Iterable[Job]
    owned = memory.jobs.values() if scope.owner is None else memory.of_owner(scope.owner)
    if not scope.kinds and not scope.job_ids:
        return list(owned)
    return [job for job in owned if scope.wants(job)]
