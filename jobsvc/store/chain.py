"""
The chain: a hash for each event over all that came before it, so that no byte of the past can change unseen.

SHA-256 over length-prefixed fields: the previous hash, position, job, version, type, schema, at, facts, and the digest
of the payload. The payload goes in as SHA-256(salt ‖ payload) only, so an erasure can take payload and salt away, keep
the digest, and the chain still verifies; without the salt nobody can try out what the payload may have been.

Pure functions. No store, no chance and no JSON ever live here: salts and bytes come in.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

GENESIS: Final = bytes(32)
"""What stands before the first event."""

SALT_BYTES: Final = 16


@lru_cache(maxsize=4_096)
def _form(job: int, name: int, facts: int) -> Callable[..., bytes]:
    """How an event is written whose job, name and facts have so many bytes: every field with its length before it."""
    return Struct(f">I32s Iq I{job}s Iq I{name}s Iq Iq I{facts}s I32s").pack


def digest_payload(salt: bytes | bytearray | None, payload: bytes | bytearray | None) -> bytes:
    """
    SHA-256(salt ‖ payload), 32 bytes: what the chain keeps of a payload. None counts as empty.
    """
    return sha256((salt or b"") + (payload or b"")).digest()


def link(
    previous: bytes,
    position: int,
    *,
    job_id: str,
    version: int,
    type: str,
    schema: int,
    at: int,
    facts: bytes,
    payload_digest: bytes,
) -> bytes:
    """
    The hash of the event that stands after *previous*, 32 bytes.

    Each field has its length before it (4 bytes, big-endian), numbers are 8 bytes big-endian, texts are UTF-8: so no
    two events give the same input. Cost: about 1.5 µs for 200 bytes of facts.
    """
    job, name = job_id.encode(), type.encode()
    jobs, names, all_facts = len(job), len(name), len(facts)
    return sha256(
        _form(jobs, names, all_facts)(
            32,
            previous,
            8,
            position,
            jobs,
            job,
            8,
            version,
            names,
            name,
            8,
            schema,
            8,
            at,
            all_facts,
            facts,
            32,
            payload_digest,
        )
    ).digest()
