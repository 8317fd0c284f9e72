"""
Files as an older version of the service leaves them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.store.driver import connect

if TYPE_CHECKING:
    from pathlib import Path


def of_schema_2(path: Path, *, side: str = "a") -> Path:
    """
    The stopped log at *path* is as a version of schema 2 leaves it, its live history with the names of *side*.
    """
    raw = connect(path, read_only=False)
    raw.execute("PRAGMA user_version = 2")
    for index, columns in (("by_owner", "owner"), ("by_key", "key"), ("completed", "owner, kind, key, finished_at")):
        raw.execute(f"DROP INDEX history_a_{index}")
        raw.execute(f"CREATE INDEX history_{side}_{index} ON history ({columns})")
    raw.close()
    return path
