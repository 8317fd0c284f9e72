"""
The verbs about what is kept: ``archive``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from jobsvc.cli.held import through_service
from jobsvc.cli.options import Length, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, repairing

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.operate.archive import ArchiveReport


@click.command(epilog="Example: jobsvc archive --older-than 30d --database jobs.db")
@click.option(
    "--older-than",
    "older_than_s",
    type=Length(least=0),
    default="30d",
    show_default=True,
    help="Ended jobs of which nothing has happened for this long.",
)
@settings_options
@output_option
def archive(
    *, older_than_s: float, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object
) -> None:
    """
    Move the streams of jobs that ended long ago from the live log to segments.

    Replay, verify and /api/log read on through them; lists and reuse leave the jobs out. If it was stopped, run it
    again. The service may be running; it does the work then, and by itself every hour.
    """
    from jobsvc.operate.archive import ArchiveReport

    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    report = through_service(loaded, "archive", body={"older_than_s": older_than_s}, answer=ArchiveReport)
    if report is None:
        report = asyncio.run(_archived(loaded.settings.database_path, older_than_s))
    if output == "json":
        print_json(report)
        return
    click.echo(f"{report.jobs} jobs archived, {report.events} events; archived through {report.archived_through}")
    if report.held_back_by is not None:
        click.echo(f"no further than {report.until}: {report.held_back_by} has not taken in more", err=True)


async def _archived(database: Path, older_than_s: float) -> ArchiveReport:
    from jobsvc.operate.archive import archive as move
    from jobsvc.operate.views import CATCH_UP, catch_up_with

    now = time.time_ns() // 1000
    async with repairing(database) as store:
        for projection in CATCH_UP:
            await catch_up_with(store, projection)
        with counting("archiving", 0) as progress:
            return await move(store, ended_before=now - int(older_than_s * 1e6), now=now, progress=progress)
