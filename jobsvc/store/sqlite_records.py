"""
Records: events byte for byte as they are stored, in the order of the log or in that of their jobs.

A page is bounded in rows and in bytes, and is joined from what is live and what the archive has of the same stretch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict, replace

from jobsvc.store.blocks import block
from jobsvc.store.seam import BYTES_PER_PAGE_MAX, Record
from jobsvc.store.sqlite_segments import select_older, select_older_streams, select_through

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobsvc.domain.words import JobId
    from jobsvc.store.driver import Cursor, RawConnection, Row
    from jobsvc.store.seam import StreamPlace
    from jobsvc.store.sqlite_segments import Older, Which


def select_live_records(raw: RawConnection, which: Which) -> tuple[list[Record], bool]:
    """
    A page of what lies in no segment, as stored, byte for byte; whether that is all there is.
    """
    name = "records" if which.job_id is None else "records_of_job"
    rows, whole = _bounded(raw.execute(block(name), asdict(which)), rows_max=which.limit)
    return [_record_of(*row) for row in rows], whole


def select_records(raw: RawConnection, *, which: Which) -> tuple[list[Record], Older | None]:
    """
    The same as stored, byte for byte.
    """
    live, whole = select_live_records(raw, which)
    through = select_through(raw)
    if not through or which.after >= through:
        return live, None
    return live, select_older(raw, which if whole else replace(which, until=live[-1].position))


def select_by_stream(
    raw: RawConnection, place: StreamPlace, bounds: Mapping[str, int]
) -> tuple[list[Record], JobId | None]:
    """
    A page in the order of jobs from *place* on, and the last job of which it has everything; None for the last page.
    """
    above = {"job_id": place.job_id, "version": place.version, **bounds}
    rows, whole = _bounded(raw.execute(block("records_by_stream"), above), rows_max=bounds["limit"])
    return _with_older(raw, place, bounds, live=[_record_of(*row) for row in rows], whole=whole)


def _with_older(
    raw: RawConnection, place: StreamPlace, bounds: Mapping[str, int], *, live: list[Record], whole: bool
) -> tuple[list[Record], JobId | None]:
    """
    A page of streams with what of them is archived, and the last job of which it has everything; None for the last.
    """
    last = None if whole else live[-1].job_id
    older, reached = select_older_streams(raw, place, last=last, until=bounds["until"], limit=bounds["limit"])
    records = [record for record in (*older, *live) if reached is None or record.job_id <= reached]
    records.sort(key=lambda record: (record.job_id, record.version))
    if reached is not None and (last is None or reached < last):
        return records, reached
    return records, None if whole else _last_whole(records, place)


def _last_whole(records: Sequence[Record], place: StreamPlace) -> JobId:
    """
    The last job of which the page is known to have everything: the one before that in which it ends.
    """
    last = records[-1].job_id
    before = place.done if place.job_id == last else place.job_id
    return next((record.job_id for record in reversed(records) if record.job_id != last), before)


def _record_of(*columns: Any) -> Record:  # noqa: ANN401 - as many as the block ``records`` has
    position, job_id, version, type, schema, at, owner, facts, *others = columns
    return Record(position, job_id, version, type, schema, at, owner, facts.encode(), *others)


def _bounded(rows: Cursor, *, rows_max: int) -> tuple[list[Row], bool]:
    """
    The first of *rows*, up to the one that makes them too large for a page; whether that is all there are.
    """
    taken: list[Row] = []
    size = 0
    while size <= BYTES_PER_PAGE_MAX and (row := rows.fetchone()) is not None:
        taken.append(row)
        size += len(row[7]) + (len(row[8]) if row[8] else 0)
    return taken, size <= BYTES_PER_PAGE_MAX and len(taken) < rows_max


def fitting(records: Iterable[Record]) -> list[Record]:
    """
    The first of *records*, up to the one that makes them too large for a page.
    """
    taken: list[Record] = []
    size = 0
    for record in records:
        taken.append(record)
        size += len(record.facts) + len(record.payload or b"")
        if size > BYTES_PER_PAGE_MAX:
            break
    return taken
