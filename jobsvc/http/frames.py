"""
The frames of a stream as records: what each event's data holds, and a frame as a line of JSON.

For the OpenAPI document and for whoever checks a stream against it. How a frame becomes bytes is framing.py's, and when
it is told connection.py's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from jobsvc.http.shapes import StreamCursor
from jobsvc.resource import ChangeResource, JobResource, Moment

Retry = Annotated[int, Meta(ge=0, description="After how many milliseconds to come back; not in a long poll.")]
Identity = Annotated[StreamCursor, Meta(description="What a reconnecting client sends as `Last-Event-ID`.")]


ResetReason = Literal["malformed", "other-epoch", "future", "too-old"]
ByeReason = Literal["drain", "expired", "claimed", "superseded", "overload"]


class Hello(Struct, frozen=True):
    """First, at once: where this connection starts."""

    cursor: StreamCursor
    heartbeat_s: Annotated[float, Meta(gt=0)]
    server_time: Moment


class Snapshot(Struct, frozen=True):
    """The active jobs as of the cursor, in parts of at most 64 KiB."""

    jobs: list[JobResource]
    cursor: StreamCursor
    more: Annotated[bool, Meta(description="True on all parts but the last.")]


class Ready(Struct, frozen=True):
    """Caught up with the head of the log."""

    cursor: StreamCursor


class Heartbeat(Struct, frozen=True):
    """Nothing happened for a while. The digest tells whether the client's list is the service's."""

    cursor: StreamCursor
    digest: Annotated[
        str,
        Meta(pattern="^[0-9a-f]{8}$", description="XOR over the active jobs shown of FNV-1a-32 of `<id>:<version>`."),
    ]


class Reset(Struct, frozen=True):
    """The cursor could not be served; a snapshot follows."""

    reason: ResetReason
    requested: str


class End(Struct, frozen=True):
    """The job has ended, and so does its stream; a reconnect gets 204."""

    job: JobResource


class Bye(Struct, frozen=True):
    """The service closes this connection; the frame's retry says when to come back."""

    reason: ByeReason


class HelloFrame(Struct, frozen=True, tag_field="event", tag="hello"):
    """First, at once: where this connection starts."""

    id: None
    data: Hello
    retry: Retry | UnsetType = UNSET


class SnapshotFrame(Struct, frozen=True, tag_field="event", tag="snapshot"):
    """The active jobs as of the cursor, in parts; the id stands on the last."""

    id: Identity | None
    data: Snapshot


class JobFrame(Struct, frozen=True, tag_field="event", tag="job"):
    """An event, and the job as it stood after it."""

    id: Identity
    data: ChangeResource


class ReadyFrame(Struct, frozen=True, tag_field="event", tag="ready"):
    """Caught up with the head of the log."""

    id: Identity
    data: Ready


class HeartbeatFrame(Struct, frozen=True, tag_field="event", tag="hb"):
    """Nothing happened for a while."""

    id: Identity
    data: Heartbeat


class ResetFrame(Struct, frozen=True, tag_field="event", tag="reset"):
    """The cursor could not be served; a snapshot follows."""

    id: None
    data: Reset


class EndFrame(Struct, frozen=True, tag_field="event", tag="end"):
    """The job has ended, and so does its stream."""

    id: Identity
    data: End


class ByeFrame(Struct, frozen=True, tag_field="event", tag="bye"):
    """The service closes this connection."""

    id: None
    data: Bye
    retry: Retry | UnsetType = UNSET


StreamFrame = HelloFrame | SnapshotFrame | JobFrame | ReadyFrame | HeartbeatFrame | ResetFrame | EndFrame | ByeFrame


class LongPollAnswer(Struct, frozen=True):
    """
    The frames that were due, and from where to ask on; null, which is afresh, where a ``bye`` came before a snapshot.
    """

    frames: list[StreamFrame]
    cursor: StreamCursor | None
