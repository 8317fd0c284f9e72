"""
What the handlers are given: the parts of the running service, in one frozen record.

Composed in app.py and handed on with each call. Nothing is looked up by name and nothing is made here.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobsvc.archiver import Archiver
from jobsvc.avoided import Avoided
from jobsvc.clock import Clock
from jobsvc.feed import Feed
from jobsvc.handovers import Handovers
from jobsvc.http.acts import Acts
from jobsvc.http.browsers import Browsers
from jobsvc.http.gauge import Gauge
from jobsvc.http.identity import Identity
from jobsvc.http.limits import Limits
from jobsvc.http.revocations import Revocations
from jobsvc.http.streams import Streams
from jobsvc.ledger import Ledger
from jobsvc.metrics import Metrics
from jobsvc.operate.rounds import Rounds
from jobsvc.settings import Settings
from jobsvc.store.seam import Store
from jobsvc.tally import Tally
from projections.runner import Runner


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one running service."""

    settings: Settings
    clock: Clock
    store: Store
    ledger: Ledger
    feed: Feed
    identity: Identity
    revocations: Revocations
    streams: Streams
    handovers: Handovers
    runner: Runner
    metrics: Metrics
    limits: Limits
    browsers: Browsers
    acts: Acts
    tally: Tally
    gauge: Gauge
    avoided: Avoided
    rounds: Rounds
    archiver: Archiver

    @property
    def waits(self) -> bool:
        """True while a request may be held for something to happen; a service that drains or is down holds none."""
        return self.ledger.accepting and not self.streams.draining
