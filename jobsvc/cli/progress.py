"""
What the verbs that read a whole log share: a store opened for reading or for repair, and a bar for who waits.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

from jobsvc.cli.options import Misused, Wrong

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from jobsvc.store.sqlite import SqliteStore


class Counting(Protocol):
    """Told how much is done, and of how much where that changed or was not known before."""

    def __call__(self, done: int, of: int = ..., /) -> None:
        """So much is done."""
        ...


@asynccontextmanager
async def reading(database: Path) -> AsyncIterator[SqliteStore]:
    """
    The log's store, read only; a service may hold it meanwhile. Whatever is wrong inside is for the reader to find.

    Raises:
        Misused: There is no such log, or it cannot be opened.
        Wrong: It holds what this version cannot read.
    """
    async with _opened(database, read_only=True) as store:
        yield store


@asynccontextmanager
async def repairing(database: Path) -> AsyncIterator[SqliteStore]:
    """
    The log's store, ours alone. Raises as ``reading`` does, and Misused while a service holds the file.
    """
    async with _opened(database, read_only=False) as store:
        yield store


@asynccontextmanager
async def _opened(database: Path, *, read_only: bool) -> AsyncIterator[SqliteStore]:
    from jobsvc.domain.errors import Corrupt, StoreDown
    from jobsvc.store.sqlite import SqliteStore

    store = SqliteStore(existing(database), read_only=read_only)
    try:
        await store.open_as_is()
    except StoreDown as error:
        beside = "" if read_only else "; a running service rebuilds a view with POST /api/projections/NAME/rebuild"
        raise Misused(error.message + beside) from error
    try:
        yield store
    except (Corrupt, StoreDown) as error:
        raise Wrong(error.message) from error
    finally:
        await store.close()


def existing(database: Path) -> Path:
    """
    *database*, where there is one.

    Raises:
        Misused: There is none.
    """
    """
    The same path, at which something stands.

    Raises:
        Misused: Nothing does.
    """
    if not database.exists():
        raise Misused(f"there is no log at {database}; name one with --database")
    return database


@contextmanager
def counting(what: str, total: int) -> Iterator[Counting]:
    """Whoever waits at a terminal sees how far *what* is of *total*; elsewhere nothing is printed."""
    if not sys.stderr.isatty():
        yield lambda _done, _of=0: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(what, total=max(total, 1))
        yield lambda done, of=0: bar.update(line, completed=done, total=max(of or total, 1))
