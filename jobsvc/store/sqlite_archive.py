"""
Archiving: ended jobs' streams move from the live events to segments, some at a time.

A step is planned on the reader's connection, where it costs the writer nothing: which streams, packed and hashed. Then
one short transaction puts the segment and its manifest row in and takes the events and their history rows out, unless
a stream has grown since. So whoever is killed in between has moved all of it or nothing.
Whether a job may be archived is asked of its newest event and of the view ``active``; no other rule about jobs is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import astuple

from jobsvc.domain.words import JobId
from jobsvc.store.blocks import block, statements
from jobsvc.store.driver import transaction
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Archived, Between, Record
from jobsvc.store.segments import BYTES_PER_SEGMENT_MAX, EVENTS_PER_SEGMENT_MAX, make_segment, pack_records
from jobsvc.store.sqlite_batch import drop_rows
from jobsvc.store.sqlite_pages import POSITION_MAX, as_json
from jobsvc.store.sqlite_records import select_live_records
from jobsvc.store.sqlite_segments import Which, select_body, select_manifest, select_through
from jobsvc.store.sqlite_views import SqliteViews

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobsvc.domain.words import Micros
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import Segment

EVENTS_PER_STRETCH: Final = 2_000
"""How much of the log one step looks at. Most of what is that old moves, so the next step finds other events there."""


class SqliteArchive(SqliteViews):
    """
    The part of the engine that moves streams to segments, on the writer's connection.
    """

    async def archive(self, *, after: int, until: int, at: Micros, between: Between | None = None) -> Archived:
        """
        Some streams of ended jobs, first those that begin first, lie in the next segment.
        """
        plan = await self._read(lambda raw: _plan(raw, after=after, until=until))
        if not plan.records:
            through = await self._read(select_through)
            return Archived(0, 0, until if plan.reached is None else plan.reached, through)
        moved: list[bool] = []

        async def move() -> None:
            moved.append(await self._write(lambda raw: transaction(raw, lambda raw: _move(raw, plan, at=at))))

        await (move() if between is None else between(move))
        if not moved[0]:
            return Archived(0, 0, after, await self._read(select_through))
        # Copied back a little at a time: left to the appends, it would be a large piece of which one has to wait.
        await self._write(lambda raw: raw.execute(block("copy_wal_back")).fetchall())
        through = await self._read(select_through)
        return Archived(len(plan.versions), len(plan.records), plan.reached or until, through)

    async def read_segments(self, *, after: int, limit: int) -> Sequence[Segment]:
        """
        A page of the manifest.
        """
        return await self._read(lambda raw: select_manifest(raw, after=after, limit=min(limit, ROWS_PER_PAGE_MAX)))

    async def read_segment(self, number: int) -> Sequence[Record]:
        """
        The events of one segment.
        """
        return await self._read(lambda raw: select_body(raw, number))

    async def find_archived(self, job_ids: Collection[JobId]) -> frozenset[JobId]:
        """
        Those of *job_ids* that have some of their stream in a segment.
        """
        wanted = {"wanted": as_json(list(job_ids))}
        rows = await self._read(lambda raw: raw.execute(block("find_archived"), wanted).fetchall())
        return frozenset(row[0] for row in rows)

    async def read_archived_jobs(self, owner: str, *, after: JobId, limit: int) -> Sequence[JobId]:
        """
        A page of the archived jobs of *owner*.
        """
        parameters = {"owner": owner, "after": after, "limit": min(limit, ROWS_PER_PAGE_MAX)}
        rows = await self._read(lambda raw: raw.execute(block("archived_of_owner"), parameters).fetchall())
        return [row[0] for row in rows]


class _Plan(Struct):
    """
    What a step is to move: records, packed, and of each of their jobs the newest version and the owner.

    *reached* is up to where nothing is left that may move, None for the end.
    """

    records: list[Record]
    versions: dict[JobId, int]
    owners: dict[JobId, str]
    reached: int | None
    body: bytes = b""


def _plan(raw: RawConnection, *, after: int, until: int) -> _Plan:
    parameters = {"after": after, "until": until, "limit": EVENTS_PER_STRETCH}
    (end, *_), *candidates = raw.execute(block("may_be_archived"), parameters).fetchall()
    plan = _Plan([], {}, {}, end)
    room, size = EVENTS_PER_SEGMENT_MAX, 0
    for _, job_id, first, version, owner in candidates:
        stream = _take(raw, job_id, events_max=room, bytes_max=BYTES_PER_SEGMENT_MAX - size)
        if not stream or (plan.records and stream[-1].version < version):
            # It does not fit any more: the next step begins with it.
            plan.reached = first - 1
            break
        plan.records += stream
        plan.versions[job_id], plan.owners[job_id] = version, owner
        room -= len(stream)
        size += sum(map(_size, stream))
        if stream[-1].version < version:
            plan.reached = first - 1
            break
    plan.records.sort(key=lambda record: record.position)
    plan.body = pack_records(plan.records)
    return plan


def _take(raw: RawConnection, job_id: JobId, *, events_max: int, bytes_max: int) -> list[Record]:
    """
    The beginning of what is live of a stream: as much as fits, but one event at least if there is room for events.
    """
    if events_max <= 0 or bytes_max <= 0:
        return []
    taken: list[Record] = []
    for record in select_live_records(raw, Which(0, POSITION_MAX, events_max, job_id=job_id))[0]:
        bytes_max -= _size(record)
        if taken and bytes_max < 0:
            break
        taken.append(record)
    return taken


def _size(record: Record) -> int:
    return len(record.facts) + len(record.payload or b"")


def _move(raw: RawConnection, plan: _Plan, *, at: Micros) -> bool:
    """
    True once the plan is carried out; False, and nothing was changed, if one of its streams has grown since.
    """
    wanted = as_json(list(plan.versions.items()))
    if raw.execute(block("count_settled"), {"wanted": wanted}).fetchall()[0][0] != len(plan.versions):
        return False
    number, previous = (raw.execute(block("last_segment")).fetchall() or [(0, bytes(32))])[0]
    segment = make_segment(plan.records, plan.body, number=number + 1, previous=previous, archived_at=at)
    raw.execute(block("put_segment"), (*astuple(segment), plan.body))
    owned = [(job_id, segment.number, owner) for job_id, owner in plan.owners.items()]
    for sql, parameters in statements("put_archived_jobs", owned) + drop_rows(plan.versions, table="history"):
        raw.execute(sql, parameters)
    raw.execute(block("open_door"), {"act": "archive"})
    raw.execute(block("drop_archived"), {"positions": as_json([record.position for record in plan.records])})
    raw.execute(block("close_door"))
    return True
