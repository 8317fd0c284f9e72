"""
Where a verb shows a stream as it comes: nowhere, as plain lines, or as colour and a bar that fills.

What must never live here: reading the stream, or judging it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from jobsvc.client import Change


class Screen(Protocol):
    """Where the stream is shown."""

    def expect(self, jobs: int) -> None:
        """So many jobs there are in all."""
        ...

    def show(self, change: Change) -> None:
        """This happened."""
        ...

    def close(self) -> None:
        """Nothing more happens."""
        ...


class Silent:
    """For programs, which read the counts."""

    def expect(self, jobs: int) -> None:
        """Nobody looks."""

    def show(self, change: Change) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """Nobody looked."""


class Lines:
    """Plain lines, where the output is not a terminal."""

    def expect(self, jobs: int) -> None:
        """Lines need no total."""

    def show(self, change: Change) -> None:
        """One line an event."""
        click.echo(_line(change))

    def close(self) -> None:
        """Every line is out already."""


class Bar:
    """Lines in colour above a bar that fills as jobs end."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._row = self._bar.add_task("jobs", total=None)
        self._bar.start()

    def expect(self, jobs: int) -> None:
        """The bar is full at so many."""
        self._bar.update(self._row, total=jobs)

    def show(self, change: Change) -> None:
        """One line an event; the bar moves when a job ends."""
        from rich.text import Text

        style = {"completed": "green", "failed": "red", "running": "cyan"}.get(change.job.state, "")
        self._bar.console.print(Text(_line(change), style=style))
        if not change.job.active:
            self._bar.advance(self._row)

    def close(self) -> None:
        """The bar stays as it is."""
        self._bar.stop()


def _line(change: Change) -> str:
    """For example: ``   12  job.progressed  x:post:20  40 %  reading replies``."""
    progress = change.job.progress
    how_far = "" if progress is None or progress.percent is None else f"{progress.percent:3.0f} %"
    message = "" if progress is None or progress.message is None else progress.message
    by = change.job.worker or "" if change.type == "job.started" else message
    return f"{change.position:>5}  {change.type:<15} {change.job.key or change.job.id:<28} {how_far:>5}  {by}".rstrip()
