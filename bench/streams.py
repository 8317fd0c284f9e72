"""
``python -m bench.streams [--quick]``: how fast events reach many streams, and what an open stream costs.

The service commits each event before anybody hears of it; it is measured so, against libraries that keep nothing, in
one run. Rounds are interleaved, and each begins with fresh processes. Exit 0 if every bound was kept, else 1. A run
without --quick makes docs/benchmarks-streams.md and its plot.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from msgspec import structs

from bench import nchan
from bench.figures import Bound, Figure, Section, figure, ratio
from bench.listeners import listening
from bench.plot import Bars, bars_svg
from bench.publishing import Publisher, frame_data, guests, nginx, rival, service
from bench.report import Report, machine_facts, write_streams
from bench.rounds import COMPARED, SIZES, STEADY_PER_S, WAYS, fresh, measured, publish, rates, stretches
from bench.servers import LOAD_CORES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.publishing import Contender
    from bench.rounds import Found, Steady, Stretch

_IDLE: Final = 5_000
_IDLE_BEFORE: Final = 500
"""Open already when the first is weighed, so that what the first of all costs is no part of it."""
_MANY: Final = 20_000
_FILES_SPARED: Final = 200
_KIB: Final = 1_024

AT_LEAST: Final[Mapping[tuple[str, str], float]] = {
    ("aiohttp-sse", "one by one"): 3.0,
    ("aiohttp-sse", "in bursts of 100"): 10.0,
    ("aiohttp-sse", "in bursts of 500"): 10.0,
    ("nchan", "one by one"): 0.9,
    ("nchan", "in bursts of 100"): 5.0,
    ("nchan", "in bursts of 500"): 5.0,
}
_DELAY: Final = Bound("at most", 0.33)
_FREED: Final = Bound("at most", 2.5)
_PARKED: Final = Bound("at most", 12)


def main() -> int:
    """The exit code, once everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description="Measure streams against others.")
    parser.add_argument("--quick", action="store_true", help="one round, 1,000 streams only")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, LOAD_CORES)
    with tempfile.TemporaryDirectory(prefix="jobsvc-bench-") as name:
        folder = Path(name)
        data = frame_data(folder)
        contenders = _contenders(data)
        found = measured(folder, contenders, quick=quick)
        sections = [
            *(_fan_out(found, contenders, size) for size in SIZES if (contenders[0].name, size) in found),
            _delays(found, contenders),
            _memory(folder, contenders, quick=quick),
            _many(folder),
        ]
        command = " ".join(["python -m bench.streams", *sys.argv[1:]])
        report = Report(machine_facts(command, folder), sections)
    plot = bars_svg(_plotted(found, contenders), title=f"Deliveries a second to {COMPARED:,} streams", unit="1/s")
    print(write_streams(report, plot=plot, frame_bytes=len(data), missing=_missing(), whole=not quick))
    return 0 if all(_kept(figure) for section in sections for figure in section.figures) else 1


def _contenders(data: bytes) -> list[Contender]:
    """This service first, then the others; the loop that is none of them last."""
    some = [service(), rival("aiohttp-sse", data), rival("sse-starlette", data)]
    if nchan.found() is None:
        print(f"bench: {_missing()}", file=sys.stderr, flush=True)
    else:
        some.append(nginx(data))
    return [*some, rival("loop", data)]


def _missing() -> str:
    return "" if nchan.found() else "nchan was LEFT OUT: there is no nginx with it on this machine"


def _kept(one: Figure) -> bool:
    return one.bound is None or one.bound.kept_by(one.value)


# --- Sections ------------------------------------------------------------------------------------------------------


def _fan_out(found: Found, contenders: list[Contender], size: int) -> Section:
    figures: list[Figure] = []
    ours = contenders[0].name
    for way in found[ours, size][0].ways:
        by_name = {each.name: rates(found, each, size, way=way) for each in contenders}
        for name, theirs in by_name.items():
            least = AT_LEAST.get((name, way)) if size == COMPARED else None
            bound = None if least is None else Bound("at least", least)
            if name not in {ours, "loop"}:
                figures.append(ratio(f"{way}: jobsvc over {name}", by_name[ours], below=theirs, bound=bound))
        for each in contenders:
            figures += _costs(found, each, size, way)
    return Section(f"fan-out-{size}", f"One event to {size:,} streams", figures)


