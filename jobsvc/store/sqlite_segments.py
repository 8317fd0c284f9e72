"""
Reading through the archive: what a page of the log, a job's stream or a look-up needs of the segments.

Whoever reads asks the live events first and the segments after: what moved in between is then found twice, and told
apart by its position, never missed. Runs on a connection's thread; a hop opens a bounded number of segments, so that no
other reader waits long. Nothing is ever written here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from jobsvc.domain.events import EventType
from jobsvc.domain.words import JobId
from jobsvc.store import codec
from jobsvc.store.blocks import block
from jobsvc.store.seam import BYTES_PER_PAGE_MAX, Record, Segment
from jobsvc.store.segments import unpack_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import StreamPlace

SEGMENTS_PER_HOP_MAX: Final = 32
"""About 100 ms on the reader's thread."""

EVENTS_PER_SLICE: Final = 128
"""How many events are decoded before others get a turn: about half a millisecond."""


class Which(Struct, frozen=True):
    """
    Which events a page is to have: above a position and not above another, of a job, an owner or a type, if named.
    """

    after: int
    until: int
    limit: int
    job_id: JobId | None = None
    owner: str | None = None
    type: EventType | None = None

    def has(self, record: Record) -> bool:
        """
        True if *record* is one of them.
        """
        return (
            self.after < record.position <= self.until
            and self.job_id in (None, record.job_id)
            and self.type in (None, record.type)
            and (self.owner is None or self.owner in (record.owner, record.previous_owner))
        )


class Older(Struct, frozen=True):
    """
    What the archive has of a page: all of it up to the position *end*, in order.
    """

    records: list[Record]
    end: int


def select_through(raw: RawConnection) -> int:
    """
    The position of the newest archived event, 0 for none.
    """
    through: int = raw.execute(block("archived_through")).fetchall()[0][0]
    return through


def select_older(raw: RawConnection, which: Which) -> Older:
    """
    Up to a page of *which* out of the segments; it ends early once it is full, or enough segments were opened.
    """
    name = "segments_between" if which.job_id is None else "segments_of_job"
    parameters = {"after": which.after, "until": which.until, "job_id": which.job_id}
    cursor = raw.execute(block(name), parameters)
    found: list[Record] = []
    for opened, (first, number, digest, body) in enumerate(iter(cursor.fetchone, None)):
        # Everything below where this one begins is known now.
        if first - 1 > which.after and (opened >= SEGMENTS_PER_HOP_MAX or _is_full(found, which, below=first)):
            cursor.fetchall()
            return Older(_in_order(found, below=first), first - 1)
        found += [record for record in unpack_records(number, body, digest=digest) if which.has(record)]
    return Older(_in_order(found, below=which.until + 1), which.until)


def select_last_archived(raw: RawConnection) -> Record | None:
    """
    The newest of all archived events.
    """
    for number, digest, body in raw.execute(block("last_archived")).fetchall():
        return unpack_records(number, body, digest=digest)[-1]
    return None


def select_parts(raw: RawConnection, places: Iterable[tuple[int, int]]) -> list[tuple[int, list[Record]]]:
    """
    For each (place, segment) the records of that segment.
    """
    wanted = list(places)
    numbers = sorted({number for _, number in wanted})
    rows = raw.execute(block("find_segments"), {"wanted": codec.dumps(numbers).decode()}).fetchall()
    records = {number: unpack_records(number, body, digest=digest) for number, digest, body in rows}
    return [(place, records[number]) for place, number in wanted if number in records]


def select_older_streams(
    raw: RawConnection, place: StreamPlace, *, last: JobId | None, until: int, limit: int
) -> tuple[list[Record], JobId | None]:
    """
    What is archived of the streams above *place* and up to the job *last* (None: of all), about *limit* events.

    Each stream is there whole; the second value is the job with which it ended early, None if there is no more.
    """
    parameters = {"job_id": place.job_id, "last": last}
    cursor = raw.execute(block("archived_from"), parameters)
    found: list[Record] = []
    opened: dict[int, dict[JobId, list[Record]]] = {}
    reached: JobId | None = None
    for job_id, number in iter(cursor.fetchone, None):
        if job_id != reached and found and (len(found) >= limit or len(opened) >= SEGMENTS_PER_HOP_MAX):
            cursor.fetchall()
            return found, reached
        if number not in opened:
            opened[number] = _by_job(select_body(raw, number))
        reached = job_id
        found += [
            record
            for record in opened[number].get(job_id, ())
            if (record.job_id, record.version) > (place.job_id, place.version) and record.position <= until
        ]
    return found, None


def _by_job(records: Sequence[Record]) -> dict[JobId, list[Record]]:
    streams: dict[JobId, list[Record]] = {}
    for record in records:
        streams.setdefault(record.job_id, []).append(record)
    return streams


def select_reports(
    raw: RawConnection, reports: Sequence[tuple[JobId, str, int, str]]
) -> list[tuple[tuple[JobId, str, int, str], int]]:
    """
    Those of (job, verb, fence, digest) that an archived event was made by, with its version. A late result is none.
    """
    rows = raw.execute(block("find_parts"), {"wanted": codec.dumps([report[0] for report in reports]).decode()})
    found: dict[tuple[JobId, str, int, str], int] = {}
    for place, records in select_parts(raw, rows.fetchall()):
        for record in records:
            if record.job_id == reports[place][0] and record.type != "job.late_result":
                report = codec.loads(record.facts).get("report", {})
                if (record.job_id, report.get("verb"), report.get("fence"), report.get("digest")) == reports[place]:
                    found.setdefault(reports[place], record.version)
    return list(found.items())


def select_body(raw: RawConnection, number: int) -> list[Record]:
    """
    The records of segment *number*; none if there is no such.
    """
    return [record for _, records in select_parts(raw, [(0, number)]) for record in records]


def select_manifest(raw: RawConnection, *, after: int, limit: int) -> list[Segment]:
    """
    A page of the manifest.
    """
    rows = raw.execute(block("manifest"), {"after": after, "limit": limit}).fetchall()
    return [Segment(*row) for row in rows]


async def decoded(records: Sequence[Record]) -> list[Event]:
    """
    The events in *records*. Others get a turn after every 128.

    Raises:
        UnreadableEvent: One of them does not decode.
    """
    events: list[Event] = []
    for record in records:
        events.append(codec.read_record(record))
        if len(events) % EVENTS_PER_SLICE == 0:
            await asyncio.sleep(0)
    return events


def joined(live: Sequence[Any], older: Sequence[Any], *, end: int, limit: int) -> list[Any]:
    """
    A page of both, in order, up to *end*; what is in both is taken once.
    """
    by_position = {one.position: one for one in (*older, *live) if one.position <= end}
    return [by_position[position] for position in sorted(by_position)][:limit]


def _is_full(found: list[Record], which: Which, *, below: int) -> bool:
    settled = [record for record in found if record.position < below]
    size = sum(len(record.facts) + len(record.payload or b"") for record in settled)
    return len(settled) >= which.limit or size >= BYTES_PER_PAGE_MAX


def _in_order(found: list[Record], *, below: int) -> list[Record]:
    return sorted((record for record in found if record.position < below), key=lambda record: record.position)
