"""
The digest: eight hex digits by which a client checks that it holds the very jobs that the service shows it.

XOR over the jobs of FNV-1a-32 of ``<id>:<version>`` (contract, section 5): order makes no difference, and one job's
change is two XORs, so the digest of a list follows its changes without a walk over the list.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jobsvc.changes import Change
    from jobsvc.domain.words import JobId

_OFFSET: Final = 0x811C9DC5
_PRIME: Final = 0x01000193


def digest_of(job_id: JobId, version: int) -> int:
    """
    One job's part in the digest.
    """
    return _hash_on(_hash_id(job_id), str(version))


def digest_before(change: Change) -> int:
    """
    The job's part before *change*; 0 if it was not active then.
    """
    version, ended = change.event.version, change.job.ended_position
    was_active = version > 1 and (ended is None or ended == change.event.position)
    return digest_of(change.job.id, version - 1) if was_active else 0


def digest_after(change: Change) -> int:
    """
    The job's part after *change*; 0 if it is not active any more.
    """
    return digest_of(change.job.id, change.job.version) if change.job.active else 0


def written(digest: int) -> str:
    """
    As it stands in a heartbeat.
    """
    return f"{digest:08x}"


def _hash_on(state: int, text: str) -> int:
    """
    FNV-1a-32 continued from *state* over *text*.
    """
    for byte in text.encode():
        state = ((state ^ byte) * _PRIME) & 0xFFFFFFFF
    return state


@lru_cache(maxsize=16_384)
def _hash_id(job_id: JobId) -> int:
    return _hash_on(_OFFSET, f"{job_id}:")
