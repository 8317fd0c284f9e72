"""
The tally: what happened second by second in the last hour, and minute by minute in the last day.

Told of every commit; when the service starts, of the newest events of the log too; and every now and then of how many
streams are open and how far behind who reads along is. In memory, and bounded however much happens: a count for each
type of event, of waits and runs how many there were of about each length, and the highest of what was looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from math import ceil, log2
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from jobsvc.changes import count_types, waits_and_runs
from jobsvc.domain.moments import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.changes import Change
    from jobsvc.domain.words import Micros

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
MINUTE_S: Final = 60

_PARTS_PER_DOUBLING: Final = 4
"""How finely lengths are told apart: to a fifth."""

_SPARE: Final = 60
"""How many intervals more than are kept there may be before those that are too old are looked for."""


class Lengths(Struct):
    """How long something took, each time that it happened."""

    count: int = 0
    sum_us: int = 0
    max_us: int = 0
    by_size: Counter[int] = field(default_factory=Counter)

    def add(self, lengths_us: Sequence[int]) -> None:
        """It happened as often again, and took so long each time."""
        if lengths_us:
            self.count += len(lengths_us)
            self.sum_us += sum(lengths_us)
            self.max_us = max(self.max_us, *lengths_us)
            self.by_size.update([ceil(log2(length_us or 1) * _PARTS_PER_DOUBLING) for length_us in lengths_us])

    def merge(self, other: Lengths) -> None:
        """What *other* knows is known here too."""
        self.count += other.count
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)
        self.by_size.update(other.by_size)

    def within_us(self, share: float) -> int:
        """Within how long so large a *share* of all was over, a fifth too much at most; 0 if there were none."""
        left = share * self.count
        for size in sorted(self.by_size):
            left -= self.by_size[size]
            if left <= 0:
                return min(self.max_us, int(2 ** (size / _PARTS_PER_DOUBLING)))
        return self.max_us


class Levels(Struct):
    """What stood how high at a moment, or at its highest in a span of time."""

    streams: int = 0
    stream_lag: int = 0
    projection_lag: int = 0

    def raise_to(self, other: Levels) -> None:
        """What stood higher in *other* stands as high here."""
        self.streams = max(self.streams, other.streams)
        self.stream_lag = max(self.stream_lag, other.stream_lag)
        self.projection_lag = max(self.projection_lag, other.projection_lag)


class Interval(Struct):
    """
    What happened in one span of time: events by type, how long jobs had waited that began, and run that ended.

    ``levels`` is None where nobody looked.
    """

    events: Counter[str] = field(default_factory=Counter)
    waits: Lengths = field(default_factory=Lengths)
    runs: Lengths = field(default_factory=Lengths)
    avoided: int = 0
    levels: Levels | None = None

    def add(self, changes: Sequence[Change]) -> None:
        """*changes* happened."""
        self.events.update(count_types(changes))
        waits, runs = waits_and_runs(changes)
        self.waits.add(waits)
        self.runs.add(runs)

    def see(self, levels: Levels) -> None:
        """*levels* were met."""
        self.levels = self.levels or Levels()
        self.levels.raise_to(levels)

    def merge(self, other: Interval) -> None:
        """What happened in *other* happened here too."""
        self.events.update(other.events)
        if other.waits.count:
            self.waits.merge(other.waits)
        if other.runs.count:
            self.runs.merge(other.runs)
        self.avoided += other.avoided
        if other.levels is not None:
            self.see(other.levels)


class Tally:
    """
    The last hour in seconds, and the last day in minutes. One per service.

    Attributes:
        since: From this moment on nothing is missing.
    """

    def __init__(self, since: Micros) -> None:
        self.since = since
        self._seconds = _Intervals(1, HOUR_S)
        self._minutes = _Intervals(MINUTE_S, DAY_S)

    def add(self, changes: Sequence[Change]) -> None:
        """*changes* were committed in this order, now or before. Cost: about 1 µs each."""
        begin = 0
        while begin < len(changes):
            moment = _at(changes[begin])
            end = bisect_left(changes, moment - moment % SECOND_US + SECOND_US, begin, key=_at)
            interval = Interval()
            interval.add(changes[begin:end])
            self._seconds.add(moment, interval)
            self._minutes.add(moment, interval)
            begin = end

    def avoid(self, now: Micros) -> None:
        """A request for a job was given one that there was: a duplicate less. No event says so."""
        self._seconds.at(now).avoided += 1
        self._minutes.at(now).avoided += 1

    def see(self, now: Micros, levels: Levels) -> None:
        """*levels* were met now. Until somebody looks again, nothing is known."""
        self._seconds.at(now).see(levels)
        self._minutes.at(now).see(levels)

    def steps(self, now: Micros, window_s: int, *, step_s: int) -> list[tuple[Micros, Interval]]:
        """
        The spans of *step_s* that the last *window_s* touch, oldest first, each with its beginning.

        Args:
            now: The end, in the last of them.
            window_s: Up to an hour, or up to a day where *step_s* is in whole minutes.
            step_s: In whole seconds; a span begins at a multiple of it.
        """
        kept = self._seconds if window_s <= HOUR_S else self._minutes
        step_us = step_s * SECOND_US
        last = now // step_us
        first = min(last, (now - window_s * SECOND_US) // step_us + 1)
        return [
            (number * step_us, kept.between(number * step_s, (number + 1) * step_s))
            for number in range(first, last + 1)
        ]


def _at(change: Change) -> Micros:
    return change.event.at


class _Intervals:
    """Intervals of one length, by number since 1970, as many as the newest *kept_s* have."""

    def __init__(self, length_s: int, kept_s: int) -> None:
        self._length_s = length_s
        self._count = kept_s // length_s + 1
        self._by_number: dict[int, Interval] = {}
        self._newest = 0

    def add(self, moment: Micros, interval: Interval) -> None:
        """What happened in *interval*, all of it around *moment*, is known here unless that is too long ago."""
        if moment // (self._length_s * SECOND_US) > self._newest - self._count:
            self.at(moment).merge(interval)

    def at(self, moment: Micros) -> Interval:
        """The interval that *moment* is in; one that is not too old."""
        number = moment // (self._length_s * SECOND_US)
        interval = self._by_number.get(number)
        return self._begin(number) if interval is None else interval

    def between(self, begin_s: int, end_s: int) -> Interval:
        """All that happened in the intervals from one moment to before another."""
        together = Interval()
        for number in range(begin_s // self._length_s, end_s // self._length_s):
            interval = self._by_number.get(number)
            if interval is not None:
                together.merge(interval)
        return together

    def _begin(self, number: int) -> Interval:
        self._newest = max(self._newest, number)
        if len(self._by_number) >= self._count + _SPARE:
            oldest = self._newest - self._count
            self._by_number = {each: kept for each, kept in self._by_number.items() if each > oldest}
        interval = self._by_number[number] = Interval()
        return interval
