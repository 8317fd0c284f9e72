"""
A histogram: how often something was about how large, counted a batch at a time and written out when it is asked for.

As prometheus_client writes one, which it counts bucket by bucket, each under a lock of its own, once for each amount: a
commit brings hundreds, and all of them on the event loop. What must never live here: names, texts and bounds.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry


class Histogram(Collector):
    """
    How many amounts there were up to each of some bounds, and what they add up to. For one thread.
    """

    def __init__(self, name: str, text: str, *, bounds: Iterable[float], registry: CollectorRegistry) -> None:
        """There was none yet; *registry* shows it under *name*, as *text* says, up to each of *bounds*, which rise."""
        self._name = name
        self._text = text
        self._bounds = [*bounds, inf]
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, amounts: Sequence[float]) -> None:
        """There were these *amounts* too."""
        self._sum += sum(amounts)
        for amount in amounts:
            self._counts[bisect_left(self._bounds, amount)] += 1

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """By which the registry learns its name, and takes no other of that name."""
        return self.collect()

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What there was so far."""
        names = map(floatToGoString, self._bounds)
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)
