"""
How log lines look and where they go: one JSON object each, on standard error, for the program's own and its libraries'.

Three promises. Nothing that came from outside is written but the closed fields of jobsvc/telemetry.py: of an exception
its types and the places in code, never its text; of a library's words the fixed part. A flood that callers bring about
is so many lines a second and a count. And a log that nobody reads stops nobody: a line for which there is no room is
counted and left out, since a service that waits for its log's reader has stopped.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import traceback
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from jobsvc.domain.moments import rfc3339
from jobsvc.oneline import one_line
from jobsvc.telemetry import RATIONED, Fields, log_failure

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

LINES_PER_S_MAX: Final = 50
"""Lines of one rationed event in one second, where nothing else is said."""

_OURS: Final = "jobsvc"
_PIPE_BYTES: Final = 4_096
"""A pipe that says it can be written to takes as many at least without waiting (PIPE_BUF)."""


def configure_logging(level: str, *, output: TextIO | None = None, lines_per_s_max: int = LINES_PER_S_MAX) -> None:
    """
    From here on the program's log lines, and those of the libraries from warning up, go to *output* as JSON lines.

    Args:
        level: The least level of our own lines: debug, info, warning or error.
        output: Standard error if not named, since standard output belongs to the verbs.
        lines_per_s_max: Lines of one rationed event in one second.
    """
    lines = Lines(output or sys.stderr, lines_per_s_max=lines_per_s_max)
    logging.basicConfig(handlers=[lines], level=logging.WARNING, force=True)
    logging.getLogger(_OURS).setLevel(level.upper())


def tell_loop_faults(loop: asyncio.AbstractEventLoop) -> None:
    """What fails in *loop* with nobody waiting for it is a line of ours; asyncio's own words would hold values."""

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        log_failure("loop.fault", context.get("exception") or RuntimeError())

    loop.set_exception_handler(tell)


def tell_process_faults() -> None:
    """
    What fails outside of any loop, and what Python warns of, are lines of ours too; its own words would hold values.

    That is the program itself, a thread of it, what is tidied up, and ``warnings``.
    """

    def tell_main(kind: type[BaseException], error: BaseException, places: TracebackType | None) -> None:
        del kind, places
        if not isinstance(error, KeyboardInterrupt):
            log_failure("process.fault", error, reason="program")

    def tell_thread(told: threading.ExceptHookArgs) -> None:
        log_failure("process.fault", told.exc_value or RuntimeError(), reason="thread")

    def tell_unraisable(told: sys.UnraisableHookArgs) -> None:
        log_failure("process.fault", told.exc_value or RuntimeError(), reason="finalizer")

    sys.excepthook = tell_main
    threading.excepthook = tell_thread
    sys.unraisablehook = tell_unraisable
    warnings.showwarning = _tell_warning


