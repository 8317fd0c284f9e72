"""
The SQLite engine: the log in one file, written by one connection, one transaction and one thread hop a batch.

Here live opening, appending and looking up, which go through the writer's connection. Reads are sqlite_reads.py,
rebuilt views and catch-up projections sqlite_views.py, the archive sqlite_archive.py, the statements of a batch
sqlite_batch.py.
No statement is written here (queries.sql has them), and no rule about jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import Struct

from jobsvc.domain.errors import Corrupt, StoreDown
from jobsvc.domain.words import JobId
from jobsvc.store import codec
from jobsvc.store.blocks import block
from jobsvc.store.chain import GENESIS
from jobsvc.store.driver import Row, roll_back, transaction
from jobsvc.store.seam import (
    ROWS_PER_PAGE_MAX,
    Batch,
    Behind,
    DedupKey,
    Found,
    Head,
    HistoryRow,
    KeyRow,
    Mark,
    Needs,
    Opening,
)
from jobsvc.store.sqlite_batch import prepare
from jobsvc.store.sqlite_carrying import SqliteCarrying, select_standing
from jobsvc.store.sqlite_erasing import erase, forget_principal
from jobsvc.store.sqlite_folds import Streams, folded, select_streams
from jobsvc.store.sqlite_pages import POSITION_MAX, as_json, select_head, select_page, unpacked
from jobsvc.store.sqlite_segments import select_last_archived, select_reports, select_through

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Micros
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.sqlite_batch import Prepared
    from jobsvc.store.sqlite_folds import Wanted

MARKS_PER_CALL_MAX: Final = 1_000

Asked = TypeVar("Asked")
ReportKey = tuple[JobId, str, int, str]


class SqliteStore(SqliteCarrying):
    """
    The seam (store/seam.py) kept in a SQLite file; what each method promises stands there.
    """

    _head: Head

    async def open(self) -> Opening:
        """
        The file is this process's, at this version's schema, and its head fits its log.
        """
        await self._open_connections()
        try:
            await self._check_standing()
            return await self._opening()
        except BaseException:
            await self.close()
            raise

    async def open_as_is(self) -> None:
        """
        The file is open, whatever state its rows are in: for those who come to look at that, or to mend it.
        """
        await self._open_connections()

    async def reopen(self) -> Opening:
        """
        The writer's connection is a new one, and the head is what the file says.
        """
        await self._reopen_writer()
        return await self._opening()

    async def close(self) -> None:
        """
        Both connections are closed, and another process may own the file.
        """
        await self._close_connections()

    async def append(self, batch: Batch, *, decided_at: int) -> Head:
        """
        *batch* is on the disk, all of it, with the rows and marks that follow from it.
        """
        head = await self._head_at(decided_at)
        prepared = prepare(batch, head)
        missed = await self._write(lambda raw: _commit(raw, prepared, decided_at=decided_at))
        if missed is not None:
            raise Behind([event for _, event in await unpacked(missed)])
        self._head = prepared.head
        return prepared.head

    async def look_up(self, needs: Needs) -> Found:
        """
        What the log, the history and the marks know of *needs*, in one hop.
        """
        ask = self._read if self.read_only else self._write
        rows = await ask(lambda raw: _select_found(raw, needs))
        jobs = await folded(rows.streams)
        return _found(rows, jobs)

    async def forget_marks(self, *, expired_at: Micros) -> int:
        """
        Up to 1,000 marks that had expired are gone.
        """
        parameters = {"expired_at": expired_at, "limit": MARKS_PER_CALL_MAX}
        return await self._write(lambda raw: raw.execute(block("forget_marks"), parameters).rowcount)

    async def _check_standing(self) -> None:
        """
        The log may be appended to, or this store only looks.

        Raises:
            StoreDown: The log has moved elsewhere, or is only half here.
        """
        standing = "open" if self.read_only else await self._read(select_standing)
        if standing != "open":
            raise StoreDown(_NOT_OPEN[standing])

    async def forget_principal(self, principal: str) -> None:
        """
        No mark of a request is *principal*'s any more, and no claimed guest's says that it became it.
        """
        await self._write(lambda raw: transaction(raw, lambda raw: forget_principal(raw, principal)))

    async def scrub(self) -> bool:
        """
        The write-ahead log is empty.
        """
        return await self.checkpoint()

    async def _opening(self) -> Opening:
        ask = self._read if self.read_only else self._write
        rows = await ask(_select_opening)
        self._head = rows.head
        return Opening(
            head=rows.head,
            active=[codec.decode_job(row[0]) for row in rows.active],
            keys={row[0]: KeyRow(*row) for row in rows.keys},
            archived_through=rows.archived_through,
        )

    async def _head_at(self, decided_at: int) -> Head:
        """
        The head, if it is where the caller decided.

        What this process knows of the head may be old if there is a second writer; then the file is asked.
        """
        if decided_at != self._head.position:
            self._head = await self._write(select_head)
        if decided_at > self._head.position:
            raise ValueError(f"decided at {decided_at}, but the log ends at {self._head.position}")
        if decided_at < self._head.position:
            packed = await self._write(lambda raw: _select_since(raw, decided_at))
            raise Behind([event for _, event in await unpacked(packed)])
        return self._head


_NOT_OPEN: Final[Mapping[str, str]] = {
    "loading": "an import into this database was broken off; run it again, or remove the file",
    "sealed": "this log was sealed by an export, and goes on where that was imported; here it can only be read",
}


class _OpeningRows(Struct, frozen=True):
    head: Head
    active: list[Row]
    keys: list[Row]
    archived_through: int


class _FoundRows(Struct, frozen=True):
    """
    What a look-up brought from the thread: rows, and one page of streams in the order of ``wanted``.
    """

    marks: list[Row]
    history: list[Row]
    completed: list[tuple[DedupKey, int]]
    reports: list[tuple[ReportKey, int]]
    jobs: list[tuple[JobId, int]]
    streams: Streams


def _commit(raw: RawConnection, prepared: Prepared, *, decided_at: int) -> bytes | None:
    """
    None once all is committed; else a page of what came since *decided_at*, and nothing was written.
    """
    head = prepared.head
    moved = {"position": head.position, "chain": head.chain, "at": head.at, "decided_at": decided_at}
    try:
        raw.execute("BEGIN IMMEDIATE")
        if raw.execute(block("advance_head"), moved).rowcount == 0:
            raw.execute("ROLLBACK")
            return _select_since(raw, decided_at)
        for sql, parameters in prepared.statements:
            raw.execute(sql, parameters)
        if prepared.erased:
            erase(raw, prepared.erased)
        raw.execute("COMMIT")
        return None
    except BaseException:
        roll_back(raw)
        raise


def _select_since(raw: RawConnection, position: int) -> bytes:
    parameters = {"after": position, "until": POSITION_MAX, "limit": ROWS_PER_PAGE_MAX}
    return select_page(raw, "events_of_log", parameters=parameters)[0]


def _select_opening(raw: RawConnection) -> _OpeningRows:
    """
    The head and the views as of one moment.

    Raises:
        Corrupt: The last event is not the one that the head names.
    """
    raw.execute("BEGIN")
    try:
        head = select_head(raw)
        if not _ends_at(raw, head):
            raise Corrupt(f"the head says position {head.position}, and the log does not end there")
        return _OpeningRows(
            head=head,
            active=raw.execute(block("all_active")).fetchall(),
            keys=raw.execute(block("all_keys")).fetchall(),
            archived_through=select_through(raw),
        )
    finally:
        roll_back(raw)


def _ends_at(raw: RawConnection, head: Head) -> bool:
    """
    True if the newest event, wherever it lies, is the one that *head* names.
    """
    live = raw.execute(block("last_event")).fetchall() or [(0, GENESIS)]
    if live[0] == (head.position, head.chain):
        return True
    archived = select_last_archived(raw) if live[0][0] < head.position else None
    return archived is not None and (archived.position, archived.chain) == (head.position, head.chain)


def _select_found(raw: RawConnection, needs: Needs) -> _FoundRows:
    """
    Everything that *needs* asks for, each kind in one statement and all streams in one page.
    """
    wanted: list[Wanted] = [(job_id, None) for job_id in needs.jobs]
    jobs = [(job_id, place) for place, (job_id, _) in enumerate(wanted)]
    completed: list[tuple[DedupKey, int]] = []
    for key, job_id in _select_list(raw, "find_completed", wanted=list(needs.completed)):
        if job_id is not None:
            completed.append((key, len(wanted)))
            wanted.append((job_id, None))
    reports: list[tuple[ReportKey, int]] = []
    for report, version in _select_list(raw, "find_reports", wanted=list(needs.reports)):
        reports.append((report, len(wanted)))
        wanted.append((report[0], version))
    unknown = needs.reports - {report for report, _ in reports}
    for report, version in select_reports(raw, list(unknown)) if unknown else ():
        reports.append((report, len(wanted)))
        wanted.append((report[0], version))
    return _FoundRows(
        marks=_select(raw, "find_marks", wanted=list(needs.marks)),
        history=_select(raw, "find_history", wanted=list(needs.jobs)),
        completed=completed,
        reports=reports,
        jobs=jobs,
        streams=select_streams(raw, wanted),
    )


def _select(raw: RawConnection, name: str, *, wanted: Sequence[object]) -> list[Row]:
    return raw.execute(block(name), {"wanted": as_json(wanted)}).fetchall() if wanted else []


def _select_list(raw: RawConnection, name: str, *, wanted: Sequence[Asked]) -> list[tuple[Asked, Any]]:
    """
    For each of *wanted* that the block answers: what was asked for, and the answer.
    """
    return [(wanted[place], answer) for place, answer in _select(raw, name, wanted=wanted)]


def _found(rows: _FoundRows, jobs: Mapping[int, Job]) -> Found:
    return Found(
        jobs={job_id: jobs[place] for job_id, place in rows.jobs if place in jobs},
        history={row[0]: HistoryRow(*row) for row in rows.history},
        marks={row[:3]: Mark(*row) for row in rows.marks},
        completed={key: jobs[place] for key, place in rows.completed},
        reports={report: jobs[place] for report, place in rows.reports},
    )
