"""
The timer wheel: everyone who is to be woken some time, in buckets of one tick, with one timer for all of them.

A connection that waits costs an entry in a bucket, not a timer of its own: twenty thousand idle streams are one timer.
Being late by up to a tick is the price, and what time it is, it says to the tick too.
(Source: Varghese and Lauck, Hashed and Hierarchical Timing Wheels, 1987.)
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsvc.slices import Slices

UNSET: Final = -1
"""The ``slot`` of what stands in no bucket."""


class Timed(Protocol):
    """
    What can be woken. ``slot`` is the wheel's own: where it stands, or UNSET.
    """

    slot: int

    def on_time(self) -> None:
        """
        Its time has come; it stands in no bucket now, and puts itself there again if it is to be woken again.
        """
        ...


class Wheel:
    """
    Who is woken when. Made in a running loop, for it.

    Cost: a put or drop is O(1), and each tick costs those whose time has come.
    """

    def __init__(self, slices: Slices, *, tick_s: float) -> None:
        self._slices = slices
        self._tick_s = tick_s
        # Kept: to ask for it is a call of the system (CPython 3.11: getpid), and time is asked for with each frame.
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[int, tuple[int, dict[Timed, None]]] = {}
        """Each with its slot: the one number for all who stand there, not a number each. A dict is half of a set."""
        self._slots: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._now_s = 0.0

    def now_s(self) -> float:
        """
        The loop's time, or up to a tick later: one and the same number for all who ask, and may keep it, within a tick.
        """
        now_s = self._loop.time()
        if now_s > self._now_s:
            self._now_s = (int(now_s / self._tick_s) + 1) * self._tick_s
        return self._now_s

    def since_s(self, moment_s: float) -> float:
        """
        How long ago it was that ``now_s`` gave *moment_s*; up to a tick more, and never less.
        """
        return self._loop.time() + self._tick_s - moment_s

    def put(self, one: Timed, due_s: float) -> None:
        """
        *one* is woken at *due_s* of the loop's clock, or up to a tick later; no earlier time holds any more.
        """
        slot = int(due_s / self._tick_s) + 1
        if slot == one.slot:
            return
        self.drop(one)
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = (slot, {})
            heappush(self._slots, slot)
            if self._slots[0] == slot:
                self._schedule()
        one.slot, standing = bucket
        standing[one] = None

    def drop(self, one: Timed) -> None:
        """
        *one* is not woken. Dropping what stands nowhere does nothing.
        """
        bucket = self._buckets.get(one.slot)
        if bucket is not None:
            bucket[1].pop(one, None)
        one.slot = UNSET

    def stop(self) -> None:
        """
        Nobody is woken any more.
        """
        self._buckets.clear()
        self._slots.clear()
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._slots:
            self._timer = self._loop.call_at(self._slots[0] * self._tick_s, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._slots and self._slots[0] * self._tick_s <= now_s:
            slot = heappop(self._slots)
            self._slices.add(self._wake(*self._buckets.pop(slot)))
        self._schedule()

    @staticmethod
    def _wake(slot: int, bucket: dict[Timed, None]) -> Iterator[None]:
        for one in bucket:
            # Another's turn may have dropped it or put it elsewhere since the bucket was taken out.
            if one.slot == slot:
                one.slot = UNSET
                one.on_time()
                yield
