"""
The driver: how a SQLite file is opened, and how a plain function runs on a connection's own thread in one hop.

The only module that knows pysqlite3 and aiosqlite. Here live the version gate, the PRAGMAs (each read back, since a
misspelt one is a silent no-op), the lock file that makes one process the owner of a file, and what an engine's error
means to us. No table, no statement about one, and no rule about jobs ever lives here.
Why not the standard library's SQLite: docs/decisions/0002.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import quote

import aiosqlite
import pysqlite3

from jobsvc.domain.errors import StoreDown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jobsvc.domain.errors import StoreFault

Result = TypeVar("Result")
Row = tuple[Any, ...]

DriverError: Final[type[Exception]] = pysqlite3.Error
"""What every failing statement raises."""

VERSION_MIN: Final = (3, 51, 3)
BACKPORTS: Final[Mapping[tuple[int, int], int]] = {(3, 44): 6, (3, 50): 7}
"""Older lines that got the repair, and from which release of theirs."""

CACHED_STATEMENTS: Final = 512
_LOCK_PAUSES_S: Final = (0.01, 0.02, 0.04, 0.08, 0)
ANNOUNCED_BYTES_MAX: Final = 4_096
BUSY_TIMEOUT_MS: Final = 5_000
CACHE_KIB: Final = 32_768
WAL_BYTES_KEPT_MAX: Final = 64 * 1024 * 1024
CHECKPOINT_PAGES: Final = 4_000
"""16 MiB of log: hot index pages are copied back once for many commits. At 1,000 an append costs a sixth more."""

# The driver asks None how it would like to be adapted and drops the exceptions that say that it would not: for each
# NULL more than it costs to bind one. The get of an empty dict answers None to None without a frame of Python's.
pysqlite3.register_adapter(type(None), dict[None, None]().get)

_log = logging.getLogger("jobsvc.store")


class Cursor(Protocol):
    """
    What a statement answers.
    """

    @property
    def rowcount(self) -> int:
        """
        How many rows the statement changed.
        """
        ...

    def fetchone(self) -> Row | None:
        """
        The next row, or None.
        """
        ...

    def fetchall(self) -> list[Row]:
        """
        The rows that are left.
        """
        ...


class RawConnection(Protocol):
    """
    A connection as the driver makes it, in autocommit: a transaction is what stands between BEGIN and COMMIT.
    """

    @property
    def in_transaction(self) -> bool:
        """
        True between BEGIN and COMMIT or ROLLBACK.
        """
        ...

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> Cursor:
        """
        Run one statement.
        """
        ...

    def interrupt(self) -> None:
        """
        Whatever statement runs fails. From any thread.
        """
        ...

    def close(self) -> None:
        """
        Let go of the file.
        """
        ...


class Connect(Protocol):
    """
    Makes a connection to a file; tests pass one that fails when told to.
    """

    def __call__(self, path: Path, *, read_only: bool) -> RawConnection:
        """
        A new connection, PRAGMAs not yet set.
        """
        ...


def connect(path: Path, *, read_only: bool) -> RawConnection:
    """
    A new connection to *path*; the file is made if it is missing, unless *read_only*.
    """
    mode = "ro" if read_only else "rwc"
    raw: RawConnection = pysqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        isolation_level=None,
        cached_statements=CACHED_STATEMENTS,
        check_same_thread=False,
    )
    return raw


class Connection:
    """
    One connection on a thread of its own; functions run there one after the other, in the order they came.
    """

    def __init__(self, opened: aiosqlite.Connection, raw: RawConnection) -> None:
        self._opened = opened
        self._raw = raw

    @classmethod
    async def open(cls, path: Path, *, read_only: bool = False, connect: Connect = connect) -> Connection:
        """
        A connection to *path* stands, with every PRAGMA in force.

        Raises:
            StoreDown: The file cannot be opened, is no database, or a PRAGMA did not take.
        """
        made: list[RawConnection] = []

        def connector() -> RawConnection:
            raw = connect(path, read_only=read_only)
            try:
                _set_pragmas(raw, _READER if read_only else _WRITER)
            except BaseException:
                raw.close()
                raise
            made.append(raw)
            return raw

        opening = aiosqlite.Connection(connector, iter_chunk_size=64)  # type: ignore[arg-type]
        try:
            opened = await opening
        except DriverError as error:
            # aiosqlite has told its thread to end and does not wait for it; it must not outlive the loop.
            await asyncio.to_thread(opening._thread.join)  # noqa: SLF001
            raise StoreDown(f"the log cannot be opened: {error}", kind=down(error).kind) from error
        return cls(opened, made[0])

    async def run(self, function: Callable[[RawConnection], Result]) -> Result:
        """
        What *function* returns, run on the connection's thread: one hop, 40-50 µs, whatever it does there.

        A caller that is cancelled leaves the function to finish, so a transaction belongs into one function whole.
        """
        # aiosqlite has no public way to run a function of ours; its own methods are all one call of this.
        result: Result = await self._opened._execute(function, self._raw)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    def interrupt(self) -> None:
        """
        The function that runs meets an error at its next step.
        """
        self._raw.interrupt()

    async def close(self) -> None:
        """
        The file is let go of and the thread has ended.
        """
        await self._opened.close()


def transaction(raw: RawConnection, function: Callable[[RawConnection], Result]) -> Result:
    """
    What *function* returns, and what it wrote is committed, all or none.

    Runs on the connection's thread. Immediate, since a transaction that reads first and then writes is refused at once
    when somebody else wrote in between, whatever the busy timeout says.

    Raises:
        DriverError: A statement or the commit failed; rolled back as far as the engine was able to.
    """
    try:
        raw.execute("BEGIN IMMEDIATE")
        result = function(raw)
        raw.execute("COMMIT")
        return result
    except BaseException:
        roll_back(raw)
        raise


def roll_back(raw: RawConnection) -> None:
    """
    No transaction is open, unless the engine cannot even do that.
    """
    with suppress(DriverError):
        if raw.in_transaction:
            raw.execute("ROLLBACK")


def split_statements(script: str) -> list[str]:
    """
    The statements of *script*, triggers whole.
    """
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if pysqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


class FileLock:
    """
    Ownership of a database file by one process, for as long as the lock file stays open.

    The operating system lets go of it when the process ends, however it ends. The file itself is never removed: another
    process may have it open already and would then own a name that is no longer there. What stands in it is where the
    owner can be asked; it counts for as long as there is an owner.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """
        This process owns the file.

        Raises:
            StoreDown: Another one does, or the lock file cannot be made.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreDown("the lock file beside the database cannot be opened", kind="io") from error
        if not _lock(descriptor):
            os.close(descriptor)
            raise StoreDown("another process owns this database; stop it first", kind="busy")
        self._descriptor = descriptor
        self.announce(b"")

    def announce(self, where: bytes) -> None:
        """
        Whoever finds the file owned reads *where* in the lock file; empty before anything was announced.
        """
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, where, 0)

    def read_owner(self) -> bytes | None:
        """
        What the file's owner announced; None if it has none, or one that announced nothing. Changes nothing.

        What an owner left behind that was killed is told from what counts by the lock, which went with it.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            where = file.read(ANNOUNCED_BYTES_MAX)
            return where if where and _is_locked(descriptor) else None

    def release(self) -> None:
        """
        Anyone may own the file.
        """
        if self._descriptor is not None:
            self.announce(b"")
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    """
    True if the lock is ours now. Whoever only looks for an owner has it for an instant, which is waited for.
    """
    for pause_s in _LOCK_PAUSES_S:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return True
    return False


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def check_version(version: tuple[int, ...] = pysqlite3.sqlite_version_info) -> None:
    """
    This SQLite does not lose committed pages when its write-ahead log starts over.

    Releases 3.7.0 to 3.51.2 may, when two connections commit and checkpoint at once (https://sqlite.org/wal.html).

    Raises:
        StoreDown: It is one of those.
    """
    if version >= VERSION_MIN:
        return
    text = ".".join(str(part) for part in version)
    if version[2] < BACKPORTS.get((version[0], version[1]), version[2] + 1):
        _log.error("store.version_refused: SQLite %s can lose committed pages; 3.51.3 or newer is needed", text)
        raise StoreDown(f"SQLite {text} can lose committed pages; 3.51.3 or newer is needed")
    _log.warning("store.version_old: SQLite %s has the repair of 3.51.3 and nothing else of it", text)


