"""
Backup and restore: a whole database as of one moment, in a file of its own, that was opened and verified.

Both write beside their target under another name and give it its name last, so that what bears the name is whole; what
broke off is cleared away by the next. A backup is another log from the moment that it is made: cursors of the one that
it was made from mean nothing in it, whatever happens to either. The secret is in neither.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.domain.errors import Corrupt, InvalidCommand, StoreDown
from jobsvc.operate.verify import verify
from jobsvc.store.driver import FileLock
from jobsvc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from jobsvc.domain.errors import StoreFault
    from jobsvc.operate.aside import Progress

_LOOK_EVERY_S: Final = 0.2
_BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, by how their names end."""

_FILE: Final = "/file"

_REFUSED: Final[Mapping[StoreFault, str]] = {
    "full": "there is no room for the copy",
    "io": "the copy cannot be written there",
    "corrupt": "the database is damaged where it was to be copied; verify it",
}


class Copied(Struct, frozen=True):
    """What was copied: up to which position, under which identity, and how large it is."""

    position: int
    chain: str
    epoch: str
    bytes: int


async def back_up(store: SqliteStore, target: Path, *, force: bool = False, progress: Progress) -> Copied:
    """
    *target* is a database with all that *store* held at one moment, verified, under an epoch of its own.

    Args:
        store: Opened to be read; whoever owns the file goes on writing.
        target: Where nothing stands yet.
        force: What stands there is replaced.
        progress: Told bytes, then positions.

    Raises:
        InvalidCommand: Something stands there, or it cannot be written there.
        StoreDown: Somebody owns what stands there.
        Corrupt: The copy does not verify; it is gone again.
    """
    if _same(target, store.path):
        raise InvalidCommand("a backup is another file than the database", pointer=_FILE)
    if _stands(target) and not force:
        raise InvalidCommand("something stands there already; take another name, or force it", pointer=_FILE)
    if await store.standing() == "loading":
        raise InvalidCommand("an import into this database was broken off; run it again first")
    async with _made_whole(target, own=_stands(target)) as spare:
        await _copy(store, spare, progress)
        return await _checked(spare, progress, new_epoch=True)


async def restore(source: Path, database: Path, *, force: bool = False, progress: Progress) -> Copied:
    """
    *database* holds what the backup *source* holds, verified, under the backup's epoch.

    Args:
        source: A backup.
        database: Owned by nobody.
        force: What is in *database* is gone.
        progress: Told bytes, then positions.

    Raises:
        StoreDown: Somebody owns *database*, or *source* is no database of ours.
        InvalidCommand: *database* holds a log or cannot be written, or *source* is no backup.
        Corrupt: The copy does not verify; *database* is as it was.
    """
    if _same(source, database):
        raise InvalidCommand("a database cannot be restored from itself")
    store = SqliteStore(source, read_only=True)
    await store.open_as_is()
    try:
        if await store.standing() != "open":
            raise InvalidCommand("this is no backup, but a log that was sealed, or half of one that was imported")
        if not force and not await _is_empty(database):
            raise InvalidCommand("there is a log in this database already; --force puts the backup in its place")
        async with _made_whole(database, own=True) as spare:
            await _copy(store, spare, progress)
            return await _checked(spare, progress, new_epoch=False)
    finally:
        await store.close()


async def _is_empty(database: Path) -> bool:
    """True if nothing stands there, or a database in which nothing has happened."""
    if not _stands(database):
        return True
    store = SqliteStore(database, read_only=True)
    try:
        await store.open_as_is()
        return (await store.read_head()).position == 0 and await store.standing() == "open"
    except StoreDown:
        return False
    finally:
        await store.close()


@asynccontextmanager
async def _made_whole(target: Path, *, own: bool) -> AsyncIterator[Path]:
    """
    A spare file beside *target*, empty, for the block to fill; then it is *target*, on the disk.

    Meanwhile no other copy goes to it, nor, if it is to be ours to *own*, can a service open it.
    """
    spare = target.with_name(f"{target.name}.part")
    with _written():
        target.parent.mkdir(parents=True, exist_ok=True)
        with _owned(target) if own else nullcontext(), _emptied(spare):
            yield spare
            _sync(spare)
            await _settle(target)
            spare.replace(target)
            _sync(target.parent)


@contextmanager
def _emptied(spare: Path) -> Iterator[None]:
    """
    The file *spare* is ours, and empty, whatever a copy that was killed had left there; gone if the block fails.

    The lock is on the file itself, not on one beside it: it goes with the file when that gets its name, and whoever is
    killed then leaves nothing behind.
    """
    descriptor = os.open(spare, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, spare)
        _clear(spare)
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        try:
            yield
        except BaseException:
            _clear(spare)
            spare.unlink(missing_ok=True)
            raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, spare: Path) -> None:
    """
    The file that is open, and bears the name of *spare*, is ours.

    Raises:
        InvalidCommand: It is somebody else's, or was until it got another name.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(descriptor), spare.stat())
    except (BlockingIOError, FileNotFoundError):
        is_ours = False
    if not is_ours:
        raise InvalidCommand("another copy is on its way there", pointer=_FILE)


@contextmanager
def _owned(database: Path) -> Iterator[None]:
    lock = FileLock(database)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _written() -> Iterator[None]:
    """What the disk refuses is told as what cannot be done; a path stands in no message."""
    try:
        yield
    except OSError as error:
        raise InvalidCommand(f"it cannot be written there: {error.strerror}", pointer=_FILE) from error


async def _settle(target: Path) -> None:
    """
    Nothing stands beside *target* that SQLite would take for a part of what comes in its place.

    What stands there now is made whole first, as far as it can be: until the other has its name, it may be needed.
    """
    if _stands(target):
        store = SqliteStore(target, alone=False)
        with suppress(StoreDown, Corrupt):
            await store.open_as_is()
        await store.close()
    _clear(target)


def _clear(database: Path) -> None:
    """Nothing of SQLite's stands beside *database*."""
    for name in _BESIDE:
        database.with_name(database.name + name).unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _stands(path: Path) -> bool:
    return path.exists()


def _size(path: Path) -> int:
    return path.stat().st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _copy(store: SqliteStore, spare: Path, progress: Progress) -> None:
    of = await store.file_bytes()
    copying = asyncio.create_task(store.copy_to(spare))
    try:
        while not (await asyncio.wait({copying}, timeout=_LOOK_EVERY_S))[0]:
            progress(min(_size(spare), of), of)
        copying.result()
    except StoreDown as error:
        raise InvalidCommand(_REFUSED.get(error.kind, "the copy broke off"), pointer=_FILE) from error
    except BaseException:
        store.interrupt()
        await asyncio.wait({copying})
        raise


async def _checked(spare: Path, progress: Progress, *, new_epoch: bool) -> Copied:
    """
    What the copy holds, which is as it should be.

    Raises:
        Corrupt: It is not.
    """
    store = SqliteStore(spare, alone=False)
    await store.open_as_is()
    try:
        head = await store.begin_epoch() if new_epoch else await store.read_head()
        found = await store.wrong_with_file()
        if found is not None:
            raise Corrupt(f"the copy is damaged: {found}")
        verified = await verify(store, progress=progress)
        if verified.findings:
            first = verified.findings[0]
            place = "" if first.position is None else f"position {first.position}: "
            raise Corrupt(f"the copy does not verify: {place}{first.what}")
        await store.leave_wal()
    finally:
        await store.close()
    return Copied(head.position, head.chain.hex(), head.epoch, _size(spare))
