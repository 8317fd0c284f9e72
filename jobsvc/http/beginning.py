"""
The beginning of a connection: the place from which it resumes, or the snapshot with which it begins afresh, and why.

Taken in the loop turn in which the connection joins its channel, so that nothing comes between. An idle stream keeps
nothing of it: once all is told, every connection has the same one, `BEGUN`. A cursor that cannot be served is a fresh
start with a reason, never an error. What must never live here: a sink, or what happens after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Raw

from jobsvc.framing import Frame, parse_cursor
from jobsvc.resource import encode, job_resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobsvc.domain.job import Job
    from jobsvc.feed import Feed
    from jobsvc.ledger import Ledger

_SNAPSHOT_OVERHEAD: Final = 256
_REQUESTED_CHARACTERS: Final = 64


class Beginning:
    """
    What is told before what happens.

    Attributes:
        single: The one job that the connection is about, as it stood; None for a stream of many.
        reset: Why it could not resume, if it asked to and could not.
        parts: What of the snapshot is still to be told; None if nothing is, or if there is none.
        is_placed: A client that goes on from the connection's place misses nothing: it resumed, or has its snapshot.
    """

    __slots__ = ("is_placed", "parts", "reset", "single")

    def __init__(
        self, single: Job | None, *, reset: dict[str, str] | None = None, parts: Iterator[Frame] | None = None
    ) -> None:
        self.single = single
        self.reset = reset
        self.parts = parts
        self.is_placed = parts is None

    def next_part(self) -> Frame | None:
        """The next part of the snapshot; None once there is none left."""
        part = None if self.parts is None else next(self.parts, None)
        if part is None:
            self.parts, self.is_placed = None, True
        return part

    def drop(self) -> None:
        """What was not told of the snapshot never is."""
        self.parts = None


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


def snapshot_parts(jobs: Sequence[Job], ledger: Ledger, *, cursor: str, bytes_max: int) -> Iterator[Frame]:
    """The jobs in parts of at most *bytes_max*; the id stands on the last: a cut snapshot is asked for again."""
    part: list[Raw] = []
    size = _SNAPSHOT_OVERHEAD
    for job in jobs:
        told = encode(job_resource(job, lease_expires_at=ledger.lease_of(job), brief=True))
        if part and size + len(told) + 1 > bytes_max:
            yield Frame("snapshot", encode({"jobs": part, "cursor": cursor, "more": True}))
            part, size = [], _SNAPSHOT_OVERHEAD
        part.append(Raw(told))
        size += len(told) + 1
    yield Frame("snapshot", encode({"jobs": part, "cursor": cursor, "more": False}), id=cursor)


def _reset(reason: str, requested: str) -> dict[str, str]:
    """What is told, with *requested* as it may stand in a frame, whatever bytes the header held."""
    shown = requested[:_REQUESTED_CHARACTERS].encode("ascii", "replace").decode("ascii")
    return {"reason": reason, "requested": shown}
