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


def with_active_jobs_in_history(path: Path) -> Path:
    """
    The stopped log at *path* is as a version leaves it whose history had a row of each job from its birth on.
    """
    raw = connect(path, read_only=False)
    raw.execute("ALTER TABLE history RENAME TO newer")
    raw.execute("""
        CREATE TABLE history (
            job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, key TEXT, state TEXT NOT NULL,
            created_at INTEGER NOT NULL, finished_at INTEGER
        ) STRICT, WITHOUT ROWID
    """)
    raw.execute("INSERT INTO history SELECT * FROM newer")
    raw.execute("INSERT INTO history SELECT job_id, owner, kind, key, 'queued', 1, NULL FROM keys")
    raw.execute("DROP TABLE newer")
    for index in ("by_owner", "by_key"):
        column = index.removeprefix("by_")
        raw.execute(f"CREATE INDEX history_a_{index} ON history ({column}, job_id) WHERE finished_at IS NOT NULL")
    raw.close()
    return path
