from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from jobsvc.histogram import Histogram

BOUNDS = (0.25, 1.0, 2.5, 86_400.0)

# Quarters, whose sum is exact in whatever order they are added up.
AMOUNTS = st.sampled_from([0.0, *BOUNDS]) | st.integers(0, 1_000_000).map(lambda quarters: quarters / 4)


@given(st.lists(st.lists(AMOUNTS)))
def test_a_histogram_says_what_the_librarys_own_says(batches: list[list[float]]) -> None:
    """
    Whatever the amounts, and however many of them come at a time, it reads as if each had been counted by itself.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    one_by_one, at_once = CollectorRegistry(), CollectorRegistry()
    expected = prometheus_client.Histogram("h", "Says.", registry=one_by_one, buckets=BOUNDS)
    histogram = Histogram("h", "Says.", bounds=BOUNDS, registry=at_once)

    for batch in batches:
        histogram.observe(batch)
        for amount in batch:
            expected.observe(amount)

    assert generate_latest(one_by_one) == generate_latest(at_once)
