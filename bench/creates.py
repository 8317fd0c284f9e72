"""
Durable creates and whole lifecycles a second, against the bare handler in the same run.

Rounds are interleaved: bare, bare on plain asyncio, creates, lifecycles, and again, so that what disturbs the machine
disturbs all of them. Each round of the service begins on an empty database in a fresh process, as does each bare one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bench.callers import Tally, batched_lifecycles, creates, lifecycles
from bench.figures import Bound, Figure, figure, ratio
from bench.load import drive
from bench.servers import bare, serving

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.load import Caller
    from bench.servers import Server

CONNECTIONS: Final = 96
_WARM_UP_S: Final = 0.5
_BUSY: Final = Bound("at least", 0.9)


class Round(Struct, frozen=True):
    """One stretch of load on one server: how many a second, what each cost there, how busy its core was."""

    rate: float
    cpu_us: float
    busy: float


Callers = Callable[[int, Tally], "Caller"]


def measure_creates(folder: Path, *, quick: bool) -> list[Figure]:
    """Creates against the bare handler, by rate and by the server's own CPU time."""
    rounds = _rounds(folder, quick=quick, kinds={"creates": _creating})
    loop, plain, ours = rounds["bare"], rounds["plain"], rounds["creates"]
    return [
        ratio("creates/s over bare", _rates(ours), below=_rates(loop), bound=Bound("at least", 0.5, aim=0.65)),
        ratio("creates/s over bare on plain asyncio", _rates(ours), below=_rates(plain)),
        ratio("CPU a bare POST over CPU a create", _costs(loop), below=_costs(ours)),
        ratio("the same, bare on plain asyncio", _costs(plain), below=_costs(ours)),
        figure("creates", "1/s", values=_rates(ours)),
        figure("bare POSTs", "1/s", values=_rates(loop), note="on the event loop that the service runs on"),
        figure("bare POSTs on plain asyncio", "1/s", values=_rates(plain)),
        figure("CPU a create", "µs", values=_costs(ours), note="all threads of the server process"),
        figure("CPU a bare POST", "µs", values=_costs(loop)),
        figure("CPU a bare POST on plain asyncio", "µs", values=_costs(plain)),
        figure("server's core busy during creates", "ratio", values=[each.busy for each in ours], bound=_BUSY),
        figure("server's core busy during bare POSTs", "ratio", values=[each.busy for each in loop], bound=_BUSY),
        _flush_figure(folder),
    ]


def measure_lifecycles(folder: Path, *, quick: bool) -> list[Figure]:
    """Create, claim, complete: three requests a job, and with claims and reports of a hundred."""
    kinds: dict[str, Callers] = {"single": lifecycles, "batched": batched_lifecycles}
    rounds = _rounds(folder, quick=quick, kinds=kinds)
    loop, single, batched = (rounds[name] for name in ("bare", "single", "batched"))
    return [
        ratio(
            "lifecycles/s over bare, single requests", _rates(single), below=_rates(loop), bound=Bound("at least", 0.08)
        ),
        ratio("lifecycles/s over bare, batched", _rates(batched), below=_rates(loop), bound=Bound("at least", 0.15)),
        figure("lifecycles, three single requests", "1/s", values=_rates(single)),
        figure("lifecycles, batched claims and reports", "1/s", values=_rates(batched), note="creates are single"),
        figure("bare POSTs", "1/s", values=_rates(loop)),
        figure("CPU a lifecycle, single requests", "µs", values=_costs(single)),
        figure("CPU a lifecycle, batched", "µs", values=_costs(batched)),
    ]


def _creating(number: int, _: Tally) -> Caller:
    return creates(number)


def _rounds(folder: Path, *, quick: bool, kinds: dict[str, Callers]) -> dict[str, list[Round]]:
    """Interleaved rounds of the bare handler on both loops and of each of *kinds*, by name."""
    seconds, count = (1.0, 3) if quick else (2.0, 7)
    answer = _answer_of_create(folder)
    found: dict[str, list[Round]] = {name: [] for name in ("bare", "plain", *kinds)}
    for number in range(count):
        found["bare"].append(_round(partial(bare, answer), _creating, seconds=seconds))
        found["plain"].append(_round(partial(bare, answer, plain=True), _creating, seconds=seconds))
        for name, callers in kinds.items():
            database = folder / f"{name}-{number}.db"
            found[name].append(_round(partial(serving, database), callers, seconds=seconds))
            _remove(database)
    return found


def _round(start: Callable[[], AbstractContextManager[Server]], callers: Callers, *, seconds: float) -> Round:
    with start() as server:
        _stretch(server, callers, seconds=_WARM_UP_S)
        return _stretch(server, callers, seconds=seconds)


def _stretch(server: Server, callers: Callers, *, seconds: float) -> Round:
    """Counted are whole jobs where the callers count them, else answers."""
    tally, before_s = Tally(), server.cpu_s()
    outcome = drive(server.address, [callers(number, tally) for number in range(CONNECTIONS)], seconds=seconds)
    used_s = server.cpu_s() - before_s
    done = tally.completed or outcome.replies
    return Round(done / outcome.elapsed_s, used_s / done * 1e6, used_s / outcome.elapsed_s)


def _answer_of_create(folder: Path) -> Path:
    """A file with what the service answers to a create, for the bare handler to answer too."""
    path, database = folder / "answer.json", folder / "answer.db"

    def once() -> Caller:
        made = creates(0, count=1)
        reply = yield next(made)
        path.write_bytes(reply.body)

    with serving(database) as server:
        drive(server.address, [once()])
    _remove(database)
    return path


def _flush_figure(folder: Path) -> Figure:
    """How long the disk takes to make 64 KiB durable: what a commit waits for without using CPU."""
    waits_ms: list[float] = []
    path = folder / "flush"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    for number in range(50):
        os.pwrite(descriptor, os.urandom(65_536), number * 65_536)
        begun_at = time.perf_counter()
        os.fdatasync(descriptor)
        waits_ms.append((time.perf_counter() - begun_at) * 1e3)
    os.close(descriptor)
    path.unlink()
    return figure("fdatasync of 64 KiB", "ms", values=waits_ms)


def _remove(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def _rates(rounds: list[Round]) -> list[float]:
    return [each.rate for each in rounds]


def _costs(rounds: list[Round]) -> list[float]:
    return [each.cpu_us for each in rounds]
