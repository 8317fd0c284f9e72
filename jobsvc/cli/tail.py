"""
The verb ``tail``: the log as it grows, one line an event.

It reads a service's log page by page, and between pages is woken by the service's stream, so that no service is polled;
or it reads the file itself.
What must never live here: a view of jobs. A line says what happened, not how things stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from jobsvc.cli.options import Misused, Wrong, output_option, print_json, secret_of, settings_from, settings_options
from jobsvc.cli.progress import reading

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from jobsvc.client import Client, Event

EVENTS_PER_PAGE: Final = 500
WAIT_S: Final = 25
LOOK_AGAIN_S: Final = 0.3
"""How often a file is looked at: another process writes it, and nobody tells."""
TOKEN_TTL_S: Final = 86_400.0

_COLOURS: Final = {
    "job.completed": "green",
    "job.failed": "red",
    "job.expired": "red",
    "job.cancelled": "yellow",
    "job.attempt_failed": "yellow",
    "job.lease_expired": "yellow",
    "job.progressed": "bright_black",
}


@click.command(epilog="Example: jobsvc tail --database jobs.db --job 0193…")
@click.option("--after", metavar="CURSOR", help="Begin after this cursor (EPOCH.POSITION) or position.  [default: 0]")
@click.option("--job", "job_id", metavar="ID", help="Only this job's events.")
@click.option("--against", metavar="URL", help="The service to read from, in place of the file.")
@click.option(
    "--token", metavar="TOKEN", envvar="JOBSVC_TOKEN", help="An operator's token.  [default: one signed here]"
)
@click.option("--follow/--no-follow", default=True, help="Wait for more at the end of the log.  [default: follow]")
@settings_options
@output_option
def tail(
    *,
    after: str | None,
    job_id: str | None,
    against: str | None,
    token: str | None,
    follow: bool,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Print the log as it grows, one line an event, until Ctrl-C.

    Reads the file named by --database, or with --against the log of a running service; there, without --token, one is
    signed with JOBSVC_SECRET or the secret beside --database.
    """
    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    if against is None:
        events = _log_of_file(loaded.settings.database_path, after, job_id=job_id, follow=follow)
    else:
        bearer = token or _operator_token(secret_of(loaded))
        events = _log_of_service(against, bearer, after=after, job_id=job_id, follow=follow)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_print(events, output))


async def _print(events: AsyncGenerator[Event], output: str) -> None:
    async with contextlib.aclosing(events):
        async for event in events:
            print_json(event) if output == "json" else click.echo(_line(event))


async def _log_of_file(database: Path, after: str | None, *, job_id: str | None, follow: bool) -> AsyncGenerator[Event]:
    """The events in the file, those there are and those that a service adds meanwhile."""
    from jobsvc.client import Event
    from jobsvc.resource import event_resource
    from jobsvc.store.codec import read_record

    async with reading(database) as store:
        position = _position(after, (await store.read_head()).epoch)
        while True:
            records = await store.read_records(after=position, limit=EVENTS_PER_PAGE, job_id=job_id)
            for record in records:
                position = record.position
                shown = event_resource(read_record(record), record.chain, role_only=False)
                yield msgspec.json.decode(msgspec.json.encode(shown), type=Event)
            if not records:
                if not follow:
                    return
                await asyncio.sleep(LOOK_AGAIN_S)


async def _log_of_service(
    against: str, token: str, *, after: str | None, job_id: str | None, follow: bool
) -> AsyncGenerator[Event]:
    """The service's events, those there are and those that come."""
    from jobsvc.client import Client, ClientError

    async with Client(against, token=token) as client:
        try:
            async with contextlib.aclosing(_log(client, after, job_id=job_id, follow=follow)) as events:
                async for event in events:
                    yield event
        except ClientError as error:
            raise Wrong(str(error)) from error


async def _log(client: Client, after: str | None, *, job_id: str | None, follow: bool) -> AsyncGenerator[Event]:
    """The events after the cursor, those there are and those that come."""
    from jobsvc.client import EventPage

    head = await client.call("GET", "/api/log/head", repeat=True)
    position = _position(after, head["epoch"])
    while True:
        query = {"after": position, "limit": EVENTS_PER_PAGE, "job": job_id}
        page = msgspec.convert(await client.call("GET", "/api/log", query=query, repeat=True), EventPage)
        for event in page.events:
            position = event.position
            yield event
        if not page.events:
            if not follow:
                return
            position = max(position, await _wait(client, f"{head['epoch']}.{position}", job_id=job_id))


async def _wait(client: Client, cursor: str, *, job_id: str | None) -> int:
    """
    There may be more, or a while has passed. The answer is 0, or a position up to which there is nothing to read.

    Raises:
        Wrong: The log is another one now.
    """
    query: dict[str, Any] = {"after": cursor, "wait_s": WAIT_S, "job": job_id}
    answer = await client.call("GET", "/api/stream", query=query, repeat=True)
    events = {frame["event"] for frame in answer["frames"]}
    if "reset" in events:
        raise Wrong("the log is another one now; begin again without --after")
    return 0 if "job" in events else _position(answer["cursor"], cursor.rpartition(".")[0])


def _position(cursor: str | None, epoch: str) -> int:
    """
    The position of *cursor* in the log *epoch*.

    Raises:
        Misused: It is no cursor.
        Wrong: It belongs to another log.
    """
    if cursor is None:
        return 0
    named, _, digits = cursor.rpartition(".")
    if not (digits.isascii() and digits.isdigit()):
        raise Misused(f"--after {cursor}: want EPOCH.POSITION, or a position")
    if named and named != epoch:
        raise Wrong(f"the cursor {cursor} belongs to another log; this one is {epoch}")
    return int(digits)


def _line(event: Event) -> str:
    """For example: ``   12  2026-11-24T06:46:39.000000Z  job.started         0193… v2  by worker:w1``."""
    name = click.style(f"{event.type:<22}", fg=_COLOURS.get(event.type, "cyan"))
    by = f"  by {event.actor}" if event.actor else ""
    return f"{event.position:>7}  {event.at}  {name}  {event.job_id} v{event.version}{by}"


def _operator_token(secret: str) -> str:
    from jobsvc.tokens import issue

    return issue(secret, "operator", subject="tail", ttl_s=TOKEN_TTL_S, now=time.time_ns() // 1000)