def _tell_warning(  # noqa: PLR0917  # Python's own signature
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A line as a library's: what it is and where, and not its text, which may have been put together."""
    del file, line
    name = f"{category.__name__}: %s"
    logging.getLogger("warnings").handle(
        logging.LogRecord("warnings", logging.WARNING, filename, lineno, name, (message,), None, "")
    )


class Lines(logging.Handler):
    """Writes each record as a line, as far as its ration and the room in *output* go."""

    def __init__(self, output: TextIO, *, lines_per_s_max: int) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self._sink = _sink_of(output)
        self._ration = Ration(lines_per_s_max)
        self._left_out: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """The line of *record* is written whole, or counted as left out. Cost: 5 µs."""
        event = _event_of(record)
        if event in RATIONED and not self._ration.admits(event, at=record.created):
            self._left_out[event] += 1
            return
        if self._left_out and not self._ration.is_spent(at=record.created):
            self._tell_left_out()
        self._write(event, record)

    def _tell_left_out(self) -> None:
        left_out, self._left_out = self._left_out, Counter()
        fields: Fields = {"count": left_out.total(), "events": dict(left_out)}
        record = logging.LogRecord(_OURS, logging.INFO, "", 0, "log.left_out", None, None)
        record.fields = fields
        if not self._sink.write(self._encoded(record)):
            self._left_out = left_out

    def _write(self, event: str, record: logging.LogRecord) -> None:
        if not self._sink.write(self._encoded(record)):
            self._left_out[event] += 1

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode() + b"\n"


class Ration:
    """So many lines of one event in one second of the clock."""

    def __init__(self, lines_per_s_max: int) -> None:
        self._most = lines_per_s_max
        self._second = 0
        self._written: Counter[str] = Counter()

    def admits(self, event: str, *, at: float) -> bool:
        """True if one more line of *event* may be written at the moment *at*, in seconds; it is counted then."""
        self._turn(at)
        self._written[event] += 1
        return self._written[event] <= self._most

    def is_spent(self, *, at: float) -> bool:
        """True while more of some event came in this second than may be written: what is left out still grows."""
        self._turn(at)
        return any(count > self._most for count in self._written.values())

    def _turn(self, at: float) -> None:
        if self._second != int(at):
            self._second = int(at)
            self._written.clear()


class JsonLines(logging.Formatter):
    """Each record as one line of JSON: ``at``, ``level``, ``event``, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line feed; whatever stands in the fields, it is one line."""
        line: dict[str, Any] = {
            "at": rfc3339(int(record.created * 1_000_000)),
            # One event, one level, whatever a library thinks of it: what somebody must act on we say ourselves.
            "level": record.levelname.lower() if record.name == _OURS else "warning",
            "event": _event_of(record),
        }
        fields = getattr(record, "fields", {})
        line.update((name, value) for name, value in fields.items() if value is not None)
        if record.name != _OURS:
            # With arguments the words are a template, which is code; without, they may have been put together.
            message = record.msg if record.args and isinstance(record.msg, str) else None
            line |= {"library": record.name, "place": f"{record.module}.{record.funcName}:{record.lineno}"}
            line |= {} if message is None else {"message": message}
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = _places(record.exc_info[1])
        return one_line(msgspec.json.encode(line, enc_hook=str)).decode()


def _event_of(record: logging.LogRecord) -> str:
    return str(record.msg) if record.name == _OURS else "library.message"


def _places(error: BaseException) -> list[str]:
    """
    The types of *error* and of what led to it, each with the places in code that it came through, innermost last.

    Never their texts, which hold what somebody sent: ``KeyError: 'the token'``.
    """
    places: list[str] = []
    known: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in known:
        known.add(id(one))
        places.append(type(one).__name__)
        places += map(_place, traceback.walk_tb(one.__traceback__))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return places


def _place(step: tuple[Any, int]) -> str:
    frame, number = step
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}:{number}"


# Where lines go


class _Sink:
    """Takes bytes whole. A file, or what a test looks at, always has room."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def write(self, line: bytes) -> bool:
        """True if *line* will be there."""
        self._output.write(line.decode())
        self._output.flush()
        return True


class _Descriptor(_Sink):
    """
    Writes to what somebody may read slowly, without ever waiting for it.

    Not by O_NONBLOCK, which would hold for everybody who shares the terminal or the pipe. A line of which a part was
    taken goes on before any other.
    """

    def __init__(self, output: TextIO) -> None:
        super().__init__(output)
        self._number = output.fileno()
        self._room = select.poll()
        self._room.register(self._number, select.POLLOUT)
        self._rest = b""

    def write(self, line: bytes) -> bool:
        """True if *line* was taken, or its beginning."""
        self._go_on()
        if self._rest or not self._has_room():
            return False
        self._rest = line
        self._go_on()
        return True

    def _go_on(self) -> None:
        while self._rest and self._has_room():
            self._rest = self._rest[_written(self._number, self._rest[:_PIPE_BYTES]) :]

    def _has_room(self) -> bool:
        return bool(self._room.poll(0))


def _written(number: int, part: bytes) -> int:
    """How many bytes of *part* are gone: all, where nobody is left who could read them."""
    try:
        return os.write(number, part)
    except OSError:
        return len(part)


def _sink_of(output: TextIO) -> _Sink:
    try:
        return _Descriptor(output)
    except OSError:
        return _Sink(output)
