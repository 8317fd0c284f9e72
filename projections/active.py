"""
The view ``active``: the jobs that have not ended, each as it stands.

A fold that returns None at a terminal event, so no row can outlive its job and nobody has to clean up. The row written
when events are appended is the return value of this very ``apply``; a rebuild runs it over the whole log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.events import ENDS, Created
from jobsvc.domain.job import Job, evolve
from jobsvc.domain.machine import next_state
from jobsvc.domain.words import ACTIVE, TERMINAL

if TYPE_CHECKING:
    from jobsvc.domain.events import Event


class Active:
    """The active jobs, by job id."""

    name = "active"
    version = 1

    def apply(self, row: Job | None, event: Event) -> Job | None:
        """The job after *event*, or None once it has ended."""
        facts = event.facts
        if row is None and not isinstance(facts, Created):
            return None
        # What an end leaves of the job is history's; nobody looks at it here, so it need not be made.
        if row is not None and type(facts) in ENDS and next_state(row.state, event.type) in TERMINAL:
            return None
        return self.row(evolve(row, event))

    def row(self, job: Job) -> Job | None:
        """The row of *job* as it stands: itself, or none once it has ended."""
        return job if job.state in ACTIVE else None