def version_text() -> str:
    """
    The release of SQLite in use, for example ``3.53.4``.
    """
    return str(pysqlite3.sqlite_version)


def down(error: Exception) -> StoreDown:
    """
    What *error* of the driver means to us; raise it from *error*.
    """
    name: str = getattr(error, "sqlite_errorname", None) or ""
    return StoreDown(kind=_FAULTS.get("_".join(name.split("_")[:2]), "other"))


_FAULTS: Final[Mapping[str, StoreFault]] = {
    "SQLITE_FULL": "full",
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_IOERR": "io",
    "SQLITE_READONLY": "io",
    "SQLITE_CANTOPEN": "io",
    "SQLITE_CORRUPT": "corrupt",
    "SQLITE_NOTADB": "corrupt",
}

# (name, value to set, value to read back). The journal mode comes first: the others count for it.
_SHARED: Final[tuple[tuple[str, str, object], ...]] = (
    ("busy_timeout", str(BUSY_TIMEOUT_MS), BUSY_TIMEOUT_MS),
    ("cache_size", f"-{CACHE_KIB}", -CACHE_KIB),
    ("foreign_keys", "ON", 1),
    ("mmap_size", "0", 0),
    ("trusted_schema", "OFF", 0),
)
_WRITER: Final = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    *_SHARED,
    ("journal_size_limit", str(WAL_BYTES_KEPT_MAX), WAL_BYTES_KEPT_MAX),
    ("recursive_triggers", "ON", 1),
    ("secure_delete", "ON", 1),
    ("wal_autocheckpoint", str(CHECKPOINT_PAGES), CHECKPOINT_PAGES),
)
_READER: Final = (*_SHARED, ("query_only", "ON", 1), ("wal_autocheckpoint", "0", 0))


def _set_pragmas(raw: RawConnection, pragmas: Sequence[tuple[str, str, object]]) -> None:
    for name, value, expected in pragmas:
        raw.execute(f"PRAGMA {name} = {value}").fetchall()
        row = raw.execute(f"PRAGMA {name}").fetchone()
        if row is None or row[0] != expected:
            raise StoreDown(f"the database does not take {name} = {value}: it says {row}")
