"""
A log on its way from one file to another: loaded page by page, sealed, or copied whole.

What is loaded comes byte for byte as it was recorded, with the rows of the views as of each page, so that a load that
breaks off leaves a log that goes on from there, and that nobody takes for a whole one. What the lines of an export look
like, and whether they may be believed, is never decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.errors import Corrupt, InvalidCommand
from jobsvc.store.blocks import block, statements
from jobsvc.store.driver import roll_back, transaction
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Head, HistoryRow, Mark
from jobsvc.store.sqlite_archive import SqliteArchive
from jobsvc.store.sqlite_batch import drop_rows, mark_rows, put_rows
from jobsvc.store.sqlite_pages import as_json, select_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from jobsvc.domain.words import JobId
    from jobsvc.store.blocks import Statement
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import Loaded, Record, Standing


class SqliteCarrying(SqliteArchive):
    """
    The part of the engine that takes a log elsewhere, and brings one here.
    """

    async def carry_marks(self, take: Callable[[Sequence[Mark]], None]) -> Head:
        """
        The head, and as of it every mark, given to *take* page by page on another thread.
        """
        return await self._read(lambda raw: _carry_marks(raw, take))

    async def seal(self) -> Head:
        """
        Nothing is appended under this epoch any more, here.
        """
        await self._write(lambda raw: transaction(raw, lambda raw: raw.execute(block("seal"))))
        if await self.standing() != "sealed":
            raise InvalidCommand("an import into this log was broken off; there is nothing to seal")
        return await self.read_head()

    async def standing(self) -> Standing:
        """
        Whether the log is ``open``, ``loading`` or ``sealed``.
        """
        return await self._read(select_standing)

    async def begin_load(self) -> Head:
        """
        The log takes pages of another; nobody opens it before ``end_load``.
        """
        begun = await self._write(lambda raw: transaction(raw, lambda raw: raw.execute(block("begin_load")).rowcount))
        if not begun:
            raise InvalidCommand("there is a log in this database already; import into a new one")
        return await self.read_head()

    async def load(self, page: Loaded) -> None:
        """
        The records of *page* stand at the end of the log, with the rows that follow from them.
        """
        made = statements("insert_events", [_event_row(record) for record in page.records])
        made += _view_rows(page.active, "active") + _view_rows(page.keys, "keys") + _view_rows(page.history, "history")
        last = page.records[-1]
        moved = {"position": last.position, "chain": last.chain, "at": last.at}
        moved["loaded_to"] = page.records[0].position - 1
        if not await self._write(lambda raw: transaction(raw, lambda raw: _load(raw, made, moved))):
            raise Corrupt("the log is not where the load left it")

    async def load_marks(self, marks: Sequence[Mark]) -> None:
        """
        *marks* are remembered.
        """
        made = statements("put_marks", mark_rows(marks))
        await self._write(lambda raw: transaction(raw, lambda raw: _run(raw, made)))

    async def end_load(self, *, epoch: str | None) -> Head:
        """
        The log is open, under *epoch* or its own.
        """
        ended = {"epoch": epoch}
        await self._write(lambda raw: transaction(raw, lambda raw: raw.execute(block("end_load"), ended)))
        return await self.read_head()

    async def read_history_rows(self, job_ids: Iterable[JobId]) -> Mapping[JobId, HistoryRow]:
        """
        The rows of ``history`` of *job_ids*, those that exist.
        """
        wanted = {"wanted": as_json(list(job_ids))}
        rows = await self._read(lambda raw: raw.execute(block("find_history"), wanted).fetchall())
        return {row[0]: HistoryRow(*row) for row in rows}

    async def copy_to(self, path: Path) -> None:
        """
        The whole database as of one moment stands in *path*, which does not exist yet. Not on the disk for sure.

        Pins the write-ahead log meanwhile; ``interrupt`` ends it.
        """
        await self._read(lambda raw: _copy(raw, path))

    async def file_bytes(self) -> int:
        """
        How large the database is.
        """
        return await self._read(_file_bytes)

    async def begin_epoch(self) -> Head:
        """
        The log is another one from here on: cursors of before belong to none, and leases of before are void.
        """
        await self._write(lambda raw: transaction(raw, lambda raw: raw.execute(block("begin_epoch"))))
        return await self.read_head()

    async def wrong_with_file(self) -> str | None:
        """
        What SQLite finds wrong with the file first. Reads all of it.
        """
        found: str = (await self._read(lambda raw: raw.execute(block("integrity")).fetchall()))[0][0]
        return None if found == "ok" else found

    async def leave_wal(self) -> None:
        """
        Once closed, the database is one file, which can be read wherever it lies. Its next writer changes that back.
        """
        if self._reader is not None:
            await self._reader.close()
            self._reader = None
        await self._write(lambda raw: raw.execute(block("leave_wal")).fetchall())


def select_standing(raw: RawConnection) -> Standing:
    """
    The standing as this connection sees it.
    """
    standing: Standing = raw.execute(block("standing")).fetchall()[0][0]
    return standing


def _carry_marks(raw: RawConnection, take: Callable[[Sequence[Mark]], None]) -> Head:
    raw.execute("BEGIN")
    try:
        head = select_head(raw)
        rows, page = raw.execute(block("all_marks")), list[Mark]()
        for row in iter(rows.fetchone, None):
            page.append(Mark(*row))
            if len(page) == ROWS_PER_PAGE_MAX:
                take(page)
                page = []
        take(page)
        return head
    finally:
        roll_back(raw)


def _copy(raw: RawConnection, path: Path) -> None:
    raw.execute(block("look_and_copy"))
    try:
        raw.execute(block("vacuum_into"), {"path": str(path)})
    finally:
        raw.execute(block("look_only"))


def _file_bytes(raw: RawConnection) -> int:
    pages: int = raw.execute(block("page_count")).fetchall()[0][0]
    size: int = raw.execute(block("page_size")).fetchall()[0][0]
    return pages * size


def _load(raw: RawConnection, made: list[Statement], moved: Mapping[str, Any]) -> bool:
    if raw.execute(block("advance_load"), moved).rowcount == 0:
        return False
    _run(raw, made)
    return True


def _view_rows(rows: Mapping[JobId, Any], view: str) -> list[Statement]:
    gone = drop_rows((job_id for job_id, row in rows.items() if row is None), table=view)
    return gone + put_rows(view, rows.values(), table=view)


def _event_row(record: Record) -> tuple[Any, ...]:
    return (
        record.position,
        record.job_id,
        record.version,
        record.type,
        record.schema,
        record.at,
        record.owner,
        record.facts.decode(),
        record.payload,
        record.salt,
        record.payload_digest,
        record.chain,
        record.previous_owner,
    )


def _run(raw: RawConnection, made: list[Statement]) -> None:
    for sql, parameters in made:
        raw.execute(sql, parameters)
