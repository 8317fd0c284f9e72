"""
Catching up: pages of the log for connections that are further back than the ring.

A few at a time, a page each in turn, whoever asks: a thousand that resume at once cost the store no more than these
few, and each gets on. A page lives while it is written; a reader that does not take it is asked for its place again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from jobsvc.feed import Feed
    from jobsvc.http.connection import Connection

_CHANGES_PER_READ: Final = 256


class CatchingUp:
    """
    Who waits for a page of the log, and those few who read it for them.

    Attributes:
        pages: How many were read.
    """

    def __init__(self, feed: Feed, *, at_once_max: int) -> None:
        self._feed = feed
        self._at_once_max = at_once_max
        self._asking: deque[Connection] = deque()
        self._readers: set[asyncio.Task[None]] = set()
        self.pages = 0

    def ask(self, connection: Connection) -> None:
        """*connection* is given the page after its position, in its turn."""
        self._asking.append(connection)
        if len(self._readers) < self._at_once_max:
            reader = asyncio.get_running_loop().create_task(self._read())
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)

    async def stop(self) -> None:
        """Nobody is given anything any more."""
        self._asking.clear()
        for reader in list(self._readers):
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read(self) -> None:
        try:
            await self._read_all()
        finally:
            # In the very turn in which nobody asked any more: who asks after it must not count on this reader.
            self._readers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _read_all(self) -> None:
        while self._asking:
            connection = self._asking.popleft()
            if connection.state != "reading":
                continue
            try:
                page, reached = await self._feed.read_store(
                    connection.channel.scope, after=connection.position, limit=_CHANGES_PER_READ
                )
                self.pages += 1
                connection.take(page, reached)
            except Exception as fault:  # noqa: BLE001  # a loop: its reader is cut and comes again, the others go on
                connection.fail(fault)
