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

from jobsvc.domain.events import SCHEMA, Erased, OwnerChanged
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
    puts += [
        (block("set_archived_owner"), (owner, event.job_id))
        for event, owner in zip(batch.events, batch.owners, strict=True)
        if isinstance(event.facts, OwnerChanged) and batch.active.get(event.job_id) is None
    ]
    if batch.marks:
        puts += statements("put_marks", mark_rows(batch.marks))
    erased = [event.job_id for event in batch.events if isinstance(event.facts, Erased)]
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
    salts = urandom(chain.SALT_BYTES * len(batch.events))
    position, link, at = head.position, head.chain, head.at
    for event, owner in zip(batch.events, batch.owners, strict=True):
        salt = salts[chain.SALT_BYTES * len(rows) :][: chain.SALT_BYTES]
        position += 1
        row, link = _event_row(event, owner, salt=salt, previous=link)
        if event.position != position:
            raise ValueError(f"position {event.position} stands where {position} is next")
        rows.append(row)
        at = event.at
    return rows, Head(position, link, at, head.epoch)


def _event_row(event: Event, owner: str, *, salt: bytes, previous: bytes) -> tuple[tuple[Any, ...], bytes]:
    """
    The row of *event*, and the chain up to it.
    """
    facts = codec.encode_facts(event.facts)
    payload = None if event.payload is None else codec.encode_payload(event.payload)
    kept_salt = None if payload is None else salt
    digest = chain.digest_payload(kept_salt, payload)
    name = event.type
    link = chain.link(
        previous,
        event.position,
        job_id=event.job_id,
        version=event.version,
        type=name,
        schema=SCHEMA,
        at=event.at,
        facts=facts,
        payload_digest=digest,
    )
    row = (
        event.position,
        event.job_id,
        event.version,
        name,
        SCHEMA,
        event.at,
        owner,
        facts.decode(),
        None if payload is None else bytearray(payload),
        None if kept_salt is None else bytearray(kept_salt),
        bytearray(digest),
        bytearray(link),
        None if event.payload is None else event.payload.previous_owner,
    )
    return row, link


def _active_row(job: Job) -> tuple[Any, ...]:
    return (job.id, job.position, job.state, bytearray(codec.encode_job(job)))


def _key_row(row: KeyRow) -> tuple[Any, ...]:
    return (row.job_id, row.owner, row.kind, row.key)


def _history_row(row: HistoryRow) -> tuple[Any, ...]:
    return (row.job_id, row.owner, row.kind, row.key, row.state, row.created_at, row.finished_at)


def _mark_row(mark: Mark) -> tuple[Any, ...]:
    return (mark.principal, mark.scope, mark.key, mark.digest, bytearray(mark.answer), mark.expires_at)


_ROW_OF_VIEW: Mapping[str, Any] = {"active": _active_row, "keys": _key_row, "history": _history_row}
