"""
An opened store, and a second writer on the same log: what every engine's suite runs on.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from jobsvc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Log:
    """
    One log of one engine, and stores on it that are closed when the test ends.
    """

    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self.path = path
        self._stack = stack

    async def writer(self) -> SqliteStore:
        """
        An opened store that may write, one of several.
        """
        return await self._opened(SqliteStore(self.path, alone=False))

    async def reader(self) -> SqliteStore:
        """
        An opened store that looks on.
        """
        return await self._opened(SqliteStore(self.path, read_only=True))

    async def _opened(self, store: SqliteStore) -> SqliteStore:
        await store.open()
        self._stack.push_async_callback(store.close)
        return store


@pytest.fixture(params=["sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    """
    An empty log of each engine.
    """
    async with AsyncExitStack() as stack:
        yield Log(tmp_path / "log.db", stack)


@pytest.fixture
async def store(log: Log) -> SqliteStore:
    """
    An opened store on an empty log.
    """
    return await log.writer()
