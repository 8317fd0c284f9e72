"""
The manifest of the archive against what lies there: the chain over segments, their events, where jobs are found.

That the events themselves are the ones recorded is the walk over the log's to see, which reads through the segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.errors import UnreadableEvent
from jobsvc.operate.findings import Finding
from jobsvc.store.chain import GENESIS
from jobsvc.store.segments import content_of, link_segment

if TYPE_CHECKING:
    from jobsvc.store.seam import Segment, Store


class ManifestWalk:
    """
    A walk along the manifest, segment after segment, to its end or to the first thing that is wrong.

    Attributes:
        finding: What it stopped at: the first segment that is not what the manifest says, at its first position.
    """

    def __init__(self, store: Store) -> None:
        """Nothing has been read yet of *store*, opened, if only for reading."""
        self._store = store
        self._number = 0
        self._chain = GENESIS
        self.finding: Finding | None = None

    async def step(self) -> bool:
        """
        One segment further; False once there are no more, or something is wrong.

        Cost: three short reads, and about 4 µs an event on the event loop; one segment in memory.
        """
        for segment in await self._store.read_segments(after=self._number, limit=1):
            wrong = _wrong_row(segment, self._number + 1, self._chain) or await _wrong_body(self._store, segment)
            if wrong is not None:
                self.finding = Finding(segment.first_position, f"segment {segment.number}: {wrong}")
            self._number, self._chain = segment.number, segment.chain
            return wrong is None
        return False


def _wrong_row(segment: Segment, number: int, previous: bytes) -> str | None:
    if segment.number != number:
        return f"segment {number} is missing"
    chain = link_segment(
        previous,
        number,
        first_position=segment.first_position,
        last_position=segment.last_position,
        events=segment.events,
        content=segment.content,
    )
    return None if chain == segment.chain else "the chain of the manifest breaks here"


async def _wrong_body(store: Store, segment: Segment) -> str | None:
    try:
        records = await store.read_segment(segment.number)
    except UnreadableEvent as error:
        return error.message
    if content_of(records) != segment.content:
        return "it does not hold the events that the manifest names"
    ends = records[0].position, records[-1].position, len(records)
    if ends != (segment.first_position, segment.last_position, segment.events):
        return "it does not begin, or end, where the manifest says"
    job_ids = {record.job_id for record in records}
    lost = job_ids - await store.find_archived(job_ids)
    return f"{min(lost)} lies there, and is not found by its id" if lost else None
