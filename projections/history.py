"""
The view ``history``: how to find a job among all that have ended.

A row is an index entry, not the job: what the job was is folded from its events when somebody asks, so nothing is
stored twice. The fold begins an entry with the job's birth; the view keeps it from the job's end on, since until then
the job is a row of ``active``, where all that the entry says stands too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobsvc.domain.events import ENDS, Created, Erased, OwnerChanged
from jobsvc.domain.machine import next_state
from jobsvc.domain.words import ERASED
from jobsvc.store.seam import HistoryRow

if TYPE_CHECKING:
    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job


class History:
    """All ended jobs that can still be found, by job id. An erased job cannot."""

    name = "history"
    version = 1

    def keeps(self, row: HistoryRow) -> bool:
        """True once the job has ended."""
        return row.finished_at is not None

    def begun(self, job: Job) -> HistoryRow:
        """The entry of *job* while it is active, as the events that led to it make it, but for the state."""
        return HistoryRow(job.id, job.owner, job.kind, job.key, job.state, job.created_at)

    def apply(self, row: HistoryRow | None, event: Event) -> HistoryRow | None:
        """The entry after *event*."""
        facts, payload = event.facts, event.payload
        if isinstance(facts, Created):
            submission = None if payload is None else payload.submission
            owner, key = (ERASED, None) if submission is None else (submission.owner, submission.key)
            return HistoryRow(event.job_id, owner, facts.kind, key, facts.state, event.at)
        if row is None:
            return None
        if type(facts) in ENDS:
            return replace(row, state=next_state(_UNDER_WAY, event.type), finished_at=event.at)
        match facts:
            case OwnerChanged():
                return replace(row, owner=ERASED if payload is None else payload.owner or ERASED)
            case Erased():
                return None
            case _:
                return row


_UNDER_WAY: Final = "running"
"""Where every kind of end can come from; each leads to the same state from wherever it comes."""
