"""
The codec: between the domain's objects and the bytes that are stored, and JSON for whoever else needs it.

The only module that knows orjson. Facts, payloads and jobs go through msgspec instead, because it keeps a ``Raw`` value
byte for byte as it was received, where orjson would turn an integer above 64 bits into a float.
Old events are brought up to date by upcasters, one for each (type, schema), each a step to the next schema.
No SQL and no rule about jobs ever lives here.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from msgspec import Raw, Struct

from jobsvc.domain.errors import UnreadableEvent, ViewMismatch
from jobsvc.domain.events import FACTS_OF_TYPE, SCHEMA, Event, Facts, Payload
from jobsvc.domain.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobsvc.store.seam import Record

Fields = dict[str, Raw]
"""One JSON object, its values still as they were stored."""

if TYPE_CHECKING:
    Upcaster = Callable[[Fields, Fields | None], tuple[Fields, Fields | None]]
    """From the facts and payload of one schema to those of the next; the payload is None after an erasure."""

UPCASTERS: Final[Mapping[tuple[str, int], Upcaster]] = {}
"""By (type, schema that it reads). A type without one at a schema has not changed since."""

_encoder: Final = msgspec.json.Encoder()
_payload_decoder: Final = msgspec.json.Decoder(Payload)
_job_decoder: Final = msgspec.json.Decoder(Job)
_fields_decoder: Final = msgspec.json.Decoder(Fields)

_ROOM_BYTES: Final = 1_024
"""Most of what becomes a BLOB fits in, so that it need not grow while it is made."""


def _encode_blob(value: Payload | Job) -> bytearray:
    body = bytearray(_ROOM_BYTES)
    _encoder.encode_into(value, body)
    return body


encode_facts: Final[Callable[[Facts], bytes]] = _encoder.encode
"""The stored form of an event's facts."""
encode_payload: Final[Callable[[Payload], bytearray]] = _encode_blob
"""The stored form of an event's payload; Raw values go in as they came."""
encode_row: Final[Callable[[Struct], bytes]] = _encoder.encode
"""The form of a row of any inline view in which two rows are compared."""
encode_job: Final[Callable[[Job], bytearray]] = _encode_blob
"""The stored form of a row of the view ``active``."""


def decode_event(
    position: int,
    job_id: str,
    *,
    version: int,
    type: str,
    schema: int,
    at: int,
    facts: bytes | str,
    payload: bytes | None,
    upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> Event:
    """
    The event that was stored, in today's form.

    Raises:
        UnreadableEvent: Of a type or a schema that this version does not know, or not what its type asks for.

    Cost: about 2 µs.
    """
    try:
        if schema != SCHEMA:
            facts, payload = _upcast(facts, payload, name=type, schema=schema, upcasters=upcasters)
        decoded = _facts_decoder(type).decode(facts)
        forgettable = None if payload is None else _payload_decoder.decode(payload)
    except (KeyError, ValueError) as error:
        raise UnreadableEvent(f"the event at position {position} ({type}, schema {schema}) cannot be read") from error
    return Event(position, job_id, version, at, decoded, forgettable)


def read_record(record: Record) -> Event:
    """
    The event in a stored record, in today's form.

    Raises:
        UnreadableEvent: As for ``decode_event``.
    """
    return decode_event(
        record.position,
        record.job_id,
        version=record.version,
        type=record.type,
        schema=record.schema,
        at=record.at,
        facts=record.facts,
        payload=record.payload,
    )


def decode_job(body: bytes) -> Job:
    """
    The job in a row of the view ``active``.

    Raises:
        ViewMismatch: The row is not a job of this version; a rebuild of the view makes it one.
    """
    try:
        return _job_decoder.decode(body)
    except ValueError as error:
        raise ViewMismatch("active has a row that cannot be read; rebuild active") from error


def dumps(value: object) -> bytes:
    """
    Plain *value* as JSON, without spaces. Not for what may carry an integer above 64 bits.
    """
    return orjson.dumps(value)


def loads(text: bytes | str) -> Any:  # noqa: ANN401 - JSON is whatever it is
    """
    The plain value that the JSON *text* says.

    Raises:
        ValueError: It is not JSON.
    """
    return orjson.loads(text)


_facts_of_name: Final[Mapping[str, type[Facts]]] = {str(name): facts for name, facts in FACTS_OF_TYPE.items()}


@cache
def _facts_decoder(name: str) -> msgspec.json.Decoder[Facts]:
    return msgspec.json.Decoder(_facts_of_name[name])


def _upcast(
    facts: bytes | str,
    payload: bytes | None,
    *,
    name: str,
    schema: int,
    upcasters: Mapping[tuple[str, int], Upcaster],
) -> tuple[bytes, bytes | None]:
    if not 0 < schema < SCHEMA:
        raise UnreadableEvent(f"schema {schema} of {name} is not known to this version, which writes {SCHEMA}")
    new_facts = _fields_decoder.decode(facts)
    new_payload = None if payload is None else _fields_decoder.decode(payload)
    for step in range(schema, SCHEMA):
        if upcaster := upcasters.get((name, step)):
            new_facts, new_payload = upcaster(new_facts, new_payload)
    return _encoder.encode(new_facts), None if new_payload is None else _encoder.encode(new_payload)
