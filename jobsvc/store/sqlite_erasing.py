"""
Erasing: what an erasure takes away of a job's earlier events, in the transaction that records the erasure.

By the guarded way that the triggers leave: payload, salt and owners go, digests and the chain stay, so the log still
verifies. A segment is rewritten with a new digest; its manifest row stands. What is deleted is overwritten (the pragma
secure_delete), and ``scrub`` empties the write-ahead log, which is the last place where it still stood.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from jobsvc.store import codec
from jobsvc.store.blocks import block
from jobsvc.store.segments import pack_records, unpack_records, without_payloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.domain.words import JobId
    from jobsvc.store.driver import RawConnection


def erase(raw: RawConnection, job_ids: Sequence[JobId]) -> None:
    """
    Nothing of what may have to be forgotten is left of *job_ids*, wherever their streams lie. Inside a transaction.
    """
    raw.execute(block("open_door"), {"act": "erase"})
    for job_id in job_ids:
        raw.execute(block("erase_stream"), {"job_id": job_id})
        _erase_archived(raw, job_id)
    raw.execute(block("close_door"))
    raw.execute(block("forget_answers"), {"wanted": codec.dumps(list(job_ids)).decode()})


def forget_principal(raw: RawConnection, principal: str) -> None:
    """
    No mark of a request names *principal*, and none as whom a guest became. Inside a transaction.
    """
    raw.execute(block("forget_principal"), {"principal": principal})
    raw.execute(block("forget_claimant"), {"principal": principal})


def _erase_archived(raw: RawConnection, job_id: JobId) -> None:
    for number, digest, body in raw.execute(block("segments_with"), {"job_id": job_id}).fetchall():
        packed = pack_records(without_payloads(unpack_records(number, body, digest=digest), job_id))
        renewed = {"number": number, "digest": bytearray(sha256(packed).digest()), "body": bytearray(packed)}
        raw.execute(block("renew_segment"), renewed)
    raw.execute(block("set_archived_owner"), (None, job_id))
