"""
What a steady load takes of the disk, day after day, with what is older than thirty days archived and without.

The days are the log's own: each brings the same number of jobs, and in the one run what ended thirty days before is
archived at its end. Run as ``python -m bench.disk``; writes bench/results/disk.svg.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bench.fill import batch_of, lifecycle
from jobsvc.domain.ids import RANDOM_BYTES, IdMaker
from jobsvc.memory import Memory, Stage
from jobsvc.operate.archive import archive
from jobsvc.store.driver import connect
from jobsvc.store.seam import Found
from jobsvc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Sequence

DAYS: Final = 90
KEPT_DAYS: Final = 30
JOBS_PER_DAY: Final = 200
_DAY_US: Final = 86_400_000_000
_START: Final = 1_764_000_000_000_000
_MIB: Final = 1_048_576
_WIDTH: Final = 760
_HEIGHT: Final = 380
_LEFT: Final = 70
_BOTTOM: Final = 330
_RIGHT: Final = 170
_FONT: Final = 'font-family="sans-serif" font-size="12"'
_COLOURS: Final = ("#9aa0a6", "#2f7ed8", "#0d9b6c")


class Day(Struct, frozen=True):
    """What the file takes at the end of a day, in MiB: in all, and without the segments and the pages that are free."""

    whole: float
    live: float


async def days_of(database: Path, *, archiving: bool) -> list[Day]:
    """One day after the other of a steady load on *database*, which is new."""
    store, ids, memory = SqliteStore(database), IdMaker(), Memory()
    memory.load(await store.open())
    days: list[Day] = []
    try:
        for day in range(DAYS):
            now = _START + day * _DAY_US
            stage = Stage(memory, Found())
            for number in range(day * JOBS_PER_DAY, (day + 1) * JOBS_PER_DAY):
                for event in lifecycle(ids.make(now, os.urandom(RANDOM_BYTES)), number, now=now):
                    stage.add(event, max(now, stage.last_at))
            memory.commit(stage, await store.append(batch_of(stage), decided_at=memory.position))
            if archiving:
                await archive(store, ended_before=now - KEPT_DAYS * _DAY_US, now=now)
            await store.checkpoint()
            days.append(await asyncio.to_thread(_measured, database))
    finally:
        await store.close()
    return days


def _measured(database: Path) -> Day:
    raw = connect(database, read_only=True)
    try:
        (pages, free, size, archived) = (
            raw.execute(sql).fetchall()[0][0]
            for sql in (
                "PRAGMA page_count",
                "PRAGMA freelist_count",
                "PRAGMA page_size",
                "SELECT coalesce(sum(length(body)), 0) FROM segments",
            )
        )
    finally:
        raw.close()
    return Day(pages * size / _MIB, ((pages - free) * size - archived) / _MIB)


def curves_svg(curves: Sequence[tuple[str, Sequence[float]]]) -> str:
    """The plot of *curves*, each a name and a value a day."""
    most = max(max(values) for _, values in curves)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15">MiB of the file by day, {JOBS_PER_DAY * 4:,} events a day</text>',
    ]
    for part in range(5):
        y = _y(most * part / 4, most)
        lines.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{most * part / 4:.0f}</text>')
    lines += [
        f'<text x="{_x(day):.1f}" y="{_BOTTOM + 20}" text-anchor="middle">day {day}</text>'
        for day in range(0, DAYS + 1, 30)
    ]
    for (name, values), colour in zip(curves, _COLOURS, strict=True):
        points = " ".join(f"{_x(day + 1):.1f},{_y(value, most):.1f}" for day, value in enumerate(values))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _y(values[-1], most) + 4
        lines.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{y:.1f}" fill="{colour}">{name} {values[-1]:.1f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _x(day: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * day / DAYS


def _y(value: float, most: float) -> float:
    return _BOTTOM - (_BOTTOM - 50) * value / most


def main() -> None:
    """The curves of both runs, plotted, and where they end, printed."""
    with tempfile.TemporaryDirectory(prefix="jobsvc-disk-") as folder:
        without = asyncio.run(days_of(Path(folder) / "without.db", archiving=False))
        archived = asyncio.run(days_of(Path(folder) / "with.db", archiving=True))
    curves = [
        ("nothing archived", [day.whole for day in without]),
        ("archived, in all", [day.whole for day in archived]),
        ("its live part", [day.live for day in archived]),
    ]
    Path("bench/results/disk.svg").write_text(curves_svg(curves), encoding="utf-8")
    for name, values in curves:
        print(f"{name}: {values[KEPT_DAYS]:.1f} MiB after {KEPT_DAYS} days, {values[-1]:.1f} MiB after {DAYS}")


if __name__ == "__main__":
    main()
