"""
The verb ``replay``: folds the log and prints the view that comes of it, or what today's machine would refuse.

Reads only; the service may be running.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from jobsvc.cli.options import Misused, Wrong, output_option, print_json, settings_from, settings_options
from jobsvc.cli.playing import serve_recording
from jobsvc.cli.progress import counting, reading

if TYPE_CHECKING:
    from jobsvc.operate.recording import RefusedToday
    from projections.runner import Replayed


@click.command(epilog="Example: jobsvc replay --until 2026-11-24T06:46:39Z -o json")
@click.option("--until", metavar="POSITION|TIME", help="Only up to this position, or to this moment.")
@click.option("--projection", default="active", show_default=True, metavar="NAME|pkg.module:Class", help="Which view.")
@click.option("--check-machine", is_flag=True, help="List the recorded events that today's state machine would refuse.")
@click.option("--serve", is_flag=True, help="Serve it through the real stream endpoints instead, as it happened.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="With --serve."
)
@click.option("--after", metavar="POSITION|TIME", help="With --serve: begin with what came after this.")
@click.option("--host", help="With --serve: address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="With --serve: port to listen on; 0 picks a free one.  [default: 8080]")
@settings_options
@output_option
def replay(
    *,
    until: str | None,
    projection: str,
    check_machine: bool,
    serve: bool,
    speed: float,
    after: str | None,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Fold the log from its beginning and print the view.

    The projections that ship with the service are active, keys, history and counts; your own is named
    package.module:Class and needs a name, a version and apply(row, event).

    With --serve the log is played from its beginning, --speed times as fast as it happened: streams, lists and single
    jobs show it as they did then, and nothing can be written. A service may hold the file meanwhile.
    """
    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    database = loaded.settings.database_path
    if serve:
        serve_recording(loaded, after=after, until=until, speed=speed)
        return
    if check_machine:
        refused = asyncio.run(_refused(database))
        _print_refused(refused, output)
        if refused:
            raise Wrong(f"{len(refused)} recorded events would be refused today")
        return
    _print(asyncio.run(_replayed(database, projection, until)), output)


async def _replayed(database: Any, name: str, until: str | None) -> Replayed:  # noqa: ANN401  # a path
    from jobsvc.operate.recording import NoSuchProjection, find_projection
    from projections.runner import replay as fold_log

    try:
        projection = find_projection(name)
    except NoSuchProjection as error:
        raise Misused(str(error)) from error
    position, moment = _bound(until)
    async with reading(database) as store:
        head = await store.read_head()
        with counting(f"replaying {name}", head.position) as progress:
            return await fold_log(
                store,
                projection,
                until=head.position if position is None else min(position, head.position),
                until_at=moment,
                progress=progress,
            )


async def _refused(database: Any) -> list[RefusedToday]:  # noqa: ANN401  # a path
    from jobsvc.operate.recording import check_machine

    async with reading(database) as store:
        return await check_machine(store)


def _bound(until: str | None) -> tuple[int | None, int | None]:
    """*until* as a position or a moment."""
    from jobsvc.domain.moments import parse_rfc3339

    if until is None:
        return None, None
    if until.isascii() and until.isdigit():
        return int(until), None
    try:
        return None, parse_rfc3339(until)
    except ValueError as error:
        message = f"a place in the log is a position or a time with its offset, not {until!r}"
        raise Misused(message) from error


def _print(replayed: Replayed, output: str) -> None:
    rows = [_shown(key, row) for key, row in replayed.rows.items()]
    if output == "json":
        print_json({"projection": replayed.projection, "position": replayed.position, "rows": rows})
        return
    for row in rows:
        print_json(row)
    click.echo(f"{replayed.projection} as of position {replayed.position}: {len(rows)} rows", err=True)


def _shown(key: str, row: Any) -> Any:  # noqa: ANN401  # whatever the projection's rows are
    from msgspec import structs

    from jobsvc.domain.job import Job
    from jobsvc.domain.moments import rfc3339, rfc3339_or_none
    from jobsvc.resource import job_resource
    from jobsvc.store.seam import HistoryRow, KeyRow

    if isinstance(row, Job):
        return job_resource(row)
    if isinstance(row, HistoryRow):
        ended = {"created_at": rfc3339(row.created_at), "finished_at": rfc3339_or_none(row.finished_at)}
        return structs.asdict(row) | ended
    return row if isinstance(row, KeyRow) else {"key": key, "row": row}


def _print_refused(refused: list[RefusedToday], output: str) -> None:
    if output == "json":
        print_json({"refused": refused})
        return
    for one in refused:
        click.echo(f"{one.position}: {one.type} of {one.job_id}, which was {one.state}")
    if not refused:
        click.echo("today's state machine would record the same log")
