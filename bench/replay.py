"""
Rebuilding the view ``active`` from the log, against a raw SELECT of the very same rows.

The command is run as anyone would run it. What it costs to start a Python process is taken off by timing the same
command on an almost empty log.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from bench.figures import Bound, Figure, figure, ratio
from bench.fill import fill
from bench.servers import SECRET
from jobsvc.store.driver import connect

if TYPE_CHECKING:
    from pathlib import Path

_EVENTS: Final = 200_000
_EVENTS_QUICK: Final = 50_000
_ALMOST_NONE: Final = 4
_SELECT: Final = "SELECT position, job_id, version, type, schema, at, facts, payload FROM events ORDER BY position"


def measure_replay(folder: Path, *, quick: bool) -> list[Figure]:
    """
    Events a second, folded and selected.

    Raises:
        NotImplementedError: The service has no verb ``rebuild`` yet.
    """
    if _run("rebuild", "--help") != 0:
        message = "jobsvc has no verb rebuild yet"
        raise NotImplementedError(message)
    events, rounds = (_EVENTS_QUICK, 3) if quick else (_EVENTS, 5)
    full, empty = folder / "replay.db", folder / "replay-empty.db"
    asyncio.run(fill(full, events))
    asyncio.run(fill(empty, _ALMOST_NONE))
    selected: list[float] = []
    rebuilt: list[float] = []
    for _ in range(rounds):
        selected.append(events / _select_s(full))
        rebuilt.append(events / max(_rebuild_s(full) - _rebuild_s(empty), 1e-6))
    bound = Bound("at least", 0.25, aim=0.5)
    return [
        ratio("rebuild of active over a raw SELECT", rebuilt, below=selected, bound=bound),
        figure("rebuild of active", "events/s", values=rebuilt),
        figure("raw SELECT of the same rows", "events/s", values=selected),
    ]


def _select_s(database: Path) -> float:
    raw = connect(database, read_only=True)
    begun_at = time.perf_counter()
    raw.execute(_SELECT).fetchall()
    elapsed_s = time.perf_counter() - begun_at
    raw.close()
    return elapsed_s


def _rebuild_s(database: Path) -> float:
    begun_at = time.perf_counter()
    assert _run("rebuild", "active", "--database", str(database)) == 0
    return time.perf_counter() - begun_at


def _run(*arguments: str) -> int:
    command = [sys.executable, "-m", "jobsvc", *arguments]
    environment = os.environ | {"JOBSVC_SECRET": SECRET}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode
