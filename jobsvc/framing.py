"""
The frames of a stream, and their two forms: server-sent events and lines of JSON.

A frame is a name, perhaps an id, perhaps a retry, and one piece of JSON. Line feeds only; never a frame without a name
or one called ``error``, which EventSource would take for its own; the data is one line because compact JSON has no raw
line feed. What stands in a frame is decided elsewhere; here it becomes bytes, once for all who get it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import UNSET, Struct

from jobsvc.resource import BRIEF_BYTES_MAX, change_resource, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.changes import Change

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
    return b"%bdata: %b\n\n" % (head.encode(), frame.data)


def as_line(frame: Frame) -> bytes:
    """*frame* as one line of newline-delimited JSON: ``{"event", "id", "data"}``, and ``retry`` where there is one."""
    identity = b"null" if frame.id is None else b'"%b"' % frame.id.encode()
    retry = b"" if frame.retry_ms is None else b',"retry":%d' % frame.retry_ms
    return b'{"event":"%b","id":%b,"data":%b%b}\n' % (frame.name.encode(), identity, frame.data, retry)


Framer = tuple[str, "Callable[[Frame], bytes]"]
SSE: Final = ("text/event-stream", as_sse)
LINES: Final = ("application/x-ndjson", as_line)


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


class EncodedChange:
    """A change with its ``job`` frame, made when the first reader needs it and kept for the others."""

    __slots__ = ("_epoch", "_line", "_sse", "change", "size")

    def __init__(self, change: Change, epoch: str) -> None:
        self.change = change
        self._epoch = epoch
        self.size = _weight(change)
        self._sse: bytes | None = None
        self._line: bytes | None = None

    @property
    def cursor(self) -> str:
        """The cursor that this change leads to."""
        return f"{self._epoch}.{self.change.event.position}"

    def frame(self) -> Frame:
        """The ``job`` frame."""
        return Frame("job", encode(change_resource(self.change)), id=self.cursor)

    def sse(self) -> bytes:
        """The frame as server-sent event, encoded once."""
        if self._sse is None:
            self._sse = as_sse(self.frame())
        return self._sse

    def line(self) -> bytes:
        """The frame as a line of JSON, encoded once."""
        if self._line is None:
            self._line = as_line(self.frame())
        return self._line


def _weight(change: Change) -> int:
    """How many bytes *change* and its frames weigh in memory, about, and rather more than less."""
    submission, payload = change.job.submission, change.event.payload
    raws = [submission.input, submission.metadata, change.job.result]
    if payload is not None:
        raws += [payload.result, payload.progress_data]
    sent = [len(memoryview(raw)) for raw in raws if raw is not UNSET]
    return _CHANGE_BYTES + sum(sent) + sum(min(size, BRIEF_BYTES_MAX) for size in sent)


_CHANGE_BYTES: Final = 4_096
"""What a change and its frame weigh besides what callers and workers sent."""
