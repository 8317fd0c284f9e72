"""
Figures: what a measurement found, as a median of rounds with its spread, and perhaps what it is held against.

Only ratios within one run are held against anything: absolute figures say as much about the machine as about the code.
No clock, no process and no file here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from statistics import median
from typing import Literal

from msgspec import Struct


class Bound(Struct, frozen=True):
    """What a ratio has to keep: at least or at most *value*; *aim* is what it would be good to reach."""

    side: Literal["at least", "at most"]
    value: float
    aim: float | None = None

    def kept_by(self, value: float) -> bool:
        """True if *value* is on the right side; what was not measured is on no side."""
        return value >= self.value if self.side == "at least" else value <= self.value

    def __str__(self) -> str:
        aim = "" if self.aim is None else f" (aim {self.aim:g})"
        return f"{self.side} {self.value:g}{aim}"


class Figure(Struct, frozen=True):
    """
    One line of the results.

    Attributes:
        name: What was measured, in words.
        unit: Of the values; ``ratio`` for one.
        value: The median of the rounds.
        lowest: The least of them.
        highest: The greatest of them.
        rounds: How many there were; with none the three above are no numbers (NaN).
        bound: What it is held against, if anything.
        note: What a reader has to know besides.
    """

    name: str
    unit: str
    value: float
    lowest: float
    highest: float
    rounds: int
    bound: Bound | None = None
    note: str = ""


class Section(Struct, frozen=True):
    """The figures of one measurement, and why nothing was measured where nothing was (``missing``)."""

    name: str
    title: str
    figures: Sequence[Figure]
    missing: str = ""


def figure(
    name: str, unit: str, *, values: Sequence[float | None], bound: Bound | None = None, note: str = ""
) -> Figure:
    """The figure that *values*, one a round, come to; None for a round in which nothing could be measured."""
    found = [value for value in values if value is not None]
    if not found:
        return Figure(name, unit, nan, nan, nan, 0, bound, note)
    return Figure(name, unit, median(found), min(found), max(found), len(found), bound, note)


def ratio(
    name: str, above: Sequence[float | None], *, below: Sequence[float | None], bound: Bound | None = None
) -> Figure:
    """*above* over *below*, round by round: what disturbs the machine for long disturbs both."""
    pairs = zip(above, below, strict=True)
    return figure(name, "ratio", values=[None if a is None or b is None else a / b for a, b in pairs], bound=bound)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which *share* of *values* lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
