"""
The evidence: what an explanation needs of the log, fetched.

Reads the stream of one job, and of the jobs that it names one event each. What follows from it is explaining.py's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.domain.events import Cancelled, Created
from jobsvc.domain.keys import RULE_VERSION, key_from_url
from jobsvc.operate.explaining import Sentence, compare_urls, explain
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, HistoryQuery, KeyRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.domain.words import JobId
    from jobsvc.store.seam import Store

_EVENTS_AT_ONCE: Final = 256
"""A longer stream is explained on another thread, since a loop that serves others waits for nobody's ticks."""

_JOBS_PER_KEY: Final = 20
"""Of how many ended jobs with a key the births are named."""


class Explained(Struct, frozen=True):
    """What can be said of a job as of a position, question by question."""

    job_id: str
    position: int
    sentences: list[Sentence]


class ComparedRule(Struct, frozen=True):
    """What one profile makes of two URLs."""

    profile: str
    rule_version: int
    keys: list[str]
    same: bool


class ComparedUrls(Struct, frozen=True):
    """Whether two URLs are the same work, under each profile that was asked for."""

    rules: list[ComparedRule]
    sentences: list[Sentence]


async def explain_job(
    store: Store, job_id: JobId, *, position: int, role_only: bool = False, avoided: int = 0
) -> Explained | None:
    """The explanation of a job as of *position*, which has spared *avoided* duplicates; None if there was none yet."""
    events = await _stream(store, job_id, until=position)
    if not events:
        return None
    places = await _places(store, events, until=position)
    if len(events) <= _EVENTS_AT_ONCE:
        told = explain(events, places=places, role_only=role_only, avoided=avoided)
    else:
        told = await asyncio.to_thread(explain, events, places=places, role_only=role_only, avoided=avoided)
    return Explained(job_id, position, told)


async def explain_urls(store: Store, urls: tuple[str, str], *, profiles: Iterable[str]) -> ComparedUrls:
    """
    What each of *profiles* makes of both *urls*, with the births of jobs that have such a key.

    Raises:
        UnusableUrl: One of them has no key.
    """
    rules: list[ComparedRule] = []
    told: list[Sentence] = []
    for profile in sorted(set(profiles)):
        keys = [key_from_url(url, profile=profile) for url in urls]
        positions = {key: await _births(store, key) for key in set(keys)}
        rules.append(ComparedRule(profile, RULE_VERSION, keys, keys[0] == keys[1]))
        told.append(compare_urls(urls, profile=profile, positions=positions))
    return ComparedUrls(rules, told)


async def _stream(store: Store, job_id: JobId, *, until: int) -> list[Event]:
    events: list[Event] = []
    while page := await store.read_events(
        after=events[-1].position if events else 0, limit=ROWS_PER_PAGE_MAX, job_id=job_id, until=until
    ):
        events += page
    return events


async def _places(store: Store, events: Sequence[Event], *, until: int) -> dict[JobId, int]:
    """Of each job that *events* name: where it was made, or, for one that came before, where it ended."""
    places: dict[JobId, int] = {}
    for event in events:
        match event.facts:
            case Created(retry_of=earlier, follows=ended):
                if before := earlier or ended:
                    job = (await store.read_jobs({before: None}, until=until)).get(before)
                    if job is not None and job.ended_position is not None:
                        places[before] = job.ended_position
            case Cancelled(superseded_by=later) if later is not None:
                places |= await _birth(store, later)
            case _:
                continue
    return places


async def _births(store: Store, key: str) -> list[int]:
    """Where jobs with *key* were made: the active ones, and the newest of the ended."""
    ended = await store.read_history(HistoryQuery(limit=_JOBS_PER_KEY, key=key))
    job_ids = [row.job_id for row in ended] + await _holders(store, key)
    places: dict[JobId, int] = {}
    for job_id in job_ids:
        places |= await _birth(store, job_id)
    return sorted(places.values())


async def _holders(store: Store, key: str) -> list[JobId]:
    """The active jobs that hold *key*, one an owner and kind at most."""
    holders: list[JobId] = []
    after = ""
    while rows := await store.read_view("keys", after=after, limit=ROWS_PER_PAGE_MAX):
        found = [row for row in rows if isinstance(row, KeyRow)]
        holders += [row.job_id for row in found if row.key == key]
        after = found[-1].job_id
    return holders


async def _birth(store: Store, job_id: JobId) -> dict[JobId, int]:
    events = await store.read_events(after=0, limit=1, job_id=job_id)
    return {event.job_id: event.position for event in events}
