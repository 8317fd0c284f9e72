"""
The frames of a stream, and their two forms: server-sent events and lines of JSON.

A frame is a name, perhaps an id, perhaps a retry, and one piece of JSON. Line feeds only; never a frame without a name
or one called ``error``, which EventSource would take for its own; the data is one line because compact JSON has no raw
line feed. What stands in a frame is decided elsewhere; here it becomes bytes, once for all who get it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import UNSET, Struct

from jobsvc.changes import Change
from jobsvc.domain.events import Payload
from jobsvc.oneline import one_line
from jobsvc.resource import BRIEF_BYTES_MAX, change_resource, encode

FrameName = Literal["hello", "snapshot", "job", "ready", "hb", "reset", "end", "bye"]


class Frame(Struct, frozen=True, gc=False):
    """One frame. ``id`` is a cursor; a client that reconnects sends the last that it saw."""

    name: FrameName
    data: bytes
    id: str | None = None
    retry_ms: int | None = None


def as_sse(frame: Frame) -> bytes:
    """*frame* as the EventSource of the HTML standard reads it."""
    head = f"event: {frame.name}\n"
    if frame.id is not None:
        head += f"id: {frame.id}\n"
    if frame.retry_ms is not None:
        head += f"retry: {frame.retry_ms}\n"
    return b"%bdata: %b\n\n" % (head.encode(), one_line(frame.data))


def as_line(frame: Frame) -> bytes:
    """*frame* as one line of newline-delimited JSON: ``{"event", "id", "data"}``, and ``retry`` where there is one."""
    identity = b"null" if frame.id is None else b'"%b"' % frame.id.encode()
    retry = b"" if frame.retry_ms is None else b',"retry":%d' % frame.retry_ms
    return b'{"event":"%b","id":%b,"data":%b%b}\n' % (frame.name.encode(), identity, one_line(frame.data), retry)


class Form(Struct, frozen=True, gc=False):
    """
    How frames stand on the wire.

    Attributes:
        transport: What metrics call it.
        content_type: Of the answer.
        frame: One frame as bytes.
        chunked: Each frame is a chunk of its own (RFC 9112, section 7.1); else the connection's end is the answer's.
        key: The same for forms whose bytes are the same.
    """

    transport: str
    content_type: str
    frame: Callable[[Frame], bytes]
    chunked: bool
    key: str

    def encode(self, frame: Frame) -> bytes:
        """*frame* as it is written."""
        content = self.frame(frame)
        return b"%x\r\n%b\r\n" % (len(content), content) if self.chunked else content


SSE: Final = Form("sse", "text/event-stream", as_sse, chunked=True, key="sse chunk")
SSE_UNCHUNKED: Final = Form("sse", "text/event-stream", as_sse, chunked=False, key="sse")
LINES: Final = Form("ndjson", "application/x-ndjson", as_line, chunked=True, key="line chunk")
LINES_UNCHUNKED: Final = Form("ndjson", "application/x-ndjson", as_line, chunked=False, key="line")
LONG_POLL: Final = Form("long_poll", "application/json", as_line, chunked=False, key="line")


class Cursor(Struct, frozen=True, gc=False):
    """A place in a log: the log's identity and the last position seen."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.position}"


def parse_cursor(text: str) -> Cursor | None:
    """The cursor that *text* names, or None if it names none. Never an error: a stream answers a bad cursor in band."""
    epoch, dot, position = text.rpartition(".")
    if not dot or not epoch or len(text) > _CURSOR_CHARACTERS_MAX or not (position.isascii() and position.isdigit()):
        return None
    return Cursor(epoch, int(position))


_CURSOR_CHARACTERS_MAX: Final = 64


class EncodedChange(Struct, eq=False, gc=False):
    """
    A change with its ``job`` frame, made in each form when the first reader needs it, and kept for the others.

    Attributes:
        change: The change.
        epoch: Of its log.
        owners: Whose it is: the job's owner, and before it the one who lost it by this very change.
        size: How many bytes it weighs in memory, about, and rather more than less.
    """

    change: Change
    epoch: str
    owners: tuple[str, ...]
    size: int
    made: dict[str, bytes] | None = None
    """None until somebody reads: mostly nobody does, and a dict for each would be a third of what keeping it costs."""

    @property
    def position(self) -> int:
        """Where in the log it stands."""
        return self.change.event.position

    @property
    def cursor(self) -> str:
        """The cursor that this change leads to."""
        return f"{self.epoch}.{self.change.event.position}"

    def frame(self) -> Frame:
        """The ``job`` frame."""
        return Frame("job", encode(change_resource(self.change)), id=self.cursor)

    def encoded(self, form: Form) -> bytes:
        """The frame as it is written in *form*, made once."""
        if self.made is None:
            self.made = {}
        frame = self.made.get(form.key)
        if frame is None:
            frame = self.made[form.key] = form.encode(self.frame())
        return frame


def weighed(change: Change, epoch: str) -> EncodedChange:
    """*change* of the log *epoch*, weighed, and encoded for nobody yet."""
    job, payload = change.job, change.event.payload or _NOTHING
    submission = job.submission
    sent = len(submission.input) + len(submission.metadata)
    for raw in (job.result, payload.result, payload.progress_data):
        if raw is not UNSET:
            sent += len(raw)
    previous, owner = change.previous_owner, submission.owner
    # Once here and once in the frame, which leaves large ones out.
    weight = _CHANGE_BYTES + sent + min(sent, _FRAMED_BYTES_MAX)
    return EncodedChange(change, epoch, (owner,) if previous is None else (previous, owner), weight)


_NOTHING: Final = Payload(actor="")
_FRAMED_BYTES_MAX: Final = 5 * BRIEF_BYTES_MAX
"""A frame has no more of what callers and workers sent: five pieces, or less."""
_CHANGE_BYTES: Final = 4_096
"""What a change and its frame weigh besides what callers and workers sent."""
