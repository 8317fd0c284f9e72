"""
The sink of a long poll: frames gathered until there is something to come back with, or the time is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsvc.http.connection import Connection


class LongPoll:
    """
    What a long poll brings back.

    Beyond *bytes_max* it comes back though more is due, save within a snapshot, whose cursor stands for all its parts.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lines: list[bytes] = []
        self._news = False
        self._late = False
        self._over = False
        self._due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffered = 0
        self.connection: Connection | None = None

    @property
    def room(self) -> bool:
        """False once there is something to come back with."""
        if self._over:
            return False
        if self.connection is None or not self.connection.follows or self.connection.farewell is not None:
            # Not amid a snapshot, and not before a farewell: whoever is not let in again could never ask for it.
            return True
        enough = self.connection.caught_up or self.buffered >= self._bytes_max
        return not ((self._news or self._late) and enough)

    @property
    def untaken(self) -> int:
        """All of it: nothing is taken before it comes back."""
        return self.buffered

    @property
    def content(self) -> bytes:
        """The frames, separated by commas. A line of JSON has no line feed but its last."""
        return b"".join(self._lines)[:-1].replace(b"\n", b",")

    async def wait(self, timeout_s: float) -> None:
        """
        There is something to come back with, or *timeout_s* has passed.

        However short that is, what was due before is read first: else one who never waits would never get on.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._due)
        except TimeoutError:
            self._late = True
            if self.room:
                await self._due

    def write(self, content: bytes, *, news: bool) -> None:
        """*content* is brought back, and soon if it is *news*."""
        self._lines.append(content)
        self.buffered += len(content)
        self._news = self._news or news

    def full(self) -> None:
        """It comes back."""
        if not self._due.done():
            self._due.set_result(None)

    def finish(self) -> None:
        """It comes back, with nothing more to come."""
        self._over = True
        self.full()

    def abort(self) -> None:
        """As ``finish``: what was gathered is whole frames."""
        self.finish()
