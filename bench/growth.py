"""
What a long log costs: creates, and the start, of a service with a million events against one with a thousand.

Both run at once on the same core and are asked in turns, so that a slow minute of the machine slows both. The logs are
made by bench/fill.py; few jobs are active in either. A filled log is one that no projection has taken in yet: that is
waited for first, since a log that grew under a service has nothing like it left to do.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bench.callers import creates
from bench.figures import Bound, Figure, figure, quantile, ratio
from bench.fill import fill
from bench.load import drive
from bench.servers import serving

if TYPE_CHECKING:
    from pathlib import Path

    from bench.servers import Server

SHORT: Final = 1_000
LONG: Final = 1_000_000
LONG_QUICK: Final = 100_000
_CROWD: Final = 64
_CREATES_ALONE: Final = 300
_CREATES_EACH: Final = 30
_LOOK_EACH_S: Final = 0.5
_BUSY_MAX: Final = 0.1
"""The part of its core that a service at rest uses at most."""
_REST_WITHIN_S: Final = 300.0


def measure_growth(folder: Path, *, quick: bool) -> list[Figure]:
    """Creates at both lengths of the log, alone by wait and in a crowd by CPU time; then how long a start takes."""
    long, rounds = (LONG_QUICK, 3) if quick else (LONG, 7)
    short_path, long_path = folder / "short.db", folder / "long.db"
    asyncio.run(fill(short_path, SHORT))
    begun_at = time.perf_counter()
    asyncio.run(fill(long_path, long))
    filled_s = time.perf_counter() - begun_at
    with serving(short_path) as short_server, serving(long_path) as long_server:
        short_ms, short_us, long_ms, long_us = _in_turns(short_server, long_server, rounds=rounds)
    short_s, long_s = _starts(short_path, long_path, rounds=3 if quick else 5)
    return [
        ratio(f"create at {long:,} events over at {SHORT:,}", long_ms, below=short_ms, bound=Bound("at most", 1.3)),
        ratio("the same in a crowd, by CPU a create", long_us, below=short_us),
        figure(f"create at {SHORT:,} events", "ms", values=short_ms, note="median wait on one connection"),
        figure(f"create at {long:,} events", "ms", values=long_ms, note="median wait on one connection"),
        figure(f"CPU a create at {SHORT:,} events", "µs", values=short_us, note=f"{_CROWD} connections"),
        figure(f"CPU a create at {long:,} events", "µs", values=long_us, note=f"{_CROWD} connections"),
        figure(f"start to ready at {long:,} events", "s", values=long_s, bound=Bound("at most", 2.0)),
        figure(f"start to ready at {SHORT:,} events", "s", values=short_s),
        figure(f"appending {long:,} events through the store", "events/s", values=[long / filled_s]),
    ]


def _in_turns(short: Server, long: Server, *, rounds: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """Median wait in ms and CPU in µs of a create, by round: of the short log, then of the long one."""
    found: tuple[list[float], ...] = ([], [], [], [])
    for server in (short, long):
        _wait_for_rest(server)
        _alone_ms(server)  # warm
    for _ in range(rounds):
        for server, waits, costs in ((short, found[0], found[1]), (long, found[2], found[3])):
            waits.append(_alone_ms(server))
            costs.append(_crowd_us(server))
    return found[0], found[1], found[2], found[3]


def _wait_for_rest(server: Server) -> None:
    """What *server* does by itself after a start is done."""
    for _ in range(int(_REST_WITHIN_S / _LOOK_EACH_S)):
        before_s = server.cpu_s()
        time.sleep(_LOOK_EACH_S)
        if server.cpu_s() - before_s < _BUSY_MAX * _LOOK_EACH_S:
            return
    message = f"the service was still busy {_REST_WITHIN_S:g} s after its start"
    raise TimeoutError(message)


def _alone_ms(server: Server) -> float:
    outcome = drive(server.address, [creates(0, count=_CREATES_ALONE)], keep_waits=True)
    return quantile(outcome.waits_s, 0.5) * 1e3


def _crowd_us(server: Server) -> float:
    before_s = server.cpu_s()
    outcome = drive(server.address, [creates(number, count=_CREATES_EACH) for number in range(_CROWD)])
    return (server.cpu_s() - before_s) / outcome.replies * 1e6


def _starts(short: Path, long: Path, *, rounds: int) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for path, starts in zip((short, long), found, strict=True):
            begun_at = time.perf_counter()
            with serving(path):
                starts.append(time.perf_counter() - begun_at)
    return found
