"""
The verb ``parked``: what the projections could not take in, and trying it again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

import click

from jobsvc.cli.held import through_service
from jobsvc.cli.options import Misused, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import reading, repairing

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.operate.parked import ParkedReport
    from jobsvc.settings_loading import Loaded

_ALL: Final = "all"


@click.command(epilog="Example: jobsvc parked counts --retry all --database jobs.db")
@click.argument("name", required=False)
@click.option("--retry", metavar="JOB|all", help="Try what waits of this job again, in order.")
@click.option("--discard", metavar="JOB|all", help="The same, but without the event that it waits at, for good.")
@settings_options
@output_option
def parked(
    *,
    name: str | None,
    retry: str | None,
    discard: str | None,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    List the jobs whose events a projection could not take in, or try those of the projection NAME again.

    Such a job waits in that projection only, from the event on that it failed at; the others go on. Exit code 1 if any
    still waits. The service may be running; it does the work then.
    """
    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    if retry is not None and discard is not None:
        raise Misused("--retry or --discard, not both")
    chosen = retry if discard is None else discard
    if chosen is None:
        reports = asyncio.run(_listed(loaded.settings.database_path, name))
    else:
        reports = [_settled(loaded, name, chosen, "retry" if discard is None else "discard")]
    if output == "json":
        print_json({"projections": reports})
    else:
        _print(reports)
    if any(report.parked for report in reports):
        raise SystemExit(1)


async def _listed(database: Path, name: str | None) -> list[ParkedReport]:
    from jobsvc.operate.parked import list_parked

    names = [_checked(name)] if name is not None else None
    async with reading(database) as store:
        return await list_parked(store, names)


def _settled(loaded: Loaded, name: str | None, job_id: str, act: Literal["retry", "discard"]) -> ParkedReport:
    from jobsvc.operate.parked import ParkedReport

    if name is None:
        raise Misused(f"--{act} wants the NAME of a projection")
    chosen = None if job_id == _ALL else job_id
    settled = through_service(
        loaded,
        "parked",
        path=f"/api/projections/{_checked(name)}/parked",
        body={"act": act, "job_id": chosen},
        answer=ParkedReport,
    )
    if settled is None:
        settled = asyncio.run(_settled_here(loaded.settings.database_path, name, chosen, discard=act == "discard"))
    return settled


async def _settled_here(database: Path, name: str, job_id: str | None, *, discard: bool) -> ParkedReport:
    from jobsvc.operate.parked import settle
    from jobsvc.operate.views import CATCH_UP
    from projections.runner import Runner

    async with repairing(database) as store:
        runner = Runner(store, CATCH_UP, tell=lambda *_: None)
        await runner.look()
        try:
            return await settle(runner, name, job_id, discard=discard)
        except KeyError as error:
            raise Misused(f"{name} has nothing of the job {job_id} parked") from error


def _checked(name: str) -> str:
    from jobsvc.operate.views import CATCH_UP

    names = [one.name for one in CATCH_UP]
    if name not in names:
        raise Misused(f"there is no projection {name!r} that catches up; there are {', '.join(names)}")
    return name


def _print(reports: list[ParkedReport]) -> None:
    for report in reports:
        if report.released:
            click.echo(f"{report.projection}: {report.released} jobs wait no more")
        for one in report.parked:
            click.secho(f"{report.projection}: {one.job_id} waits at position {one.position}: {one.failure}", fg="red")
    if not any(report.parked for report in reports):
        click.echo("nothing is parked")
