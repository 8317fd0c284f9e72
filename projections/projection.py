"""
What a projection is: a small class that anyone can write.

Three things and no more: a ``name``, a ``version`` to be raised when the meaning of its rows changes, and ``apply``,
a pure fold. A projection that catches up may add ``key`` (which row an event belongs to; the job's, if it does not say)
and ``row_type`` (a msgspec Struct or a builtin, for reading its rows back). One that is written with the events may add
``keeps``: which of its rows the view keeps; the others only carry the fold from event to event.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.domain.events import Event


class Projection(Protocol):
    """A fold of the log into rows."""

    name: str
    version: int

    def apply(self, row: Any, event: Event) -> Any:  # noqa: ANN401  # rows are whatever the projection says they are
        """
        The row after *event*, None for no row.

        Must not look at a clock, make an id, do IO or change *row*: it is run again over the same events.
        """
        ...


def row_key(projection: Projection) -> Callable[[Event], str]:
    """What gives the key of the row that an event belongs to in *projection*."""
    key: Callable[[Event], str] | None = getattr(projection, "key", None)
    return key or job_id_of


job_id_of: Final[Callable[[Event], str]] = attrgetter("job_id")
"""The job that an event happened to: where a projection says nothing else, each has a row."""


def is_kept(projection: Projection) -> Callable[[Any], bool]:
    """What says whether the view of *projection* keeps a row."""
    keeps: Callable[[Any], bool] | None = getattr(projection, "keeps", None)
    return keeps or _always


def _always(_: object) -> bool:
    return True


def row_type(projection: Projection) -> Any:  # noqa: ANN401  # a type for msgspec to decode into
    """The type of *projection*'s rows, for reading them back."""
    return getattr(projection, "row_type", Any)
