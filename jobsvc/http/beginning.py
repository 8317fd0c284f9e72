"""
The beginning of a connection: the place from which it resumes, or the snapshot with which it begins afresh, and why.

Taken in the loop turn in which the connection joins its channel, so that nothing comes between. An idle stream keeps
nothing of it: once all is told, every connection has the same one, `BEGUN`. A cursor that cannot be served is a fresh
start with a reason, never an error. What must never live here: a sink, or what happens after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.framing import parse_cursor

if TYPE_CHECKING:
    from jobsvc.domain.job import Job
    from jobsvc.feed import Feed
    from jobsvc.http.snapshots import Snapshot

_REQUESTED_CHARACTERS: Final = 64


class Beginning:
    """
    What is told before what happens.

    Attributes:
        single: The one job that the connection is about, as it stood; None for a stream of many.
        reset: Why it could not resume, if it asked to and could not.
        is_placed: A client that goes on from the connection's place misses nothing: it resumed, or has its snapshot.
    """

    __slots__ = ("_next", "_snapshot", "is_placed", "reset", "single")

    def __init__(
        self, single: Job | None, *, reset: dict[str, str] | None = None, snapshot: Snapshot | None = None
    ) -> None:
        self.single = single
        self.reset = reset
        self.is_placed = snapshot is None
        self._snapshot = snapshot
        self._next: int | None = 0

    def next_part(self) -> bytes | None:
        """The next part of the snapshot, as it is written; None once there is none left."""
        if self._snapshot is None or self._next is None:
            self._snapshot, self.is_placed = None, True
            return None
        part, self._next = self._snapshot.part(self._next)
        return part

    def drop(self) -> None:
        """What was not told of the snapshot never is."""
        self._next, self._snapshot = None, None


BEGUN: Final = Beginning(None)
"""All of it was told, and that the connection has caught up."""


def resume_at(text: str | None, feed: Feed) -> tuple[int | None, dict[str, str] | None]:
    """The position to resume after, or none and what a ``reset`` says of it if there was a cursor."""
    if text is None:
        return None, None
    cursor = parse_cursor(text)
    if cursor is None:
        return None, _reset("malformed", text)
    if feed.cursor(cursor.position) != text:
        return None, _reset("other-epoch", text)
    if cursor.position < feed.archived_through:
        return None, _reset("too-old", text)
    return (None, _reset("future", text)) if cursor.position > feed.position else (cursor.position, None)


def is_past_end(job: Job, after: str | None, feed: Feed) -> bool:
    """True if the job has ended and the cursor *after* has seen it end."""
    if job.ended_position is None or after is None:
        return False
    cursor = parse_cursor(after)
    return cursor is not None and feed.cursor(cursor.position) == after and job.ended_position <= cursor.position


def _reset(reason: str, requested: str) -> dict[str, str]:
    """What is told, with *requested* as it may stand in a frame, whatever bytes the header held."""
    shown = requested[:_REQUESTED_CHARACTERS].encode("ascii", "replace").decode("ascii")
    return {"reason": reason, "requested": shown}
