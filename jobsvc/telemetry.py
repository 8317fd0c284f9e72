"""
What the service says about itself in lines: the catalogue of its own log.

What lives here: each line's event and level, when it is written, the fields that it may have, and what whoever reads it
should do; docs/operations.md lists them from here. A line tells one outcome; its level says who should care: info is a
fact, warning means that someone will wait, error means that someone must act. How lines look and where they go stands
in jobsvc/lines.py.

What must never live here, nor in any line: payloads, tokens, secrets, cookies. The fields are closed so that the type
checker refuses them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict, get_args

from jobsvc.domain.errors import StoreDown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

InfoEvent = Literal[
    "service.started",
    "service.draining",
    "service.stopped",
    "store.recovered",
    "ledger.answered",
    "request.refused",
    "operator.acted",
    "projection.rebuilt",
    "log.archived",
    "token.revoked",
    "log.left_out",
    "provider.keys_changed",
]
"""Facts."""

WarningEvent = Literal[
    "service.secret_short",
    "ledger.behind",
    "request.put_off",
    "stream.cut",
    "stream.parked",
    "fast_path.off",
    "library.message",
    "provider.unreachable",
]
"""Someone will wait."""

ErrorEvent = Literal[
    "store.down",
    "store.still_down",
    "ledger.fault",
    "sweeper.failed",
    "handover.failed",
    "archiver.failed",
    "gauge.failed",
    "projection.parked",
    "projection.held",
    "doctor.found",
    "doctor.failed",
    "act.failed",
    "request.failed",
    "feed.fault",
    "stream.failed",
    "loop.fault",
    "process.fault",
]
"""Someone must act."""

LogEvent = InfoEvent | WarningEvent | ErrorEvent

LEVELS: Final[dict[LogEvent, int]] = {
    **dict.fromkeys(get_args(InfoEvent), logging.INFO),
    **dict.fromkeys(get_args(WarningEvent), logging.WARNING),
    **dict.fromkeys(get_args(ErrorEvent), logging.ERROR),
}
"""Each event's level."""

RATIONED: Final[frozenset[str]] = frozenset({"request.refused", "request.put_off", "request.failed", "library.message"})
"""Events that callers can bring about as often as they like: at most so many lines of each a second, and a count."""


class Fields(TypedDict, total=False):
    """
    What a log line may tell besides its event. None stands for nothing, and is left out.

    ``cause`` is the type and the text of an exception of the driver's or the system's, which carry no payloads.
    ``reason`` is a word of ours or, in ``operator.acted``, what an operator gave as one.
    """

    actor: str | None
    act: str | None
    role: str | None
    job_id: str | None
    position: int | None
    epoch: str | None
    code: str | None
    events: Mapping[str, int] | None
    reason: str | None
    cause: str | None
    request_id: str | None
    whose: str | None
    request_ids: list[str] | None
    method: str | None
    route: str | None
    projection: str | None
    count: int | None
    types: Mapping[str, int] | None
    duration_ms: float | None


FIELD_NAMES: Final = frozenset(Fields.__annotations__)


class Line(NamedTuple):
    """
    One line of the catalogue.

    Attributes:
        says: When it is written, and what it tells.
        fields: The fields that it may have, besides ``at``, ``level`` and ``event``.
        act: What whoever reads it should do.
    """

    says: str
    fields: tuple[str, ...]
    act: str


_REQUEST: Final = ("code", "method", "route", "role", "request_id", "duration_ms")

