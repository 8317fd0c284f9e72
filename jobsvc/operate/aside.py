"""
Aside: a long look at the whole log on a thread of its own, with a store of its own that only reads.

A service's loop waits for none of it, however long its pages take to decode. What is looked for is never decided here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from jobsvc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""

Result = TypeVar("Result")


class GivenUp(Exception):
    """Nobody waits for this look any more."""


async def aside(
    database: Path, look: Callable[[SqliteStore, Progress], Awaitable[Result]], progress: Progress
) -> Result:
    """
    What *look* returns, given a store that only reads *database*; if the caller is cancelled it ends at its next word.

    Args:
        database: The file, which this or another process may own.
        look: Runs on a loop of its own, on another thread: it may touch nothing but what it is given.
        progress: Told on the caller's loop.

    Raises:
        StoreDown: The file cannot be opened. Whatever else *look* raises comes out here too.
    """
    loop, given_up = asyncio.get_running_loop(), threading.Event()

    def tell(done: int, of: int) -> None:
        if given_up.is_set():
            raise GivenUp
        loop.call_soon_threadsafe(progress, done, of)

    try:
        return await asyncio.to_thread(lambda: asyncio.run(_with_store(database, look, tell)))
    finally:
        given_up.set()


async def _with_store(
    database: Path, look: Callable[[SqliteStore, Progress], Awaitable[Result]], tell: Progress
) -> Result:
    store = SqliteStore(database, read_only=True)
    await store.open_as_is()
    try:
        return await look(store, tell)
    finally:
        await store.close()
