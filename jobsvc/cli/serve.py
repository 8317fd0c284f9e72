"""
The verb ``serve``: settings in, a running service out.

What it does stands in jobsvc/app.py. Here is only what a process needs around it: a secret, log lines, a loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from jobsvc.cli.options import Misused, settings_from, settings_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.settings import Settings
    from jobsvc.settings_loading import Loaded


@click.command(epilog="Example: jobsvc serve --host 127.0.0.1 --port 8080 --database jobs.db")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one.  [default: 8080]")
@settings_options
def serve(config_path: str | None, pairs: tuple[str, ...], **flags: object) -> None:
    """
    Run the service until SIGTERM or Ctrl-C, which drain it.

    Prints one line "listening on http://HOST:PORT" when it is ready. Without a configured secret it serves loopback
    only, makes a secret beside the database, and prints a link that opens the dashboard once.
    """
    from jobsvc.lines import configure_logging, tell_process_faults
    from jobsvc.telemetry import log

    loaded = _with_secret(settings_from(flags, config_path=config_path, pairs=pairs))
    configure_logging(loaded.settings.log_level, lines_per_s_max=loaded.settings.log_lines_per_s_max)
    tell_process_faults()
    if _is_short(loaded.settings.secret):
        log("service.secret_short", reason="a secret of less than 32 characters can be guessed from one token")
    beside_database = loaded.sources["secret"] == "secret file"  # noqa: S105  # the name of a source
    sys.exit(_run(loaded.settings, link=beside_database))


def _run(settings: Settings, *, link: bool) -> int:
    from jobsvc.app import run
    from jobsvc.domain.errors import StoreDown

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(run(settings, announce=click.echo, link=link))
        except StoreDown as error:
            # While it ran a store that is down is waited for; this one did not open.
            raise click.ClickException(error.message) from error
        except OSError as error:
            raise Misused(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"
            ) from error


def _with_secret(loaded: Loaded) -> Loaded:
    from jobsvc.secretfile import with_made_secret
    from jobsvc.settings import UnusableSetting

    try:
        return with_made_secret(loaded)
    except UnusableSetting as error:
        raise Misused(str(error)) from error


def _is_short(secret: str) -> bool:
    from jobsvc.settings_checks import SECRET_CHARACTERS_ENOUGH

    return len(secret) < SECRET_CHARACTERS_ENOUGH


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop if it is installed (extra ``fast``), None for Python's own."""
    try:
        from importlib import import_module

        uvloop: Any = import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
