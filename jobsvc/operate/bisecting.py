"""
The search for the event that made something so.

A predicate is one comparison: ``state=failed`` of a job, ``active>=100`` of the whole log. It is read into three words
and compared; nothing that a caller writes is ever run. One pass finds every turn, where halving would find only one of
a predicate that comes and goes: of a job over its own stream, of the log over its types of events.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, json

from jobsvc.domain.events import Cancelled, Completed, Created, EventType, Expired, Failed
from jobsvc.domain.job import evolve
from jobsvc.domain.moments import rfc3339
from jobsvc.resource import Id, JobResource, Moment, Place, Position, job_resource
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.store.seam import Store

ACTIVE_COUNT: Final = "active"
"""The one thing that a predicate on the whole log may be about: how many jobs are active."""

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM: Final = re.compile(r"\s*([a-z_]+(?:\.[a-z_]+)?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_PARTS: Final = {"progress": ("percent", "message"), "error": ("code", "message")}
_FIELDS: Final = frozenset(
    {*JobResource.__struct_fields__} - {"input", "metadata", "result", "omitted", "lease_expires_at", *_PARTS}
) | {f"{name}.{part}" for name, parts in _PARTS.items() for part in parts}


class UnusablePredicate(ValueError):
    """It is no comparison, or compares what there is not; the message says what would do."""


class Predicate(Struct, frozen=True):
    """
    One comparison.

    Attributes:
        field: Of a job, or ``active`` for the count.
        comparison: One of = != < <= > >=.
        text: What it is compared with where the field is a text.
        value: The same as a number, true, false or null, if it is one.
    """

    field: str
    comparison: str
    text: str
    value: Any

    def holds(self, value: object) -> bool:
        """True if *value* compares so. Order is between two numbers or two texts; nothing else has one."""
        wanted = self.text if isinstance(value, str) else self.value
        if self.comparison not in {"=", "!="} and (_order(value) is None or _order(value) != _order(wanted)):
            return False
        return bool(_COMPARISONS[self.comparison](value, wanted))


class Turn(Struct, frozen=True):
    """An event by which the predicate came to hold, and the value before and after it."""

    position: Position
    job_id: Id
    version: int
    type: EventType
    at: Moment
    before: Any
    after: Any


class Bisected(Struct, frozen=True):
    """
    Which event made it so.

    Attributes:
        predicate: As it was read.
        since: Where the search began.
        until: Where it ended.
        holds: It is so at the end.
        turns: How many events made it so.
        first: The first of them.
        last: The last of them: if it is so at the end, what it has been so since.
    """

    predicate: str
    since: Place
    until: Place
    holds: bool
    turns: int
    first: Turn | None = None
    last: Turn | None = None


def parse_predicate(text: str, *, of_job: bool) -> Predicate:
    """
    The predicate that *text* is.

    Args:
        text: FIELD COMPARISON VALUE, with or without spaces between.
        of_job: It is about one job; else about the whole log.

    Raises:
        UnusablePredicate: It is none.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UnusablePredicate("a predicate is FIELD=VALUE, or with != < <= > >= instead: state=failed, active>=100")
    field, comparison, value = found.groups()
    if of_job and field not in _FIELDS:
        raise UnusablePredicate(f"a job has no field {field!r} to compare; it has {', '.join(sorted(_FIELDS))}")
    if not of_job and (field != ACTIVE_COUNT or not re.fullmatch(r"\d{1,12}", value, re.ASCII)):
        raise UnusablePredicate(
            "of the whole log the count of active jobs is compared: active>=100; a job is to be named"
        )
    return Predicate(field, comparison, value, _value(value))


async def bisect(
    store: Store,
    predicate: Predicate,
    *,
    job_id: JobId | None = None,
    since: int,
    until: int,
    progress: Callable[[int], None] | None = None,
) -> Bisected:
    """
    Every event above *since* and up to *until* by which *predicate* came to hold: how many, the first and the last.

    Cost: a fold of the job's stream, or about 3 µs an event of the log; constant memory.
    """
    first: Turn | None = None
    last: Turn | None = None
    turns = 0
    before: object = 0 if job_id is None else None
    # A job that is not yet there is nothing, not even unequal to something.
    held = job_id is None and predicate.holds(before)
    async for event, value in _values(store, predicate, job_id=job_id, until=until):
        holds = predicate.holds(value)
        if holds and not held and event.position > since:
            turns += 1
            last = _turn(event, before, value)
            first = first or last
        held, before = holds, value
        if progress is not None and event.position % ROWS_PER_PAGE_MAX == 0:
            progress(event.position)
    shown = f"{predicate.field}{predicate.comparison}{predicate.text}"
    return Bisected(shown, since, until, held, turns, first, last)


async def _values(
    store: Store, predicate: Predicate, *, job_id: JobId | None, until: int
) -> AsyncIterator[tuple[Event, object]]:
    """After each event: the value that *predicate* compares."""
    job: Job | None = None
    active = reached = 0
    while events := await store.read_events(after=reached, limit=ROWS_PER_PAGE_MAX, job_id=job_id, until=until):
        for event in events:
            if job_id is None:
                active += _step(event)
                yield event, active
            else:
                job = evolve(job, event)
                yield event, _field(job, predicate.field)
        reached = events[-1].position


def _step(event: Event) -> int:
    """By how many *event* changes the count of active jobs."""
    match event.facts:
        case Created():
            return 1
        case Completed() | Failed() | Cancelled() | Expired():
            return -1
        case _:
            return 0


def _field(job: Job, name: str) -> object:
    """The field *name* of *job* as the outside sees it; a part of a field that is null is null too."""
    whole, _, part = name.partition(".")
    value: object = getattr(job_resource(job), whole)
    return getattr(value, part) if part and value is not None else value


def _turn(event: Event, before: object, after: object) -> Turn:
    return Turn(event.position, event.job_id, event.version, event.type, rfc3339(event.at), before, after)


def _order(value: object) -> type | None:
    """Among what *value* has an order."""
    if isinstance(value, bool):
        return None
    return float if isinstance(value, int | float) else str if isinstance(value, str) else None


def _value(text: str) -> Any:  # noqa: ANN401  # what JSON can say in one word
    """What *text* says: a number, true, false, null, or itself."""
    if text in {"true", "false", "null"} or re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", text, re.ASCII):
        return json.decode(text)
    return text