def _costs(found: Found, contender: Contender, size: int, way: str) -> list[Figure]:
    def of(value: Callable[[Stretch], float]) -> list[float]:
        return stretches(found, contender, size, way=way, value=value)

    server, listeners = median(of(lambda one: one.server_busy)), median(of(lambda one: one.listeners_busy))
    busy = f"server busy {server:.2f}, listeners {listeners:.2f}"
    return [
        figure(f"{way}: {contender.name}", "deliveries/s", values=of(lambda one: one.rate), note=busy),
        figure(f"{way}: {contender.name}, CPU a delivery", "µs", values=of(lambda one: one.cpu_us)),
    ]


def _delays(found: Found, contenders: list[Contender]) -> Section:
    figures: list[Figure] = []

    def of(name: str, value: Callable[[Steady], float]) -> list[float]:
        return [value(one.steady) for one in found[name, COMPARED] if one.steady is not None]

    ours = contenders[0].name
    for each in contenders:
        figures += [
            figure(f"{each.name}, p50", "ms", values=of(each.name, lambda one: one.p50_ms)),
            figure(f"{each.name}, p99", "ms", values=of(each.name, lambda one: one.p99_ms)),
        ]
        if each.name not in {ours, "loop"}:
            bound = _DELAY if each.name == "aiohttp-sse" else None
            mine, theirs = of(ours, lambda one: one.p99_ms), of(each.name, lambda one: one.p99_ms)
            figures.append(ratio(f"jobsvc over {each.name}, p99", mine, below=theirs, bound=bound))
    title = f"Delay to {COMPARED:,} streams at {STEADY_PER_S} events a second, from request to frame"
    return Section("delays", title, figures)


def _memory(folder: Path, contenders: list[Contender], *, quick: bool) -> Section:
    """What an idle stream weighs in the server, freed and parked, and with the others."""
    mine, parked = service(), service(module="bench.parked")
    of_guests = structs.replace(mine, opening=guests)
    weighed: list[tuple[str, Contender, Bound | None, str]] = [
        ("freed, each of a guest of its own", of_guests, _FREED, "jobsvc"),
        ("freed, each of a watcher of all", mine, _FREED, "jobsvc"),
        ("parked, each of a guest of its own", structs.replace(parked, opening=guests), _PARKED, "jobsvc"),
        *((each.name, each, None, "") for each in contenders[1:-1]),
    ]
    figures = [
        figure(name, "KiB", values=[_weight(folder, each) for _ in range(1 if quick else 3)], bound=bound, note=note)
        for name, each, bound, note in weighed
    ]
    return Section("memory", f"Resident memory of an idle stream, over {_IDLE:,} of them", figures)


def _weight(folder: Path, contender: Contender) -> float:
    """KiB a stream."""
    opening = contender.opening(_IDLE_BEFORE + _IDLE)
    first = structs.replace(opening, requests=opening.requests[:_IDLE_BEFORE])
    rest = structs.replace(opening, requests=opening.requests[_IDLE_BEFORE:])
    with (
        fresh(folder) as place,
        contender.start(place, _IDLE_BEFORE + _IDLE) as server,
        listening(server.address, first),
    ):
        before = server.resident_bytes()
        with listening(server.address, rest):
            return (server.resident_bytes() - before) / _IDLE / _KIB


def _many(folder: Path) -> Section:
    """As many streams as the machine lets one process have, up to 20,000, and one event to all of them."""
    mine = service()
    size = min(_MANY, _files_max() - _FILES_SPARED)
    with (
        fresh(folder) as place,
        mine.start(place, size) as server,
        listening(server.address, mine.opening(size)) as audience,
        closing(Publisher(mine, server)) as publisher,
    ):
        waits_ms = []
        for _ in range(5):
            began_s = time.monotonic()
            publish(audience, publisher, 1)
            waits_ms.append((time.monotonic() - began_s) * 1e3)
        resident = server.resident_bytes() / _KIB**2
    forbidden = f"of {_MANY:,} wanted: this machine forbids more open files" if size < _MANY else ""
    figures = [
        figure("open streams in one process", "streams", values=[audience.size], note=forbidden),
        figure("one event to all of them", "ms", values=waits_ms, note="from request to the last frame"),
        figure("resident memory of the whole process", "MiB", values=[resident]),
    ]
    return Section("many", "Many streams", figures)


def _files_max() -> int:
    """So many files may this process and those it starts have open, from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY + 2 * _FILES_SPARED
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _plotted(found: Found, contenders: list[Contender]) -> list[Bars]:
    """The rates with as many streams as are compared."""
    return [_bars(found, contenders, way) for way in WAYS]


def _bars(found: Found, contenders: list[Contender], way: str) -> Bars:
    return Bars(way, [(each.name, median(rates(found, each, COMPARED, way=way))) for each in contenders])


if __name__ == "__main__":
    sys.exit(main())
