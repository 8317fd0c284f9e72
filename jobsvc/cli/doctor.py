"""
The verb ``doctor``: everything that can be wrong, a sentence each.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from jobsvc.cli.held import through_service
from jobsvc.cli.options import output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, reading

if TYPE_CHECKING:
    from jobsvc.operate.doctor import DoctorReport
    from jobsvc.settings import Settings


@click.command(epilog="Example: jobsvc doctor --database jobs.db -o json")
@settings_options
@output_option
def doctor(*, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object) -> None:
    """
    Look for whatever can be wrong: the log, the views, the projections, disk, clock and SQLite.

    The service may be running; it does the work then. Exit code 1 if anything is wrong.
    """
    from jobsvc.operate.doctor import DoctorReport

    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    report = through_service(loaded, "doctor", body={}, answer=DoctorReport, looks_only=True)
    if report is None:
        report = asyncio.run(_examined(loaded.settings))
    if output == "json":
        print_json(report)
    else:
        for one in report.checks:
            click.secho(f"{one.check}: {one.says}", fg=None if one.ok else "red")
    if not report.ok:
        raise SystemExit(1)


async def _examined(settings: Settings) -> DoctorReport:
    from jobsvc.operate.doctor import bounds_of, examine

    database = settings.database_path
    async with reading(database) as store:
        with counting("examining", 0) as progress:
            now = time.time_ns() // 1000
            return await examine(store, database, now=now, bounds=bounds_of(settings), progress=progress)
