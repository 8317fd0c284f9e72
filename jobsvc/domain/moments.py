"""
Moments as text and back: RFC 3339 in UTC with exactly six digits, the one form that ever leaves the service.

Inside, a moment is an ``int`` of microseconds, so that arithmetic is exact and comparison is cheap. No clock here:
every moment comes in as a value.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

SECOND_US: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def rfc3339(moment: int) -> str:
    """
    The text of *moment*, for example ``2026-11-24T06:46:39.000000Z``: 27 characters, sortable as text.

    Cost: 0.5 µs; below 0.1 µs for one of the last that were asked for, as a job's moments are again and again.
    """
    second, fraction = divmod(moment, SECOND_US)
    return f"{_second_text(second)}.{fraction:06d}Z"


def rfc3339_or_none(moment: int | None) -> str | None:
    """
    The text of *moment*, or None for none.
    """
    return None if moment is None else rfc3339(moment)


def parse_rfc3339(text: str) -> int:
    """
    The moment that *text* names, whatever its offset; digits beyond the microsecond are cut.

    Raises:
        ValueError: Not RFC 3339, or without an offset, which would leave the moment a matter of opinion.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        message = "a time needs an offset, for example 2026-11-24T06:46:39Z"
        raise ValueError(message)
    return (parsed - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
