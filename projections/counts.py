"""
The projection ``counts``: how many events of each type there were, and when the last one was.

The smallest example of a projection that catches up from a checkpoint: it is not written with the events, so it may be
a moment behind, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from jobsvc.domain.events import Event


class Count(Struct, frozen=True):
    """How many, and the moment of the last."""

    events: int
    last_at: int


class Counts:
    """The number of events by type."""

    name = "counts"
    version = 1
    row_type = Count

    def key(self, event: Event) -> str:
        """The row that *event* belongs to: its type."""
        return event.type

    def apply(self, row: Count | None, event: Event) -> Count | None:
        """One more."""
        return Count(1 if row is None else row.events + 1, event.at)
