"""
A few: who is in, in the order in which they came, for what nearly always has one in it and may have thousands.

None is nobody, one stands for itself, and only more than one are a dict. An idle stream is alone in its channel, its
channel alone under its owner, and it is its principal's only one: three dicts less a stream are half of what it weighs.
Values, not an object: each change gives the few that there are then, and whoever keeps them keeps what is given back.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

One = TypeVar("One")
Few: TypeAlias = One | dict[One, None] | None
"""*One* is never None and never a dict, and can be told from others by ``==``."""


def with_one(few: Few[One], one: One) -> Few[One]:
    """*few* with *one* in it, last if it is new."""
    if few is None or few == one:
        return one
    if not isinstance(few, dict):
        few = {few: None}
    few[one] = None
    return few


def without(few: Few[One], one: One) -> Few[One]:
    """*few* without *one*, whether it was in it or not."""
    if isinstance(few, dict):
        few.pop(one, None)
        return few or None
    return None if few == one else few


def each(few: Few[One]) -> list[One]:
    """Those who are in it now; what comes and goes meanwhile changes nothing in the list."""
    if isinstance(few, dict):
        return list(few)
    return [] if few is None else [few]


def has(few: Few[One], one: One) -> bool:
    """True if *one* is in it."""
    return one in few if isinstance(few, dict) else few is not None and few == one


def count(few: Few[One]) -> int:
    """How many are in it."""
    if isinstance(few, dict):
        return len(few)
    return 0 if few is None else 1
