"""
What the service says about itself in numbers: every metric, declared once.

Names, types, labels and meanings stand here and nowhere else; docs/operations.md lists them from here. What must never
live here: a label whose values come from outside, such as an id or an owner, and anything that counts by itself.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

# Else every counter and histogram has a second line that says when it was made, which is when the service started.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SHORT_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """
    Every metric of one running service, in a registry of its own, so that two services in one process do not mix.

    Labels have few values, all from code: roles, verbs, codes, event types, route patterns. Never an id or an owner.

    Attributes:
        answered: By route and method, the requests that ``requests`` has yet to be told of. Plain numbers, since every
            request counts and few look; a counter of the library's takes a lock each time.
    """

    content_type: Final = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answered: dict[str, dict[str, int]] = {}
        self._declare_ledger()
        self._declare_jobs()
        self._declare_streams()
        self._declare_http()

    def exposition(self) -> bytes:
        """All metrics in the text format that Prometheus reads."""
        for route, by_method in self.answered.items():
            for method, count in by_method.items():
                self.requests.labels(method, route).inc(count)
                by_method[method] = 0
        return generate_latest(self.registry)

    def _declare_ledger(self) -> None:
        self.refusals = self._counter("refusals", "Requests refused, by code.", "code")
        self.events = self._counter("events", "Events committed, by type.", "type")
        self.commits = self._counter("commits", "Transactions committed by the writer.")
        self.commit_failures = self._counter(
            "commit_failures", "Transactions that failed or whose outcome was unknown."
        )
        self.commit_s = self._histogram("commit_seconds", "One append, from hand-over to durable.")
        self.batch_commands = self._histogram("commit_batch_commands", "Commands in one transaction.", buckets=_SIZES)
        self.queue_depth = self._gauge("queue_depth", "Commands that wait for the writer.")
        self.head_position = self._gauge("head_position", "Position of the newest event.")
        self.archived_through = self._gauge("archived_through", "Position of the newest archived event.")
        self.store_ready = self._gauge("store_ready", "1 while appends work, else 0.")

    def _declare_jobs(self) -> None:
        self.jobs_active = self._gauge("jobs_active", "Active jobs.")
        self.jobs_ready = self._gauge("jobs_ready", "Jobs that a worker could claim now.")
        self.claims_waiting = self._gauge("claims_waiting", "Claims held open for want of jobs.")
        self.leases_open = self._gauge("leases_open", "Leases that run.")
        self.leases_lapsed = self._counter("leases_lapsed", "Leases that ran out with their worker silent.")
        self.job_wait_s = self._histogram("job_wait_seconds", "From ready to claimed.", buckets=_LONG_S)
        self.job_run_s = self._histogram(
            "job_run_seconds", "From the attempt's start to the job's end.", buckets=_LONG_S
        )

    def _declare_streams(self) -> None:
        self.streams_open = self._gauge("streams_open", "Streams that are connected.")
        self.streams_opened = self._counter("streams_opened", "Streams begun, by transport.", "transport")
        self.duplicates_avoided = self._counter(
            "duplicates_avoided", "Requests for a job that were given one that there was, by reason.", "reason"
        )
        self.resets = self._counter("stream_resets", "Cursors that could not be resumed, by reason.", "reason")
        self.byes = self._counter("stream_byes", "Streams told to go, by reason.", "reason")
        self.stalls = self._counter("stream_stalls", "Streams cut because nobody read them.")
        self.catch_ups = self._counter("stream_catch_ups", "Pages of the log read for streams behind the ring.")
        self.stream_bytes = self._counter("stream_bytes", "Bytes written to streams.")
        self.stream_lag = self._gauge("stream_lag_events", "How far the stream furthest behind is from the head.")
        self.streams_by_state = self._gauge(
            "streams_by_state", "Streams that are connected, by transport and state.", "transport", "state"
        )
        self.ring_bytes = self._gauge("ring_bytes", "Bytes of encoded events kept for resuming.")

    @staticmethod
    def tally(counter: Counter) -> dict[str, int]:
        """How often *counter* was counted up, by the value of its label; by ``""`` where it has none."""
        samples = next(iter(counter.collect())).samples
        return {"".join(sample.labels.values()): int(sample.value) for sample in samples}

    def _declare_http(self) -> None:
        self.connections_open = self._gauge("connections_open", "Connections that are open, streams included.")
        self.requests = self._counter("requests", "Requests answered as asked.", "method", "route")
        self.projection_lag = self._gauge(
            "projection_lag_events", "Events a projection has yet to take in.", "projection"
        )

        self.doctor_findings = self._gauge(
            "doctor_findings", "1 for each check of the doctor that finds something wrong, else 0.", "check"
        )
        self.doctor_position = self._gauge("doctor_position", "How far the doctor's present round over the log is.")
        self.doctor_rounds = self._gauge("doctor_rounds", "Rounds over the whole log since the service started.")
        self.projection_parked = self._gauge(
            "projection_parked_jobs", "Jobs whose events a projection has parked.", "projection"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="jobsvc", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="jobsvc", registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SHORT_S) -> Histogram:
        return Histogram(name, text, labels, namespace="jobsvc", registry=self.registry, buckets=buckets)
