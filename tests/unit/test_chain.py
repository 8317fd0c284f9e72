"""
The chain: any change to any field, or to the order, gives another hash.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from jobsvc.store import chain

EVENT: dict[str, Any] = {
    "previous": chain.GENESIS,
    "position": 1,
    "job_id": "j",
    "version": 1,
    "type": "job.due",
    "schema": 1,
    "at": 5,
    "facts": b"{}",
    "payload_digest": bytes(range(32)),
}


def link(**changes: object) -> bytes:
    """
    The link of EVENT with *changes*.
    """
    fields = EVENT | changes
    return chain.link(fields.pop("previous"), fields.pop("position"), **fields)


def test_a_link_is_sha256_over_length_prefixed_fields() -> None:
    """
    The bytes that are hashed are those that the file's docstring says: anyone can check a log without this code.
    """
    fields = [bytes(32), (1).to_bytes(8, "big"), b"j", (1).to_bytes(8, "big"), b"job.due", (1).to_bytes(8, "big")]
    fields += [(5).to_bytes(8, "big"), b"{}", bytes(range(32))]

    expected = sha256(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).digest()

    assert expected == link()


@pytest.mark.parametrize(
    "change",
    [
        {"previous": bytes(31) + b"1"},
        {"position": 2},
        {"job_id": "k"},
        {"version": 2},
        {"type": "job.created"},
        {"schema": 2},
        {"at": 6},
        {"facts": b"{ }"},
        {"payload_digest": bytes(32)},
        {"job_id": "jj", "type": "ob.due"},
    ],
)
def test_every_field_counts(change: dict[str, object]) -> None:
    """
    Changing any one field, or moving a byte from one to the next, changes the hash.
    """
    assert link() != link(**change)


def test_the_salt_hides_what_the_payload_was() -> None:
    """
    Two equal payloads under two salts have nothing in common, and nothing at all is the digest of nothing.
    """
    first, second = (chain.digest_payload(salt * 16, b"{}") for salt in (b"a", b"b"))

    assert first != second
    assert sha256(b"a" * 16 + b"{}").digest() == first
    assert sha256().digest() == chain.digest_payload(None, None)
