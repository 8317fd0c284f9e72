"""
The rates: how often in a minute somebody may do something.

A number for each who did it since the minute began, all forgotten when it ends. Not a list of moments for each, which
would cost memory by what is done; the price is that around the end of a minute twice as much may come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import SlowDown
from jobsvc.domain.moments import SECOND_US

if TYPE_CHECKING:
    from jobsvc.clock import Clock

_MINUTE_US: Final = 60 * SECOND_US
_COUNTED_MAX: Final = 100_000
"""So many are told apart in one minute; who comes later shares one count with all the others who do."""
_LATECOMERS: Final = ""


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

    def count(self, name: str, *, weight: int = 1) -> None:
        """
        *name* does it, *weight* times.

        Raises:
            SlowDown: That is more than it may in this minute; it is not counted.
        """
        if not self._per_minute_max:
            return
        now = self._clock.elapsed()
        if now >= self._ends_at:
            self._done, self._ends_at = {}, now + _MINUTE_US
        if name not in self._done and len(self._done) >= _COUNTED_MAX:
            name = _LATECOMERS
        done = self._done.get(name, 0)
        if done and done + weight > self._per_minute_max:
            raise SlowDown(self._message, retry_after_s=(self._ends_at - now) / SECOND_US)
        self._done[name] = done + weight
