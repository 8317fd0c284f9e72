"""
What commits say, in numbers and in a line: events by type, how long jobs waited and ran, which requests they were.

Told of every commit by the ledger; only counts and tells. Nothing here may raise or wait.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobsvc.domain.errors import JobsvcError
from jobsvc.domain.events import TYPE_OF_FACTS, LeaseExpired, Started
from jobsvc.domain.moments import SECOND_US
from jobsvc.telemetry import is_written, log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jobsvc.changes import Change
    from jobsvc.metrics import Metrics


def observing(metrics: Metrics) -> Callable[[Sequence[Change]], None]:
    """A function that counts the changes of a commit in *metrics*. Cost: about 1 µs an event."""

    def observe(changes: Sequence[Change]) -> None:
        for kind, count in Counter([type(change.event.facts) for change in changes]).items():
            metrics.events.labels(TYPE_OF_FACTS[kind]).inc(count)
        for change in changes:
            _observe_one(metrics, change)

    return observe


def log_answered(answers: Iterable[tuple[str | None, object]], changes: Sequence[Change], *, position: int) -> None:
    """
    One line says which requests a batch has done as asked. Cost: 15 µs a line and 0.3 µs an answer.

    Args:
        answers: The request of each command, if it came by one, and what became of the command.
        changes: What the batch has committed.
        position: The head after it.
    """
    if not is_written("ledger.answered"):
        return
    done = [request_id for request_id, outcome in answers if request_id and not isinstance(outcome, JobsvcError)]
    if done or changes:
        types: Counter[str] = Counter(change.event.type for change in changes)
        log("ledger.answered", position=position, types=types or None, request_ids=done or None)


def _observe_one(metrics: Metrics, change: Change) -> None:
    job, event = change.job, change.event
    if isinstance(event.facts, Started):
        metrics.job_wait_s.observe(max(0, event.at - job.ready_at) / SECOND_US)
    elif isinstance(event.facts, LeaseExpired):
        metrics.leases_lapsed.inc()
    elif job.finished_at == event.at and job.started_at is not None:
        metrics.job_run_s.observe((event.at - job.started_at) / SECOND_US)
