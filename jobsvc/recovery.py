"""
The recovery: what the store says once it can be opened again, after a commit whose outcome nobody knows.

Only the store knows whether it was written. So it is opened anew, tried with an empty append, and asked for whatever
came about unknown to memory. What must never live here: who waits, or what memory becomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.changes import Change, read_changes
from jobsvc.domain.errors import Corrupt, StoreDown
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Batch, Needs, Opening
from jobsvc.takeovers import claimed_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobsvc.store.seam import Store

BEYOND_REPAIR: Final = frozenset({"io", "corrupt"})
"""Kinds of failure that no other try from here can mend."""


class Reopened(Struct, frozen=True):
    """
    What the store says.

    Attributes:
        opening: All that memory has to be.
        missed: What was committed although we were told that it was not.
        spent: Of the guests asked about, those that were taken over after all, with their new owners.
    """

    opening: Opening
    missed: list[Change]
    spent: dict[str, str]


async def reopened(store: Store, *, before: int, guests: Iterable[str]) -> Reopened:
    """
    *store* is open again and takes appends; what came after the position *before*, and which of *guests* are spent.

    Raises:
        StoreDown: It is still down.
    """
    opening = await store.reopen()
    await store.append(Batch((), ()), decided_at=opening.head.position)
    missed = await _missed(store, before, opening.head.position)
    found = await store.look_up(Needs(marks=frozenset(map(claimed_key, guests))))
    return Reopened(opening, missed, {mark.principal: mark.answer.decode() for mark in found.marks.values()})


def as_store_down(error: Exception) -> StoreDown:
    """*error*, whatever a broken store came up with, as the failure that it is."""
    if isinstance(error, StoreDown):
        return error
    return StoreDown(kind="corrupt" if isinstance(error, Corrupt) else "other")


async def _missed(store: Store, before: int, head: int) -> list[Change]:
    missed: list[Change] = []
    while before < head:
        missed += await read_changes(store, after=before, limit=ROWS_PER_PAGE_MAX)
        before = missed[-1].event.position
    return missed
