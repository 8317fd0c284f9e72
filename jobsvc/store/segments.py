"""
Segments: runs of archived events as one compressed body each, and the manifest that chains them.

A segment holds stored events byte for byte, in order of position, so that whoever reads on through it recomputes the
chain of the log as if they had never moved. Two hashes go with it. The digest is of the body as it lies there, is
checked on every read, and is a new one after an erasure. The content hash is of the events' own chain values, which an
erasure leaves alone; it goes into the manifest, where each segment is chained to the one before.

Pure functions: no connection, no clock and no rule about jobs ever lives here.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from struct import pack
from typing import TYPE_CHECKING, Any, Final

from msgspec import msgpack
from msgspec.structs import astuple, replace

from jobsvc.domain.errors import UnreadableEvent
from jobsvc.store.seam import Record, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.domain.words import JobId

EVENTS_PER_SEGMENT_MAX: Final = 256
BYTES_PER_SEGMENT_MAX: Final = 524_288
"""An event that goes beyond this is the last of its segment. What is read of it is unpacked whole: about 2 ms."""

_LEVEL: Final = 6


def make_segment(records: Sequence[Record], body: bytes, *, number: int, previous: bytes, archived_at: int) -> Segment:
    """
    The manifest's row of *records*.

    Args:
        records: At least one, in order.
        body: They, packed.
        number: The next in the manifest, from 1.
        previous: The manifest's chain up to the segment before, 32 zero bytes for the first.
        archived_at: When.
    """
    first, last, content = records[0].position, records[-1].position, content_of(records)
    chain = link_segment(
        previous, number, first_position=first, last_position=last, events=len(records), content=content
    )
    return Segment(number, first, last, len(records), archived_at, content, chain, sha256(body).digest())


def pack_records(records: Sequence[Record]) -> bytes:
    """
    *records* as a body.
    """
    return zlib.compress(msgpack.encode([(*astuple(record)[:-1], True) for record in records]), _LEVEL)


def unpack_records(number: int, body: bytes, *, digest: bytes) -> list[Record]:
    """
    The records in the body of segment *number*.

    Raises:
        UnreadableEvent: The body is not the one that *digest* is of.
    """
    if sha256(body).digest() != digest:
        raise UnreadableEvent(f"segment {number} of the archive is not what was written")
    rows: list[Any] = msgpack.decode(zlib.decompress(body))
    return [Record(*row) for row in rows]


def without_payloads(records: Sequence[Record], job_id: JobId) -> list[Record]:
    """
    *records*, those of *job_id* without what may have to be forgotten; its erasure itself says who and why.
    """
    return [
        replace(record, owner=None, previous_owner=None, payload=None, salt=None)
        if record.job_id == job_id and record.type != "job.erased"
        else record
        for record in records
    ]


def content_of(records: Sequence[Record]) -> bytes:
    """
    What an erasure does not change of *records*, in 32 bytes.
    """
    return sha256(b"".join(record.chain for record in records)).digest()


def link_segment(
    previous: bytes, number: int, *, first_position: int, last_position: int, events: int, content: bytes
) -> bytes:
    """
    The manifest's chain up to this segment, 32 bytes.
    """
    return sha256(pack(">32sqqqq32s", previous, number, first_position, last_position, events, content)).digest()
