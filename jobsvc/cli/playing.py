"""
What ``replay --serve`` does: a recording, played again for whoever connects.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from jobsvc.cli.options import Misused
from jobsvc.cli.progress import reading

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.operate.places import Place
    from jobsvc.settings_loading import Loaded


def serve_recording(loaded: Loaded, *, after: str | None, until: str | None, speed: float) -> None:
    """
    The log that *loaded* names is served as a recording until SIGTERM or Ctrl-C.

    Raises:
        Misused: There is no such log, a place in it is none, there is no secret, or it cannot be listened there.
    """
    from jobsvc.lines import configure_logging, tell_process_faults
    from jobsvc.playback import Recording
    from jobsvc.playback import serve_recording as serve
    from jobsvc.secretfile import with_made_secret
    from jobsvc.settings import UnusableSetting

    try:
        loaded = with_made_secret(loaded)
    except UnusableSetting as error:
        raise Misused(str(error)) from error
    settings = loaded.settings
    configure_logging(settings.log_level, lines_per_s_max=settings.log_lines_per_s_max)
    tell_process_faults()
    begin, end = asyncio.run(_bounds(settings.database_path, _place(after), _place(until)))
    recording = Recording(settings.database_path, begin=begin if after is not None else 0, until=end)
    link = loaded.sources["secret"] == "secret file"  # noqa: S105  # the name of a source
    try:
        asyncio.run(serve(settings, recording, speed=speed, announce=click.echo, link=link))
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        raise Misused(f"cannot listen on {where}: {error.strerror or error}") from error


async def _bounds(database: Path, after: Place | None, until: Place | None) -> tuple[int, int]:
    from jobsvc.operate.places import position_of

    async with reading(database) as store:
        return await position_of(store, after), await position_of(store, until)


def _place(text: str | None) -> Place | None:
    from jobsvc.operate.places import parse_place

    try:
        return None if text is None else parse_place(text)
    except ValueError as error:
        raise Misused(str(error)) from error
