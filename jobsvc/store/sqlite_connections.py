"""
The two connections of the SQLite engine: one that writes, one that only reads, and who owns the file.

Only the writer's connection ever writes or checkpoints; after it failed nothing is written until it was opened anew,
since only the file knows whether a commit took effect. Schema steps run here. No view, event or JSON ever lives here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from jobsvc.domain.errors import StoreDown
from jobsvc.store.blocks import block, create_view, schema_steps
from jobsvc.store.driver import (
    Connection,
    DriverError,
    FileLock,
    check_version,
    connect,
    down,
    split_statements,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from jobsvc.domain.errors import StoreFault
    from jobsvc.store.driver import Connect, RawConnection

Result = TypeVar("Result")
VIEWS: Final = ("active", "keys", "history")


class SqliteConnections:
    """
    A SQLite file, opened by at most one process to write and by any number to read.

    Args:
        path: The database file; made if it is missing, unless *read_only*.
        read_only: Look on while another process owns the file: nothing is locked, made or written.
        alone: Own the file. False only where a test wants a second writer on the same log.
        connect: Makes the connections; a test passes one that fails.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        read_only: bool = False,
        alone: bool = True,
        connect: Connect = connect,
    ) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._connect = connect
        self._lock = FileLock(self.path) if alone and not read_only else None
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._fault: StoreFault | None = None

    async def announce(self, where: bytes) -> None:
        """
        Whoever finds the file owned is told *where* its owner can be asked.
        """
        if self._lock is not None:
            await asyncio.to_thread(self._lock.announce, where)

    def interrupt(self) -> None:
        """
        What the reader's connection is doing fails with ``StoreDown``.
        """
        if self._reader is not None:
            self._reader.interrupt()

    async def wal_bytes(self) -> int:
        """
        How long the write-ahead log is; one that keeps growing has a reader that does not let go.
        """
        return await asyncio.to_thread(_size, self.path.with_name(self.path.name + "-wal"))

    async def checkpoint(self) -> bool:
        """
        The write-ahead log is in the database and empty; False while a reader still needs it. For idle moments.
        """
        busy: int = (await self._write(lambda raw: raw.execute(block("truncate_wal")).fetchall()))[0][0]
        return not busy

    async def _open_connections(self) -> None:
        check_version()
        if self._lock is not None:
            await asyncio.to_thread(self._lock.acquire)
        try:
            if not self.read_only:
                await self._open_writer()
            self._reader = await Connection.open(self.path, read_only=True, connect=self._connect)
            await self._read(_check_schema)
        except BaseException:
            await self._close_connections()
            raise

    async def _open_writer(self) -> None:
        self._writer = await Connection.open(self.path, connect=self._connect)
        self._fault = None
        await self._write(_install_schema)

    async def _reopen_writer(self) -> None:
        await self._close_writer()
        await self._open_writer()

    async def _close_writer(self) -> None:
        """
        Let go of the writer's connection, whatever state it is in.
        """
        writer, self._writer = self._writer, None
        self._fault = "other"
        if writer is not None:
            await _close(writer)

    async def _close_connections(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await _close(reader)
        await self._close_writer()
        if self._lock is not None:
            self._lock.release()

    async def _read(self, function: Callable[[RawConnection], Result]) -> Result:
        """
        What *function* returns, run on the reader's connection in one hop; it sees every commit so far.
        """
        if self._reader is None:
            raise StoreDown("the store is not open")
        try:
            return await self._reader.run(function)
        except DriverError as error:
            raise down(error) from error

    async def _write(self, function: Callable[[RawConnection], Result]) -> Result:
        """
        What *function* returns, run on the writer's connection in one hop; once it failed, only ``reopen`` helps.
        """
        if self._writer is None or self._fault is not None:
            raise StoreDown("the store takes no writes until it was opened again", kind=self._fault or "other")
        try:
            return await self._writer.run(function)
        except DriverError as error:
            failure = down(error)
            self._fault = failure.kind
            raise failure from error


def _install_schema(raw: RawConnection) -> None:
    """
    Bring the file to this version's schema, each step in a transaction of its own.
    """
    steps, done = schema_steps(), _schema_version(raw)
    if done > len(steps):
        raise StoreDown(f"the database has schema {done}, this version knows {len(steps)}; use a newer version")
    if done == 0 and raw.execute(block("count_tables")).fetchall() != [(0,)]:
        raise StoreDown("the file is a database of something else; it is left as it is")
    for number, step in enumerate(steps[done:], start=done + 1):
        _run_step(raw, step, number=number)


def _run_step(raw: RawConnection, step: str, *, number: int) -> None:
    statements = [*split_statements(step), f"PRAGMA user_version = {number}"]
    if number == 1:
        statements += [statement for view in VIEWS for statement in create_view(view, table=view, side="a")]
    if number == _RESULTS_BY_KEY:
        statements.append(block("create_history_completed", table="history", side=side_of_history(raw)))
    transaction(raw, lambda raw: [raw.execute(statement) for statement in statements])


_RESULTS_BY_KEY: Final = 3

_READABLE_SINCE: Final = 2
"""
The oldest schema that is read as it is: what came later is only an index, which makes reads quicker and no others.

So a backup that an older version made, or a log that this one has not served yet, can be looked at and restored.
"""


def side_of_history(raw: RawConnection) -> str:
    """
    Whose names the indexes of the live history have: ``a`` or ``b``, its shadow's being the other.
    """
    live = raw.execute(block("index_in_use"), {"name": "history_a_by_owner"}).fetchall()[0][0]
    return "a" if live else "b"


def _check_schema(raw: RawConnection) -> None:
    done, known = _schema_version(raw), len(schema_steps())
    if not _READABLE_SINCE <= done <= known:
        raise StoreDown(f"the database has schema {done}, this version reads {_READABLE_SINCE} to {known}")


def _schema_version(raw: RawConnection) -> int:
    version: int = raw.execute(block("schema_version")).fetchall()[0][0]
    return version


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def _close(connection: Connection) -> None:
    try:
        await connection.close()
    except DriverError:
        # A connection that failed may not even close; its thread has ended, and the file is opened anew.
        return
