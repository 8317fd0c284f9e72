"""
Rebuilding the views and verifying all of a log, against a raw SELECT of the very same rows, and the memory that takes.

The commands are run as anyone would run them. What it costs to start a Python process is taken off by timing the same
command on an almost empty log. How long the writer is kept from writing by a rebuild is measured inside one process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Bound, Figure, figure, ratio
from bench.fill import fill
from bench.servers import SECRET
from jobsvc.operate.views import rebuild
from jobsvc.store.driver import connect
from jobsvc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_EVENTS: Final = 1_000_000
_EVENTS_QUICK: Final = 50_000
_ALMOST_NONE: Final = 4
_POLL_S: Final = 0.01
_SELECT: Final = "SELECT position, job_id, version, type, schema, at, facts, payload FROM events ORDER BY position"


def measure_replay(folder: Path, *, quick: bool) -> list[Figure]:
    """
    Events a second, folded, verified and selected; memory; how long the writer waits.
    """
    events, rounds = (_EVENTS_QUICK, 3) if quick else (_EVENTS, 3)
    full, empty = folder / "replay.db", folder / "replay-empty.db"
    asyncio.run(fill(full, events))
    asyncio.run(fill(empty, _ALMOST_NONE))
    selected: list[float] = []
    rates: dict[tuple[str, ...], list[float]] = {command: [] for command in _COMMANDS}
    memory: dict[tuple[str, ...], list[float]] = {command: [] for command in _COMMANDS}
    for _ in range(rounds):
        selected.append(events / _select_s(full))
        for command in _COMMANDS:
            elapsed_s, mebibytes = _measured(command, full)
            rates[command].append(events / max(elapsed_s - _measured(command, empty)[0], 1e-6))
            memory[command].append(mebibytes)
    return [*_figures_of(rates, memory, selected), _swap(full)]


_REBUILD_ACTIVE: Final = ("rebuild", "active")
_REBUILD_HISTORY: Final = ("rebuild", "history")
_VERIFY: Final = ("verify",)
_COMMANDS: Final = (_REBUILD_ACTIVE, _REBUILD_HISTORY, _VERIFY)


def _figures_of(
    rates: Mapping[tuple[str, ...], Sequence[float]],
    memory: Mapping[tuple[str, ...], Sequence[float]],
    selected: Sequence[float],
) -> list[Figure]:
    rebuilding, verifying = Bound("at least", 0.25, aim=0.5), Bound("at least", 0.08)
    within = Bound("at most", 200)
    return [
        ratio("rebuild of active over a raw SELECT", rates[_REBUILD_ACTIVE], below=selected, bound=rebuilding),
        ratio("verify with all views over a raw SELECT", rates[_VERIFY], below=selected, bound=verifying),
        ratio("rebuild of history over a raw SELECT", rates[_REBUILD_HISTORY], below=selected),
        figure("rebuild of active", "events/s", values=rates[_REBUILD_ACTIVE]),
        figure("rebuild of history", "events/s", values=rates[_REBUILD_HISTORY], note="a row for every four events"),
        figure("verify with all views", "events/s", values=rates[_VERIFY]),
        figure("raw SELECT of the same rows", "events/s", values=selected),
        figure("rebuild of active, most memory", "MiB", values=memory[_REBUILD_ACTIVE], bound=within),
        figure("rebuild of history, most memory", "MiB", values=memory[_REBUILD_HISTORY], bound=within),
        figure("verify, most memory", "MiB", values=memory[_VERIFY], bound=within),
    ]


def _swap(database: Path) -> Figure:
    """How long nobody else may write while a rebuild of the largest view swaps it in."""
    held_ms: list[float] = []

    async def alone(action: Callable[[], Awaitable[None]]) -> None:
        begun_at = time.perf_counter()
        await action()
        held_ms.append((time.perf_counter() - begun_at) * 1_000)

    async def rebuild_thrice() -> None:
        store = SqliteStore(database)
        await store.open()
        for _ in range(3):
            await rebuild(store, "history", alone=alone)
        await store.close()

    asyncio.run(rebuild_thrice())
    return figure("writer kept waiting by a rebuild of history", "ms", values=held_ms, bound=Bound("at most", 50))


def _select_s(database: Path) -> float:
    raw = connect(database, read_only=True)
    begun_at = time.perf_counter()
    raw.execute(_SELECT).fetchall()
    elapsed_s = time.perf_counter() - begun_at
    raw.close()
    return elapsed_s


def _measured(arguments: Sequence[str], database: Path) -> tuple[float, float]:
    """Seconds that the command took, and the most memory that it had, in MiB."""
    command = [sys.executable, "-m", "jobsvc", *arguments, "--database", str(database)]
    environment = os.environ | {"JOBSVC_SECRET": SECRET}
    begun_at, most = time.perf_counter(), 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        # What the system counts for an ended child begins with what its parent had when it was forked.
        while process.poll() is None:
            most = max(most, _most_mebibytes(process.pid))
            time.sleep(_POLL_S)
    assert process.returncode == 0, command
    return time.perf_counter() - begun_at, most


def _most_mebibytes(pid: int) -> float:
    """The most that the process has had so far; 0 if it has ended, or the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1_024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
