"""
The places: a point in the log as an operator names it, by position or by time, and the position that it means.

The log never runs backwards in time, so a moment is found by halving: no index of times is kept. Nothing here knows
what happened at a place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.domain.moments import parse_rfc3339
from jobsvc.domain.words import Micros

if TYPE_CHECKING:
    from jobsvc.store.seam import Store


_DIGITS_MAX: Final = 18
"""More would not fit where positions are kept."""


class Place(Struct, frozen=True):
    """
    A point in the log: right after the event at ``position``, or after the last one that was not later than ``at``.

    One of the two is None.
    """

    position: int | None = None
    at: Micros | None = None


def parse_place(text: str) -> Place:
    """
    The place that *text* names: a position, or a time with its offset.

    Raises:
        ValueError: It names none; the message says what would.
    """
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX:
        return Place(position=int(text))
    try:
        return Place(at=parse_rfc3339(text))
    except (ValueError, OverflowError) as error:
        message = f"a place in the log is a position or a time with its offset, not {text!r}"
        raise ValueError(message) from error


async def position_of(store: Store, place: Place | None) -> int:
    """
    The position that *place* means: 0 before the first event; the head for None and for whatever lies beyond it.

    Cost: the head, and for a time about twenty look-ups of one event in a log of a million.
    """
    head = await store.read_head()
    if place is None:
        return head.position
    if place.position is not None:
        return min(place.position, head.position)
    if place.at is None or place.at >= head.at:
        return head.position
    return await _last_not_after(store, place.at, head=head.position)


async def _last_not_after(store: Store, moment: Micros, *, head: int) -> int:
    """The position of the last event up to *head* that was not later than *moment*, by halving."""
    least, most = 0, head
    while least < most:
        middle = (least + most + 1) // 2
        found = await store.read_events(after=middle - 1, limit=1, until=most)
        if found and found[0].at <= moment:
            least = found[0].position
        else:
            most = middle - 1
    return least
