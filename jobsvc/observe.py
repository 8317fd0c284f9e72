"""
What commits say in numbers: events by type, how long jobs waited and ran, how often workers fell silent.

Told of every commit by the ledger; only counts. Nothing here may raise or wait.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobsvc.domain.events import LeaseExpired, Started
from jobsvc.domain.moments import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.changes import Change
    from jobsvc.telemetry import Metrics


def observing(metrics: Metrics) -> Callable[[Sequence[Change]], None]:
    """A function that counts the changes of a commit in *metrics*. Cost: about 1 µs an event."""

    def observe(changes: Sequence[Change]) -> None:
        for event_type, count in Counter(change.event.type for change in changes).items():
            metrics.events.labels(event_type).inc(count)
        for change in changes:
            _observe_one(metrics, change)

    return observe


def _observe_one(metrics: Metrics, change: Change) -> None:
    job, event = change.job, change.event
    if isinstance(event.facts, Started):
        metrics.job_wait_s.observe(max(0, event.at - job.ready_at) / SECOND_US)
    elif isinstance(event.facts, LeaseExpired):
        metrics.leases_lapsed.inc()
    elif job.finished_at == event.at and job.started_at is not None:
        metrics.job_run_s.observe((event.at - job.started_at) / SECOND_US)
