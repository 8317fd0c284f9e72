"""
Plots: groups of bars on a scale of powers of ten, as SVG that any page can show.

Text and rectangles only, in colours that are told apart on light and dark pages alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH: Final = 760
_LEFT: Final = 130
_RIGHT: Final = 90
_ROW: Final = 20
_GAP: Final = 34
_TOP: Final = 44
_FONT: Final = 'font-family="sans-serif" font-size="12"'
_FIRST_COLOUR: Final = "#2f7ed8"
_OTHER_COLOUR: Final = "#9aa0a6"


class Bars(Struct, frozen=True):
    """One group: what it is of, and each bar's name and value, all above zero. The first bar is the one to look at."""

    title: str
    values: Sequence[tuple[str, float]]


def bars_svg(groups: Sequence[Bars], *, title: str, unit: str) -> str:
    """The plot of *groups*, one below the other."""
    values = [value for group in groups for _, value in group.values]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    height = _TOP + sum(_GAP + _ROW * len(group.values) for group in groups) + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}, {escape(unit)}, each mark ten times the last</text>',
        *_scale(low, high, height),
        *_groups(groups, low, high),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _scale(low: int, high: int, height: int) -> Iterator[str]:
    for power in range(low, high + 1):
        x = _at(10.0**power, low, high)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - 20}" stroke="#dddddd"/>'
        yield f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle" fill="#555555">{10**power:,}</text>'


def _groups(groups: Sequence[Bars], low: int, high: int) -> Iterator[str]:
    y = _TOP
    for group in groups:
        y += _GAP
        yield f'<text x="12" y="{y - 8}" font-weight="bold">{escape(group.title)}</text>'
        for number, (name, value) in enumerate(group.values):
            x, colour = _at(value, low, high), _OTHER_COLOUR if number else _FIRST_COLOUR
            yield f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            yield f'<rect x="{_LEFT}" y="{y + 2}" width="{x - _LEFT:.1f}" height="{_ROW - 5}" fill="{colour}"/>'
            yield f'<text x="{x + 5:.1f}" y="{y + 13}">{value:,.0f}</text>'
            y += _ROW


def _at(value: float, low: int, high: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (log10(value) - low) / max(1, high - low)
