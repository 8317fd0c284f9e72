"""
Figures: what a measurement found, as a median of rounds with its spread, and perhaps what it is held against.

Only ratios within one run are held against anything: absolute figures say as much about the machine as about the code.
No clock, no process and no file here.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from msgspec import Struct


class Bound(Struct, frozen=True):
    """What a ratio has to keep: at least or at most *value*; *aim* is what it would be good to reach."""

    side: Literal["at least", "at most"]
    value: float
    aim: float | None = None

    def kept_by(self, value: float) -> bool:
        """True if *value* is on the right side."""
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
        rounds: How many there were.
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


def figure(name: str, unit: str, *, values: Sequence[float], bound: Bound | None = None, note: str = "") -> Figure:
    """The figure that *values*, one a round, come to."""
    return Figure(name, unit, median(values), min(values), max(values), len(values), bound, note)


def ratio(name: str, above: Sequence[float], *, below: Sequence[float], bound: Bound | None = None) -> Figure:
    """*above* over *below*, round by round: what disturbs the machine for long disturbs both."""
    return figure(name, "ratio", values=[a / b for a, b in zip(above, below, strict=True)], bound=bound)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which *share* of *values* lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
