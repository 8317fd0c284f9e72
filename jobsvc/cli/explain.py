"""
The verb ``explain``: a job in sentences, or which rule makes two URLs the same work.

Reads only; the service may be running.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from jobsvc.cli.options import Misused, Wrong, output_option, print_json, settings_from, settings_options
from jobsvc.cli.past import job_id_of, place_of
from jobsvc.cli.progress import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from jobsvc.operate.evidence import ComparedUrls, Explained
    from jobsvc.operate.explaining import Sentence
    from jobsvc.operate.places import Place


@click.command(epilog="Example: jobsvc explain 01890a5d-ac96-774b-bcce-b302099a8057")
@click.argument("job", metavar="[ID]", required=False)
@click.option("--as-of", metavar="POSITION|TIME", help="As it was then.  [default: the end of the log]")
@click.option(
    "--url", "urls", metavar="URL", multiple=True, help="Twice, instead of ID: are they the same work, and why."
)
@click.option(
    "--kind", metavar="KIND", help="With --url: under the profile of this kind.  [default: every profile in use]"
)
@settings_options
@output_option
def explain(
    *,
    job: str | None,
    as_of: str | None,
    urls: tuple[str, ...],
    kind: str | None,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Say in sentences what happened to the job ID, and why it is as it is.

    Each sentence names the positions of the events behind it. The service may be running.
    """
    from jobsvc.domain.keys import profile_for, profiles_in_use

    settings = settings_from(flags, config_path=config_path, pairs=pairs).settings
    if job is not None and not urls and kind is None:
        explained: Explained | ComparedUrls = asyncio.run(
            _explained(settings.database_path, job_id_of(job), place_of(as_of))
        )
    elif job is None and len(urls) == 2 and as_of is None:  # noqa: PLR2004  # two to compare
        profiles = profiles_in_use(settings.profiles) if kind is None else {profile_for(kind, settings.profiles)}
        explained = asyncio.run(_compared(settings.database_path, (urls[0], urls[1]), profiles))
    else:
        raise Misused("explain takes the ID of a job, or --url twice and perhaps --kind")
    if output == "json":
        print_json(explained)
    else:
        _print(explained.sentences)


async def _explained(database: Path, job_id: str, place: Place | None) -> Explained:
    from jobsvc.operate.evidence import explain_job
    from jobsvc.operate.places import position_of

    async with reading(database) as store:
        position = await position_of(store, place)
        explained = await explain_job(store, job_id, position=position)
    if explained is None:
        raise Wrong(f"there is no job {job_id} as of position {position}")
    return explained


async def _compared(database: Path, urls: tuple[str, str], profiles: Iterable[str]) -> ComparedUrls:
    from jobsvc.domain.keys import UnusableUrl
    from jobsvc.operate.evidence import explain_urls

    async with reading(database) as store:
        try:
            return await explain_urls(store, urls, profiles=profiles)
        except UnusableUrl as error:
            raise Misused(error.reason) from error


def _print(sentences: Sequence[Sentence]) -> None:
    from itertools import groupby

    from jobsvc.operate.sentences import QUESTIONS

    for question, answers in groupby(sentences, key=lambda each: each.question):
        click.secho(QUESTIONS[question], bold=True)
        for each in answers:
            behind = f"  [{', '.join(map(str, each.positions))}]" if each.positions else ""
            click.echo(f"  {each.sentence}{behind}")
