"""
The verbs that check and mend: ``verify`` and ``rebuild``.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from jobsvc.cli.options import Misused, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, reading, repairing

if TYPE_CHECKING:
    from jobsvc.operate.verify import Verified
    from jobsvc.operate.views import Rebuilt


_CHAIN: Final = re.compile(r"[0-9a-fA-F]{64}")


@click.command(epilog="Example: jobsvc verify --database jobs.db --against head.json")
@click.option("--against", metavar="POSITION:CHAIN|FILE", help="A head saved earlier, so that a cut tail is found.")
@settings_options
@output_option
def verify(
    *, against: str | None, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object
) -> None:
    """
    Check the chain, the positions, the versions, and every view against a replay.

    The service may be running. Exit code 1 if anything is wrong, with the first wrong position.
    """
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    verified = asyncio.run(_verified(database, None if against is None else _saved_head(against)))
    if output == "json":
        print_json(
            {"ok": not verified.findings, "position": verified.position, "chain": verified.chain} | _found(verified)
        )
    else:
        _print(verified)
    if verified.findings:
        raise SystemExit(1)


async def _verified(database: Path, against: tuple[int, bytes] | None) -> Verified:
    from jobsvc.operate.verify import verify as check

    async with reading(database) as store:
        head = await store.read_head()
        with counting("verifying", head.position) as progress:
            return await check(store, against=against, progress=progress)


def _found(verified: Verified) -> dict[str, Any]:
    first = next((finding.position for finding in verified.findings if finding.position is not None), None)
    return {"first_wrong_position": first, "findings": verified.findings}


def _print(verified: Verified) -> None:
    for finding in verified.findings:
        place = "views" if finding.position is None else f"position {finding.position}"
        click.secho(f"{place}: {finding.what}", fg="red")
    if not verified.findings:
        click.echo(f"{verified.position} events, all in order; every view is what its replay makes")
        click.echo(f"head {verified.position}:{verified.chain}")


def _saved_head(text: str) -> tuple[int, bytes]:
    """The head that *text* is, or that stands in the file it names."""
    position, colon, chain = text.partition(":")
    if not (colon and position.isdigit()):
        try:
            saved = json.loads(Path(text).read_text(encoding="utf-8"))
            position, chain = str(saved["position"]), saved["chain"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"--against is POSITION:CHAIN, or a file with the answer of /api/log/head, not {text!r}"
            raise Misused(message) from error
    if not _CHAIN.fullmatch(str(chain)):
        raise Misused("the chain of a head is 64 hexadecimal digits")
    return int(position), bytes.fromhex(chain)


@click.command(epilog="Example: jobsvc rebuild active --database jobs.db")
@click.argument("name")
@settings_options
@output_option
def rebuild(*, name: str, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object) -> None:
    """
    Build the view NAME anew beside the live one and swap it in.

    NAME is active, keys, history or counts. For a stopped file; a running service rebuilds its own with
    POST /api/projections/NAME/rebuild.
    """
    from jobsvc.operate.views import BUILT_IN

    if name not in BUILT_IN:
        raise Misused(f"there is no view {name!r}; there are {', '.join(BUILT_IN)}")
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    rebuilt = asyncio.run(_rebuilt(database, name))
    if output == "json":
        print_json(rebuilt)
    else:
        click.echo(f"{rebuilt.projection} rebuilt: {rebuilt.rows} rows as of position {rebuilt.position}")


async def _rebuilt(database: Path, name: str) -> Rebuilt:
    from jobsvc.operate.views import rebuild as build

    async with repairing(database) as store:
        head = await store.read_head()
        with counting(f"rebuilding {name}", head.position) as progress:
            return await build(store, name, progress=progress)
