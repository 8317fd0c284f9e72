"""
The verbs that look back: ``state-at``, ``diff`` and ``bisect``.

They read the log and nothing else; the service may be running.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from jobsvc.cli.options import Misused, Wrong, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, reading

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.operate.bisecting import Bisected, Predicate, Turn
    from jobsvc.operate.differing import Difference, Differences
    from jobsvc.operate.past import StateAt
    from jobsvc.operate.places import Place


def place_of(text: str | None) -> Place | None:
    """
    The place that *text* names; None for None.

    Raises:
        Misused: It names none.
    """
    from jobsvc.operate.places import parse_place

    try:
        return None if text is None else parse_place(text)
    except ValueError as error:
        raise Misused(str(error)) from error


def job_id_of(text: str) -> str:
    """
    *text*, the id of a job.

    Raises:
        Misused: It is none.
    """
    from jobsvc.domain.ids import is_job_id

    if not is_job_id(text):
        message = f"the id of a job is a UUIDv7 in lower case, not {text!r}"
        raise Misused(message)
    return text


@click.command("state-at", epilog="Example: jobsvc state-at --active 2026-11-24T06:46:39Z -o json")
@click.argument("words", nargs=-1, required=True, metavar="[ID] POSITION|TIME")
@click.option("--active", is_flag=True, help="All jobs that were active then, instead of the job ID.")
@settings_options
@output_option
def state_at(
    *,
    words: tuple[str, ...],
    active: bool,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Print a job, or all active ones, as of a position of the log or a time.

    The service may be running. A time is given with its offset, and means the last event that was not later.
    """
    if len(words) != (1 if active else 2):
        raise Misused("state-at takes ID and POSITION or TIME, or --active and POSITION or TIME")
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    place = place_of(words[-1])
    state = asyncio.run(_state(database, None if active else job_id_of(words[0]), place))
    if output == "json":
        print_json(state)
        return
    for job in state.jobs:
        print_json(job)
    click.echo(f"as of position {state.position}: {len(state.jobs)} jobs", err=True)


async def _state(database: Path, job_id: str | None, place: Place | None) -> StateAt:
    from jobsvc.operate.past import StateAt, active_at, job_at
    from jobsvc.operate.places import position_of
    from jobsvc.resource import job_resource

    async with reading(database) as store:
        position = await position_of(store, place)
        if job_id is not None:
            job = await job_at(store, job_id, position=position)
            if job is None and not await store.read_jobs({job_id: None}):
                raise Wrong(f"there is no job {job_id}")
            return StateAt(position, [] if job is None else [job_resource(job)])
        with counting("reading the log", position) as progress:
            jobs = [job_resource(job) async for job in active_at(store, position, progress=progress)]
        return StateAt(position, jobs)


@click.command(epilog="Example: jobsvc diff 1800 2026-11-24T06:46:39Z")
@click.argument("since", metavar="A")
@click.argument("until", metavar="B")
@settings_options
@output_option
def diff(
    *, since: str, until: str, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object
) -> None:
    """
    Print what changed between A and B: jobs made, jobs ended, fields.

    A and B are positions of the log or times, in either order. The service may be running.
    """
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    found = asyncio.run(_differences(database, place_of(since), place_of(until)))
    if output == "json":
        print_json(found)
        return
    for difference in found.jobs:
        _print_difference(difference)
    made, ended = (sum(getattr(one, name) for one in found.jobs) for name in ("made", "ended"))
    click.echo(f"from {found.since} to {found.until}: {made} made, {ended} ended, {len(found.jobs)} jobs", err=True)


async def _differences(database: Path, one: Place | None, other: Place | None) -> Differences:
    from jobsvc.operate.differing import Differences, differences
    from jobsvc.operate.places import position_of

    async with reading(database) as store:
        since, until = sorted([await position_of(store, one), await position_of(store, other)])
        with counting("comparing", until - since) as progress:
            found: list[Difference] = []
            async for difference in differences(store, since=since, until=until):
                found.append(difference)
                progress(difference.position - since)
        return Differences(since, until, found)


_TOLD_OF_NEW: Final = frozenset({"kind", "state", "owner", "key"})
"""Of a job that was not there before everything is new; this tells which job it is."""


def _print_difference(difference: Difference) -> None:
    words = [word for word in ("made", "ended") if getattr(difference, word)] or ["changed"]
    click.echo(f"{difference.position} {difference.job_id} {' and '.join(words)}")
    for name, change in difference.fields.items():
        if difference.made and name not in _TOLD_OF_NEW:
            continue
        click.echo(f"  {name}: {_shown(change.before)} → {_shown(change.after)}")


@click.command(epilog="Example: jobsvc bisect 'active>=100'; jobsvc bisect --job ID state=failed")
@click.argument("predicate", metavar="FIELD=VALUE")
@click.option("--job", metavar="ID", help="A field of this job; without it, the count of active jobs.")
@click.option("--since", metavar="POSITION|TIME", help="Only events after this.  [default: the beginning]")
@click.option("--until", metavar="POSITION|TIME", help="Only events up to this.  [default: the end]")
@settings_options
@output_option
def bisect(
    *,
    predicate: str,
    job: str | None,
    since: str | None,
    until: str | None,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Find the events that made something so, the first and the last.

    FIELD=VALUE is one comparison, with = != < <= > or >=, as in state=failed, attempt>=2, worker=null or
    progress.percent>50. The service may be running. Exit code 1 if no event made it so.
    """
    from jobsvc.operate.bisecting import UnusablePredicate, parse_predicate

    try:
        wanted = parse_predicate(predicate, of_job=job is not None)
    except UnusablePredicate as error:
        raise Misused(str(error)) from error
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    job_id = None if job is None else job_id_of(job)
    found = asyncio.run(_bisected(database, wanted, job_id, (place_of(since), place_of(until))))
    if output == "json":
        print_json(found)
    else:
        _print_bisected(found)
    if not found.turns:
        raise SystemExit(1)


async def _bisected(
    database: Path, predicate: Predicate, job_id: str | None, between: tuple[Place | None, Place | None]
) -> Bisected:
    from jobsvc.operate.bisecting import bisect as search
    from jobsvc.operate.places import position_of

    async with reading(database) as store:
        if job_id is not None and not await store.read_jobs({job_id: None}):
            raise Wrong(f"there is no job {job_id}")
        since = 0 if between[0] is None else await position_of(store, between[0])
        until = await position_of(store, between[1])
        with counting("searching", until) as progress:
            return await search(store, predicate, job_id=job_id, since=since, until=until, progress=progress)


def _print_bisected(found: Bisected) -> None:
    for turn in [found.first, found.last] if found.turns > 1 else [found.first]:
        if turn is not None:
            click.echo(_turn(found.predicate, turn))
    now = "is so" if found.holds else "is not so"
    events = "1 event" if found.turns == 1 else f"{found.turns} events"
    click.echo(f"{events} made it so; at position {found.until} it {now}")


def _turn(predicate: str, turn: Turn) -> str:
    return (
        f"{turn.position} {turn.at} {turn.type} of {turn.job_id} made {predicate} so:"
        f" {_shown(turn.before)} → {_shown(turn.after)}"
    )


def _shown(value: Any) -> str:  # noqa: ANN401  # any JSON
    import msgspec

    return msgspec.json.encode(value).decode()
