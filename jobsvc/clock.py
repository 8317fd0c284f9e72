"""
The two clocks: what time it is, and how much time went by; and chance, the other thing that nobody can replay.

Leases run on the second, so that a stepped wall clock neither ends nor prolongs one; everything that has a date runs
on the first. Tests pass a clock of their own; nobody else reads the time.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock(Protocol):
    """A source of both times, in microseconds."""

    def now(self) -> int:
        """The moment, since the Unix epoch. May be stepped in either direction."""
        ...

    def elapsed(self) -> int:
        """Time since some fixed moment. Never runs backwards."""
        ...


class SteadyClock:
    """
    A moment that never runs backwards and never stands still, whatever is done to the wall clock.

    After a step back it goes on at half speed until the wall clock has caught up: a delay then takes at most twice as
    long. To wait for the wall clock instead would leave every retry of a service lying for as long as the step was.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._moment = clock.now()
        self._since = clock.elapsed()

    def now(self) -> int:
        """The moment; the wall clock's unless that was set back."""
        wall, elapsed = self._clock.now(), self._clock.elapsed()
        slow = self._moment + (elapsed - self._since) // 2
        if wall < slow:
            return slow
        self._moment, self._since = wall, elapsed
        return wall

    def reach(self, moment: int) -> None:
        """It is *moment* by now: somebody wrote so."""
        if moment > self.now():
            self._moment, self._since = moment, self._clock.elapsed()


def random_pieces(size: int) -> Iterator[bytes]:
    """
    Cryptographic randomness without end in pieces of *size*, asked of the system a few thousand bytes at a time.

    One question costs 6 µs here, as much as deciding on a command.
    """
    while True:
        pool = os.urandom(size * _PIECES)
        for start in range(0, len(pool), size):
            yield pool[start : start + size]


_PIECES: Final = 512


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        """The machine's idea of the moment."""
        return time.time_ns() // 1000

    def elapsed(self) -> int:
        """The machine's monotonic clock."""
        return time.monotonic_ns() // 1000
