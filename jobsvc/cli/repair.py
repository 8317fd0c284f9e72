"""
The verbs that check and mend: ``verify`` and ``rebuild``.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobsvc.cli.held import through_service
from jobsvc.cli.options import Misused, Wrong, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, reading, repairing

if TYPE_CHECKING:
    from jobsvc.operate.verify import VerifyReport
    from jobsvc.operate.views import Rebuilt


@click.command(epilog="Example: jobsvc verify --database jobs.db --against head.json")
@click.option("--against", metavar="POSITION:CHAIN|FILE", help="A head saved earlier, so that a cut tail is found.")
@settings_options
@output_option
def verify(
    *, against: str | None, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object
) -> None:
    """
    Check the chain, the positions, the versions, and every view against a replay.

    The service may be running; it does the work then. Exit code 1 if anything is wrong, with the first wrong position.
    """
    from jobsvc.operate.verify import VerifyReport

    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    head = None if against is None else _saved_head(against)
    body = {"against": head}
    verified = through_service(loaded, "verify", body=body, answer=VerifyReport, looks_only=True)
    if verified is None:
        verified = asyncio.run(_verified(loaded.settings.database_path, head))
    if output == "json":
        print_json(verified)
    else:
        _print(verified)
    if not verified.ok:
        raise SystemExit(1)


async def _verified(database: Path, against: str | None) -> VerifyReport:
    from jobsvc.operate.verify import report, saved_head
    from jobsvc.operate.verify import verify as check

    async with reading(database) as store:
        with counting("verifying", 0) as progress:
            saved = None if against is None else saved_head(against)
            return report(await check(store, against=saved, progress=progress))


def _print(verified: VerifyReport) -> None:
    for finding in verified.findings:
        place = "views" if finding.position is None else f"position {finding.position}"
        click.secho(f"{place}: {finding.what}", fg="red")
    if verified.ok:
        click.echo(f"{verified.position} events, all in order; every view is what its replay makes")
        click.echo(f"head {verified.position}:{verified.chain}")


def _saved_head(text: str) -> str:
    """The head that *text* is, or that stands in the file it names, as POSITION:CHAIN."""
    from jobsvc.operate.verify import saved_head

    head = text
    position, colon, _ = text.partition(":")
    if not (colon and position.isdigit()):
        try:
            saved = json.loads(Path(text).read_text(encoding="utf-8"))
            head = f"{saved['position']}:{saved['chain']}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"--against is POSITION:CHAIN, or a file with the answer of /api/log/head, not {text!r}"
            raise Misused(message) from error
    try:
        number, chain = saved_head(head)
    except ValueError as error:
        raise Misused(f"--against: {error}") from error
    return f"{number}:{chain.hex()}"


@click.command(epilog="Example: jobsvc rebuild active --database jobs.db")
@click.argument("name")
@settings_options
@output_option
def rebuild(*, name: str, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object) -> None:
    """
    Build the view NAME anew beside the live one and swap it in.

    NAME is active, keys, history or counts. The service may be running; it does the work then, and goes on meanwhile.
    Exit code 1 if events of some jobs could not be taken in; jobsvc parked lists them.
    """
    from jobsvc.operate.views import BUILT_IN, Rebuilt

    if name not in BUILT_IN:
        raise Misused(f"there is no view {name!r}; there are {', '.join(BUILT_IN)}")
    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    rebuilt = through_service(
        loaded, "rebuild", path=f"/api/projections/{name}/rebuild", body={}, answer=Rebuilt
    ) or asyncio.run(_rebuilt(loaded.settings.database_path, name))
    if output == "json":
        print_json(rebuilt)
    else:
        click.echo(f"{rebuilt.projection} rebuilt: {rebuilt.rows} rows as of position {rebuilt.position}")
    if rebuilt.parked:
        raise Wrong(f"{rebuilt.parked} jobs are parked: not all of their events could be taken in")


async def _rebuilt(database: Path, name: str) -> Rebuilt:
    from jobsvc.operate.views import rebuild as build

    async with repairing(database) as store:
        head = await store.read_head()
        with counting(f"rebuilding {name}", head.position) as progress:
            return await build(store, name, progress=progress)
