"""
The verbs about what is kept: ``archive`` and ``erase``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from jobsvc.cli.held import through_service
from jobsvc.cli.options import Length, Misused, Wrong, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, existing, repairing

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.operate.archive import ArchiveReport
    from jobsvc.operate.erase import EraseReport


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


@click.command(epilog="Example: jobsvc erase --owner user:17 --reason 'asked to be forgotten' --database jobs.db")
@click.option("--owner", metavar="OWNER", help="All ended jobs of this owner, archived ones included.")
@click.option("--job", "job_id", metavar="ID", help="This job.")
@click.option("--reason", help="Why, for the log.")
@settings_options
@output_option
def erase(
    *,
    owner: str | None,
    job_id: str | None,
    reason: str | None,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Take the payloads of ended jobs away for good; the log still verifies.

    From the log, the views, the archive, the answers kept for idempotency and what the file still held of it. An active
    job has to be cancelled first. If it was stopped, run it again. The service may be running; it does the work then.
    """
    from jobsvc.operate.erase import EraseReport

    if (owner is None) == (job_id is None):
        raise Misused("name either --owner or --job")
    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    body = {"owner": owner, "job_id": job_id, "reason": reason}
    report = through_service(loaded, "erase", body=body, answer=EraseReport)
    if report is None:
        report = asyncio.run(_erased(loaded.settings.database_path, owner, job_id, reason=reason))
    if output == "json":
        print_json(report)
    else:
        click.echo(f"{report.jobs} jobs erased")


async def _erased(database: Path, owner: str | None, job_id: str | None, *, reason: str | None) -> EraseReport:
    from jobsvc.clock import SystemClock
    from jobsvc.domain.errors import JobsvcError
    from jobsvc.domain.words import Principal
    from jobsvc.ledger import Ledger
    from jobsvc.operate.erase import Eraser
    from jobsvc.store.sqlite import SqliteStore

    store = SqliteStore(existing(database))
    ledger = Ledger(store, SystemClock())
    try:
        await ledger.start()
    except JobsvcError as error:
        raise Misused(error.message) from error
    eraser = Eraser(ledger, store, Principal("operator", "cli"), reason=reason)
    try:
        with counting("erasing", 0) as progress:
            return await (eraser.erase_job(job_id) if job_id is not None else eraser.erase_owner(owner or "", progress))
    except JobsvcError as error:
        raise Wrong(error.message) from error
    finally:
        await ledger.stop()
