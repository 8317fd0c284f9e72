"""
The rates: how often in a minute somebody may do something.

``Rate`` keeps a number for each who did it since the minute began, all forgotten when it ends; the price is that around
the end of a minute twice as much may come at once. ``LastMinute`` keeps a moment for each time, which costs memory by
what is done, and holds in any sixty seconds. Both go by elapsed time: a step of the wall clock shuts nobody out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import SlowDown
from jobsvc.domain.moments import SECOND_US

if TYPE_CHECKING:
    from jobsvc.clock import Clock

_MINUTE_US: Final = 60 * SECOND_US
_COUNTED_MAX: Final = 100_000
"""So many are told apart in one minute."""
_LATECOMERS: Final = ""
"""Whoever comes when so many are told apart shares one count with all the others who do."""


class Rate:
    """One thing that may be done so often a minute by each. One per thing and service."""

    def __init__(self, clock: Clock, *, per_minute_max: int, message: str) -> None:
        """
        Nothing was done yet.

        Args:
            clock: The time that passes.
            per_minute_max: So often by each; 0 for no bound.
            message: What somebody is told who does it more often.
        """
        self._clock = clock
        self._per_minute_max = per_minute_max
        self._message = message
        self._done: dict[str, int] = {}
        self._ends_at = 0

    def count(self, name: str) -> None:
        """
        *name* does it once more.

        Raises:
            SlowDown: That is more than it may in this minute; it is not counted.
        """
        self._count(name, 1, free=0)

    def count_further(self, name: str, times: int) -> None:
        """
        What *name* was just counted for once turns out to be *times* more.

        The first of a minute is taken whatever it turns out to be, since it would be no less the next time.

        Raises:
            SlowDown: That is more than it may in this minute; it is not counted.
        """
        self._count(name, times, free=1)

    def _count(self, name: str, times: int, *, free: int) -> None:
        """Refused if there were more than *free* before and it is too many with these."""
        if not self._per_minute_max:
            return
        now = self._clock.elapsed()
        if now >= self._ends_at:
            self._done, self._ends_at = {}, now + _MINUTE_US
        done = self._done.get(name)
        if done is None:
            name = name if len(self._done) < _COUNTED_MAX else _LATECOMERS
            done = self._done.get(name, 0)
        if done > free and done + times > self._per_minute_max:
            raise SlowDown(self._message, retry_after_s=(self._ends_at - now) / SECOND_US)
        self._done[name] = done + times


class LastMinute:
    """One thing that may be done so often in any minute by each. One per thing and service."""

    def __init__(self, clock: Clock, *, per_minute_max: int, message: str) -> None:
        """As for ``Rate``; there is always a bound."""
        self._clock = clock
        self._per_minute_max = per_minute_max
        self._message = message
        self._done: OrderedDict[str, deque[int]] = OrderedDict()

    def count(self, name: str) -> None:
        """
        *name* does it once more.

        Raises:
            SlowDown: It did it as often as it may in the last minute; it is not counted.
        """
        now = self._clock.elapsed()
        done = self._done.setdefault(name, deque())
        self._done.move_to_end(name)
        while done and done[0] <= now - _MINUTE_US:
            done.popleft()
        if len(done) >= self._per_minute_max:
            raise SlowDown(self._message, retry_after_s=(done[0] + _MINUTE_US - now) / SECOND_US)
        done.append(now)
        while len(self._done) > _COUNTED_MAX:
            self._done.popitem(last=False)
