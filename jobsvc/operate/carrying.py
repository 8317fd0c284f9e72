"""
The lines of an export: what a log is, outside of any engine, byte for byte.

NDJSON: a header, the events in order, the marks in order, and an end without which it is not whole. Facts and payloads
stand there as they were recorded, so that the chain can be followed by whoever reads it, and moments as whole
microseconds since 1970, as they are hashed. No file is ever opened here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw, Struct

from jobsvc.domain.errors import Corrupt, InvalidCommand, UnreadableEvent
from jobsvc.domain.events import EventType
from jobsvc.store.chain import digest_payload, link
from jobsvc.store.seam import Mark, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT: Final = 1


class HeaderLine(Struct, frozen=True, tag_field="line", tag="header"):
    """
    The first line.

    Attributes:
        format: Of these lines.
        position: The last event's.
        chain: Up to it, in hexadecimal digits.
        epoch: The log's identity, if the log is sealed and its identity moves with it.
    """

    format: int
    position: int
    chain: str
    epoch: str | None = None


class EventLine(Struct, frozen=True, tag_field="line", tag="event"):
    """An event as recorded. The payload is null if it was erased."""

    position: int
    job_id: str
    version: int
    type: EventType
    schema: int
    at_us: int
    owner: str | None
    previous_owner: str | None
    facts: Raw
    payload: Raw
    salt: str | None
    payload_digest: str
    chain: str


class MarkLine(Struct, frozen=True, tag_field="line", tag="mark"):
    """A mark: that a request was answered, that tokens count no more, that a guest is no more."""

    principal: str
    scope: str
    key: str
    digest: str
    answer: bytes
    expires_at_us: int


class EndLine(Struct, frozen=True, tag_field="line", tag="end"):
    """
    The last line: how many marks there were, and SHA-256 over all lines before it, in hexadecimal digits.

    The chain says of each event whether it was recorded so; this says of the rest that it was written so.
    """

    marks: int
    sha256: str


Line = HeaderLine | EventLine | MarkLine | EndLine

_NULL: Final = b"null"
_decoder: Final[msgspec.json.Decoder[Line]] = msgspec.json.Decoder(Line)
_encoder: Final = msgspec.json.Encoder()


def write_lines(lines: Iterable[Line]) -> bytes:
    """*lines* as they stand in a file."""
    return b"".join(_encoder.encode(line) + b"\n" for line in lines)


def read_line(text: bytes) -> Line:
    """
    What *text* says.

    Raises:
        InvalidCommand: It is no line of an export.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidCommand(f"this is no line of an export: {error}") from error


def event_line(record: Record) -> EventLine:
    """*record* as a line."""
    return EventLine(
        position=record.position,
        job_id=record.job_id,
        version=record.version,
        type=record.type,
        schema=record.schema,
        at_us=record.at,
        owner=record.owner,
        previous_owner=record.previous_owner,
        facts=Raw(record.facts),
        payload=Raw(_NULL if record.payload is None else record.payload),
        salt=None if record.salt is None else record.salt.hex(),
        payload_digest=record.payload_digest.hex(),
        chain=record.chain.hex(),
    )


def read_event(line: EventLine) -> Record:
    """
    The record that *line* says.

    Raises:
        UnreadableEvent: One of its columns is not what it should be.
    """
    payload = bytes(line.payload)
    try:
        return Record(
            position=line.position,
            job_id=line.job_id,
            version=line.version,
            type=line.type,
            schema=line.schema,
            at=line.at_us,
            owner=line.owner,
            previous_owner=line.previous_owner,
            facts=bytes(line.facts),
            payload=None if payload == _NULL else payload,
            salt=None if line.salt is None else bytes.fromhex(line.salt),
            payload_digest=bytes.fromhex(line.payload_digest),
            chain=bytes.fromhex(line.chain),
        )
    except ValueError as error:
        raise UnreadableEvent(f"the event at position {line.position} cannot be read: {error}") from error


def mark_line(mark: Mark) -> MarkLine:
    """*mark* as a line."""
    return MarkLine(mark.principal, mark.scope, mark.key, mark.digest, mark.answer, mark.expires_at)


def read_mark(line: MarkLine) -> Mark:
    """The mark that *line* says."""
    return Mark(line.principal, line.scope, line.key, line.digest, line.answer, line.expires_at_us)


class Follower:
    """Follows the chain over records, one after the other, from *position* and *chain* on."""

    def __init__(self, position: int, chain: bytes) -> None:
        self.position = position
        self.chain = chain

    def follow(self, records: Iterable[Record]) -> Iterator[Record]:
        """
        Each of *records*, once it is known to be the next of the log as it was recorded.

        Raises:
            Corrupt: One is not.
        """
        for record in records:
            if record.position != self.position + 1:
                raise Corrupt(f"position {self.position + 1} is missing")
            self._check(record)
            self.position, self.chain = record.position, record.chain
            yield record

    def _check(self, record: Record) -> None:
        known = record.payload is None or digest_payload(record.salt, record.payload) == record.payload_digest
        expected = link(
            self.chain,
            record.position,
            job_id=record.job_id,
            version=record.version,
            type=record.type,
            schema=record.schema,
            at=record.at,
            facts=record.facts,
            payload_digest=record.payload_digest,
        )
        if not known or expected != record.chain:
            raise Corrupt(f"the event at position {record.position} is not the one that was recorded")
