"""
Pages of events as the SQLite engine gives them: one packed value each, unpacked on the event loop in slices.

Packed, since a row apiece costs more than all that is in it (queries.sql says why); in slices, so that nothing else
waits for a long page. Here are also the few words that every question to the engine is put in.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import json

from jobsvc.store import codec
from jobsvc.store.blocks import block
from jobsvc.store.seam import BYTES_PER_PAGE_MAX, Head
from jobsvc.store.sqlite_segments import EVENTS_PER_SLICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobsvc.domain.events import Event
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.sqlite_segments import Which

POSITION_MAX: Final = 2**63 - 1

_decode_header: Final = json.Decoder(tuple[int, int, str, int, str, int, int, int, int]).decode
"""Place, position, job, version, type, schema, moment, and how many bytes facts and payload have; -1 for no payload."""


def select_head(raw: RawConnection) -> Head:
    """
    The head as this connection sees it.
    """
    return Head(*raw.execute(block("head")).fetchall()[0])


def select_page(raw: RawConnection, name: str, *, parameters: Mapping[str, Any]) -> tuple[bytes, Any]:
    """
    The page that the block *name* gives, empty for none, and what it says of the archive.
    """
    bounded = {"bytes_max": BYTES_PER_PAGE_MAX, **parameters}
    packed, archive = raw.execute(block(name), bounded).fetchall()[0]
    return packed or b"", archive


def as_json(value: object) -> str:
    """
    *value* as the JSON text that a list parameter is.
    """
    return codec.dumps(value).decode()


async def unpacked(packed: bytes) -> list[tuple[int, Event]]:
    """
    The events of a page, each with its place among what was wanted. Others get a turn after every 128.

    Raises:
        UnreadableEvent: One of them does not decode.
    """
    events: list[tuple[int, Event]] = []
    entries = _unpack(packed)
    while some := list(islice(entries, EVENTS_PER_SLICE)):
        events += some
        if len(some) == EVENTS_PER_SLICE:
            await asyncio.sleep(0)
    return events


def _unpack(packed: bytes) -> Iterator[tuple[int, Event]]:
    start = 0
    while start < len(packed):
        end = packed.index(b"\n", start)
        place, position, job_id, version, name, schema, at, facts, payload = _decode_header(packed[start:end])
        facts_end = end + 1 + facts
        start = facts_end + max(payload, 0)
        yield (
            place,
            codec.decode_event(
                position,
                job_id,
                version=version,
                type=name,
                schema=schema,
                at=at,
                facts=packed[end + 1 : facts_end],
                payload=None if payload < 0 else packed[facts_end:start],
            ),
        )


def settled_to(packed: bytes, which: Which) -> int:
    """
    Up to which position a page holds all of *which* that is live: its last one's, if it was cut.
    """
    start = count = size = position = 0
    while start < len(packed):
        end = packed.index(b"\n", start)
        _, position, *_, facts, payload = _decode_header(packed[start:end])
        length = facts + max(payload, 0)
        count, size, start = count + 1, size + length, end + 1 + length
    return which.until if count < which.limit and size < BYTES_PER_PAGE_MAX else position
