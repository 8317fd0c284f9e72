"""
A batch as statements: everything that one append writes, made ready before its transaction begins.

JSON, salts and hashes are made here, on the event loop and outside the write lock. Rows that go are dropped before rows
come, so that a key can pass from one job to another in one batch. No connection is ever touched here.

Every BLOB is handed over as a ``bytearray``: the driver binds that as it is, but looks for an adapter of each ``bytes``
and drops the exception that there is none, which makes the commit of a create 21 µs instead of 17.
"""

from __future__ import annotations

from os import urandom
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import astuple

from jobsvc.domain.events import SCHEMA, TYPE_OF_FACTS, Erased, OwnerChanged
from jobsvc.domain.words import JobId
from jobsvc.store import chain, codec
from jobsvc.store.blocks import Statement, block, statements
from jobsvc.store.seam import Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from jobsvc.store.seam import Batch, HistoryRow, KeyRow, Mark


class Prepared(Struct, frozen=True):
    """
    What the writer's thread has left to do for a batch, whose payloads go with it, and the head that it leads to.
    """

    head: Head
    statements: list[Statement]
    erased: list[JobId]


def prepare(batch: Batch, head: Head) -> Prepared:
    """
    The statements that put *batch* after *head*.

    Raises:
        ValueError: The events do not follow on *head*, or have not one owner each.

    Cost: about 9 µs an event with its rows.
    """
    rows, new_head = _event_rows(batch, head)
    puts, drops = statements("insert_events", rows), list[Statement]()
    for view, view_rows in (("keys", batch.keys), ("active", batch.active), ("history", batch.history)):
        if view_rows:
            puts += put_rows(view, view_rows.values(), table=view)
            drops += drop_rows((job_id for job_id, row in view_rows.items() if row is None), table=view)
    happened = {type(event.facts) for event in batch.events}
    if OwnerChanged in happened:
        puts += [
            (block("set_archived_owner"), (owner, event.job_id))
            for event, owner in zip(batch.events, batch.owners, strict=True)
            if isinstance(event.facts, OwnerChanged) and batch.active.get(event.job_id) is None
        ]
    if batch.marks:
        puts += statements("put_marks", mark_rows(batch.marks))
    erased = [event.job_id for event in batch.events if isinstance(event.facts, Erased)] if Erased in happened else []
    return Prepared(new_head, drops + puts, erased)


def put_rows(view: str, rows: Iterable[Job | KeyRow | HistoryRow | None], *, table: str) -> list[Statement]:
    """
    Statements that put those of *rows* that are there into *table*, which has the form of *view*.
    """
    make = _ROW_OF_VIEW[view]
    return statements(f"put_{view}", [make(row) for row in rows if row is not None], table=table)


def drop_rows(job_ids: Iterable[JobId], *, table: str) -> list[Statement]:
    """
    Statements that take the rows of *job_ids* out of *table*.
    """
    return statements("drop_rows", [(job_id,) for job_id in job_ids], table=table)


def mark_rows(marks: Sequence[Mark]) -> list[tuple[Any, ...]]:
    """
    *marks* as rows of their table.
    """
    return [_mark_row(mark) for mark in marks]


def _event_rows(batch: Batch, head: Head) -> tuple[list[tuple[Any, ...]], Head]:
    rows: list[tuple[Any, ...]] = []
    salts = bytearray(urandom(chain.SALT_BYTES * len(batch.events)))
    position, link, at, drawn = head.position, head.chain, head.at, 0
    for event, owner in zip(batch.events, batch.owners, strict=True):
        position += 1
        if event.position != position:
            raise ValueError(f"position {event.position} stands where {position} is next")
        row, link = _event_row(event, owner, salt=salts[drawn : drawn + chain.SALT_BYTES], previous=link)
        rows.append(row)
        drawn, at = drawn + chain.SALT_BYTES, event.at
    return rows, Head(position, link, at, head.epoch)


def _event_row(event: Event, owner: str, *, salt: bytearray, previous: bytes) -> tuple[tuple[Any, ...], bytes]:
    """
    The row of *event*, and the chain up to it.
    """
    position, job_id, version, at, facts, known = astuple(event)
    name, told = TYPE_OF_FACTS[type(facts)], codec.encode_facts(facts)
    payload, kept_salt, lost_by = (
        (None, None, None) if known is None else (codec.encode_payload(known), salt, known.previous_owner)
    )
    digest = chain.digest_payload(kept_salt, payload)
    link = chain.link(
        previous,
        position,
        job_id=job_id,
        version=version,
        type=name,
        schema=SCHEMA,
        at=at,
        facts=told,
        payload_digest=digest,
    )
    row = (
        position,
        job_id,
        version,
        name,
        SCHEMA,
        at,
        owner,
        told.decode(),
        payload,
        kept_salt,
        bytearray(digest),
        bytearray(link),
        lost_by,
    )
    return row, link


def _active_row(job: Job) -> tuple[Any, ...]:
    return (job.id, job.position, job.state, codec.encode_job(job))


def _mark_row(mark: Mark) -> tuple[Any, ...]:
    return (mark.principal, mark.scope, mark.key, mark.digest, bytearray(mark.answer), mark.expires_at)


_ROW_OF_VIEW: Mapping[str, Any] = {"active": _active_row, "keys": astuple, "history": astuple}
