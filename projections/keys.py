"""
The view ``keys``: which active job holds which key. The schema makes (owner, kind, key) unique in it.

This is the rule of one active job per key, as a row written in the transaction of the event that takes or frees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobsvc.domain.events import ENDS, Created, OwnerChanged
from jobsvc.domain.words import ERASED
from jobsvc.store.seam import KeyRow

if TYPE_CHECKING:
    from jobsvc.domain.events import Event


class Keys:
    """The keys that are held, by the job that holds them."""

    name = "keys"
    version = 1

    def apply(self, row: KeyRow | None, event: Event) -> KeyRow | None:
        """The key that the job holds after *event*; None if it holds none, or has ended."""
        facts, payload = event.facts, event.payload
        if isinstance(facts, Created):
            submission = None if payload is None else payload.submission
            if submission is None or submission.key is None:
                return None
            return KeyRow(event.job_id, submission.owner, facts.kind, submission.key)
        if type(facts) in ENDS:
            return None
        if isinstance(facts, OwnerChanged) and row is not None:
            return replace(row, owner=ERASED if payload is None else payload.owner or ERASED)
        return row