LINES: Final[Mapping[LogEvent, Line]] = {
    "service.started": Line("The service takes requests.", ("position", "epoch"), "Nothing."),
    "service.draining": Line(
        "SIGTERM or SIGINT came, or the store is beyond repair; so many streams are told to go.",
        ("count",),
        "Nothing. If nobody asked for it, look for `store.down` above.",
    ),
    "service.stopped": Line("Everything is written and closed; the last line.", (), "Nothing."),
    "store.recovered": Line(
        "The store takes appends again; the memory is what it says.", ("position",), "Find out why it was down."
    ),
    "ledger.answered": Line(
        "A batch of commands was done as asked: the requests that they came by, the events that they became, by type, "
        "and the head after them. What the service does by itself has no request.",
        ("position", "types", "request_ids"),
        "Nothing. A request id leads from here to its events in the log.",
    ),
    "request.refused": Line(
        "A request, or that many parts of one, was refused, and the caller knows why.",
        (*_REQUEST, "count"),
        "Nothing, unless there are many of one code: then a caller has a fault.",
    ),
    "operator.acted": Line(
        "An operator sent something other than a GET; `code` is there if it was refused.",
        ("actor", "act", "job_id", "projection", "reason", "code", "request_id"),
        "Nothing. What the act did stands in the log under the same request id.",
    ),
    "projection.rebuilt": Line(
        "A view was made anew, of so many rows.",
        ("projection", "actor", "count"),
        "Nothing.",
    ),
    "log.archived": Line(
        "So many events of jobs that ended long ago were archived, the newest at that position.",
        ("position", "count"),
        "Nothing.",
    ),
    "token.revoked": Line(
        "The tokens of a subject, or one token, count no more.", ("actor", "whose", "reason"), "Nothing."
    ),
    "provider.keys_changed": Line(
        "The identity provider lists other keys than before; so many are known now.", ("count",), "Nothing."
    ),
    "log.left_out": Line(
        "Since the last such line, so many lines were not written, by event: there were too many of it in a second, or "
        "nobody read the log.",
        ("count", "events"),
        "Look at `jobsvc_refusals_total`, which counts them all.",
    ),
    "service.secret_short": Line(
        "The configured secret can be guessed from one token.",
        ("reason",),
        "Take 32 characters or more.",
    ),
    "ledger.behind": Line(
        "Somebody else appended to the log; so many events were taken in before the batch was decided again.",
        ("position", "count"),
        "Make sure that only one service runs on the file.",
    ),
    "request.put_off": Line(
        "A request, or that many parts of one, was told to come back later: a bound is reached, the service drains, or "
        "the store is down.",
        (*_REQUEST, "count"),
        "If it lasts: raise the bound that `code` names, or see why the store is slow or down.",
    ),
    "stream.cut": Line(
        "So many streams had not gone when the drain window ended.", ("count", "reason"), "Nothing; they resume."
    ),
    "stream.parked": Line(
        "Streams keep their request and cost more memory: this aiohttp or event loop does not let go of a transport.",
        (),
        "Nothing at once. Take an aiohttp that the service was tested with.",
    ),
    "fast_path.off": Line(
        "Requests take the long way and cost more: this aiohttp's parser does not read as it should.",
        (),
        "Nothing at once. Take an aiohttp that the service was tested with.",
    ),
    "library.message": Line(
        "A library has something to say. Only the fixed part of its words is written, with the place in its code.",
        ("library", "message", "place", "traceback"),
        "Look at the place; if it comes often, report it.",
    ),
    "provider.unreachable": Line(
        "The identity provider's keys could not be fetched, or are none. So many that it listed last go on.",
        ("cause", "count"),
        "See to the provider, or to `idp_jwks`: users with a token under a newer key are refused.",
    ),
    "store.down": Line(
        "A commit failed or its outcome is unknown. Commands are answered 503 until `store.recovered`.",
        ("code", "cause"),
        "`full`: make room. `busy`: end whoever holds the file. `io`, `corrupt`: see the disk; the service ends.",
    ),
    "store.still_down": Line("It was tried again, in vain; once a second.", ("code", "cause"), "As `store.down`."),
    "ledger.fault": Line(
        "A command could not be decided, or someone who was to be told of a commit failed.",
        ("traceback",),
        "Report it: this is a fault of the service.",
    ),
    "sweeper.failed": Line(
        "What came due was not brought about; it is tried again.", ("traceback",), "Report it, if it comes again."
    ),
    "handover.failed": Line(
        "The ended jobs of a claimed guest did not move to the user; it is tried again.",
        ("traceback",),
        "Report it, if it comes again.",
    ),
    "archiver.failed": Line(
        "What is old was not archived; it is tried again when it is time again.",
        ("traceback",),
        "Run `jobsvc verify`; if that finds nothing, report it.",
    ),
    "gauge.failed": Line(
        "How many streams are open and how far behind could not be looked at; the next look comes in its turn.",
        ("traceback",),
        "Report it: this is a fault of the service.",
    ),
    "projection.parked": Line(
        "A view that catches up met an event that it cannot take in. Of that job it takes in nothing from there on; "
        "the other jobs go on.",
        ("projection", "job_id", "position", "traceback"),
        "Mend the projection, then `jobsvc parked NAME --retry JOB`, or `--discard JOB` to leave this event out.",
    ),
    "projection.held": Line(
        "A view that catches up stands still: the store was away, an event is of a type that this version does not "
        "know, or too many jobs would be parked.",
        ("projection", "traceback"),
        "Unless `store.down` stands near it: mend the projection, or serve with the version that wrote the log.",
    ),
    "doctor.found": Line(
        "The service's own rounds found something wrong that was not wrong before: which check, and what.",
        ("code", "reason"),
        "`jobsvc doctor` says all that is wrong; docs/replay.md what to do about it.",
    ),
    "doctor.failed": Line(
        "A look of the service's own rounds met a fault of ours; the next look comes in its turn.",
        ("traceback",),
        "Report it: this is a fault of the service.",
    ),
    "act.failed": Line(
        "An operator's verb met a fault of ours, or what is stored contradicts itself.",
        ("act", "traceback"),
        "Run `jobsvc verify`; if that finds nothing, report it.",
    ),
    "request.failed": Line(
        "A request met a fault of ours and was answered 500, or its stream was cut.",
        ("method", "route", "role", "request_id", "duration_ms", "traceback"),
        "Report it: this is a fault of the service.",
    ),
    "feed.fault": Line(
        "Someone who was to be told of an event failed; the others were told.",
        ("traceback",),
        "Report it: this is a fault of the service.",
    ),
    "stream.failed": Line(
        "A stream met a fault of ours, or the store was away while it caught up; it was cut, and its client resumes.",
        ("traceback",),
        "Report it, unless `store.down` stands near it.",
    ),
    "loop.fault": Line("Something failed that nobody waited for.", ("traceback",), "Report it."),
    "process.fault": Line(
        "Something failed outside of the loop: the program itself, which then ends, a thread, or a finalizer.",
        ("reason", "traceback"),
        "Report it: this is a fault of the service.",
    ),
}
"""The catalogue."""

_LOGGER: Final = logging.getLogger("jobsvc")


def is_written(event: LogEvent) -> bool:
    """True if a line of *event* would be written: whether making its fields is worth the while. Cost: 0.1 µs."""
    return _LOGGER.isEnabledFor(LEVELS[event])


def log(event: LogEvent, **fields: Unpack[Fields]) -> None:
    """One line says that *event* happened, at the catalogue's level. Cost: 10 µs, or 0.2 µs if it is not shown."""
    level = LEVELS[event]
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, event, extra={"fields": fields})


def cause_of(error: BaseException) -> str:
    """What is behind *error*: of a store that is down the driver's or the system's own words, else its type only."""
    return repr(error.__cause__ or error) if isinstance(error, StoreDown) else type(error).__name__


def log_failure(event: ErrorEvent, error: BaseException, **fields: Unpack[Fields]) -> None:
    """As `log`, with the places that *error* came through: for what should never happen."""
    _LOGGER.log(LEVELS[event], event, extra={"fields": fields}, exc_info=error)
