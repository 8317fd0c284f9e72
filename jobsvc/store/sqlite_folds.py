"""
Jobs as they stood, folded from their streams: live events, and before them what of a stream is archived.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from jobsvc.domain.errors import UnreadableEvent
from jobsvc.domain.job import evolve
from jobsvc.store import codec
from jobsvc.store.seam import Record
from jobsvc.store.sqlite_pages import POSITION_MAX, as_json, select_page, unpacked
from jobsvc.store.sqlite_segments import decoded, select_parts

if TYPE_CHECKING:
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.store.driver import RawConnection

Wanted = tuple["JobId", "int | None"]
"""A job and the version that it is wanted at; None for the newest."""


class Streams(Struct, frozen=True):
    """
    What folds to jobs: live events as one packed page, archived ones beside it, both with the place of their job.
    """

    packed: bytes = b""
    archived: Sequence[tuple[int, Record]] = ()


def select_streams(raw: RawConnection, wanted: Sequence[Wanted], *, until: int | None = None) -> Streams:
    """
    What folds to each of *wanted*, told apart by the place in *wanted*.
    """
    if not wanted:
        return Streams()
    end = POSITION_MAX if until is None else until
    packed, parts = select_page(raw, "streams", parameters={"wanted": as_json(wanted), "until": end})
    if parts == "[]":
        return Streams(packed)
    return Streams(packed, _archived_streams(raw, wanted, parts=codec.loads(parts), until=end))


def _archived_streams(
    raw: RawConnection, wanted: Sequence[Wanted], *, parts: Sequence[tuple[int, int]], until: int
) -> list[tuple[int, Record]]:
    """
    Of each of *wanted* what is archived, in order; of its progress only the last.
    """
    by_place: dict[int, list[Record]] = {}
    for place, records in select_parts(raw, parts):
        job_id, version = wanted[place]
        newest = POSITION_MAX if version is None else version
        by_place.setdefault(place, []).extend(
            record
            for record in records
            if record.job_id == job_id and record.version <= newest and record.position <= until
        )
    streams: list[tuple[int, Record]] = []
    for place, stream in by_place.items():
        stream.sort(key=lambda record: record.version)
        ticks = [record for record in stream if record.type == "job.progressed"]
        streams += [(place, record) for record in stream if record.type != "job.progressed" or record is ticks[-1]]
    return streams


async def folded(streams: Streams) -> dict[int, Job]:
    """
    By place: the job that its events add up to, archived ones first. Others get a turn after every 128 events.

    Raises:
        UnreadableEvent: An event does not decode, or a stream does not begin with its birth.
    """
    older = await decoded([record for _, record in streams.archived])
    events = [(place, event) for (place, _), event in zip(streams.archived, older, strict=True)]
    jobs: dict[int, Job] = {}
    for place, event in events + await unpacked(streams.packed):
        job = jobs.get(place)
        # A stream that was archived between two statements is here twice.
        if job is not None and event.version <= job.version:
            continue
        try:
            jobs[place] = evolve(job, event)
        except ValueError as error:
            raise UnreadableEvent(f"the event at position {event.position} does not follow from its stream") from error
    return jobs
