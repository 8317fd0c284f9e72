"""
The verb ``config``: the settings in force, and where each came from.

Nothing is changed, and no secret is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobsvc.cli.options import Misused, in_terminal, output_option, print_json, settings_from, settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.settings_loading import Loaded


@click.command(epilog="Example: JOBSVC_HEARTBEAT_S=5 jobsvc config --config jobsvc.toml -o json")
@click.option("--host", help="As for serve.")
@click.option("--port", type=int, help="As for serve.")
@settings_options
@output_option
def config(*, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object) -> None:
    """
    Print the settings in force and where each came from.

    A source is flag, environment, file, default, or secret file. Takes the same flags as serve. Secrets are masked.
    """
    shown = _with_secret(settings_from(flags, config_path=config_path, pairs=pairs)).shown()
    if output == "json":
        print_json(shown)
    elif in_terminal():
        _print_table(shown)
    else:
        for name, each in shown.items():
            click.echo(f"{name}={_text(each['value'])} ({each['source']})")


def _with_secret(loaded: Loaded) -> Loaded:
    from jobsvc.secretfile import with_secret
    from jobsvc.settings import UnusableSetting

    try:
        return with_secret(loaded)
    except UnusableSetting as error:
        raise Misused(str(error)) from error


def _print_table(shown: Mapping[str, Mapping[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "source", box=None, pad_edge=False)
    for name, each in shown.items():
        source = str(each["source"])
        table.add_row(name, Text(_text(each["value"])), Text(source, style="dim" if source == "default" else "green"))
    Console().print(table)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case tuple() | list():
            return ",".join(str(each) for each in value)
        case dict():
            return ",".join(f"{name}={target}" for name, target in value.items())
        case _:
            return str(value)
