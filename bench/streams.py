"""
``python -m bench.streams [NAMES...] [--quick]``: how fast events reach many streams, and what an open stream costs.

The service commits each event before anybody hears of it; it is measured so, against libraries that keep nothing, in
one run. Rounds are interleaved, and each begins with fresh processes. One of the others that stalls is a figure that
is missing. Exit 0 if every bound was kept, else 1. A run without names and --quick makes docs/benchmarks-streams.md and
its plot.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import nchan
from bench.crowds import MANY, files_max, many, memory
from bench.figures import Bound, Figure, Section, figure, ratio
from bench.listeners import Stalled, told
from bench.plot import Bars, bars_svg
from bench.publishing import frame_data, nginx, rival, service
from bench.report import Report, machine_facts, write_streams
from bench.rounds import COMPARED, SIZES, STEADY_PER_S, WAYS, measured, rates, stalls, stretches, ways_of
from bench.servers import LOAD_CORES
from bench.stuck import STUCK, stuck

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from bench.publishing import Contender
    from bench.rounds import Found, Steady, Stretch

NAMES: Final = ("fan-out", "memory", "many", "stuck")
AT_LEAST: Final[Mapping[tuple[str, str], float]] = {
    ("aiohttp-sse", "one by one"): 3.0,
    ("aiohttp-sse", "in bursts of 100"): 10.0,
    ("aiohttp-sse", "in bursts of 500"): 10.0,
    ("nchan", "one by one"): 0.9,
    ("nchan", "in bursts of 100"): 5.0,
    ("nchan", "in bursts of 500"): 5.0,
}
_DELAY: Final = Bound("at most", 0.33)


def main() -> int:
    """The exit code, once everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description="Measure streams against others.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one round, 1,000 streams only")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(NAMES)):
        parser.error(f"there is no measurement {unknown[0]!r}")
    names, quick = asked.names or NAMES, asked.quick
    os.sched_setaffinity(0, LOAD_CORES)
    files_max()
    with tempfile.TemporaryDirectory(prefix="jobsvc-bench-") as name:
        folder = Path(name)
        data = frame_data(folder)
        contenders = _contenders(data)
        found = measured(folder, contenders, quick=quick) if "fan-out" in names else {}
        sections = _sections(folder, names, contenders, found=found, quick=quick)
        command = " ".join(["python -m bench.streams", *sys.argv[1:]])
        report = Report(machine_facts(command, folder), sections)
    whole = not asked.names and not quick
    plot = _plot(found, contenders) if whole else ""
    print(write_streams(report, plot=plot, frame_bytes=len(data), missing=_missing(), whole=whole))
    kept = all(_kept(figure) for section in sections for figure in section.figures)
    return 0 if kept and not any(section.missing for section in sections) else 1


def _sections(
    folder: Path, names: Collection[str], contenders: list[Contender], *, found: Found, quick: bool
) -> list[Section]:
    """What was *found* of the fan-out, and all else that is asked for."""
    sections: list[Section] = []
    if found:
        sections = [_fan_out(found, contenders, size) for size in SIZES if (contenders[0].name, size) in found]
        sections += [_delays(found, contenders, per_s) for per_s in STEADY_PER_S]
    if "memory" in names:
        sections.append(memory(folder, contenders[1:-1], quick=quick))
    if "many" in names:
        sections.append(_unless_stalled("many", MANY, lambda: many(folder)))
    if "stuck" in names:
        sections.append(_unless_stalled("stuck", STUCK, lambda: stuck(folder, quick=quick)))
    return sections


def _unless_stalled(name: str, title: str, measure: Callable[[], Section]) -> Section:
    try:
        return measure()
    except Stalled as stall:
        return Section(name, title, (), missing=f"the service stalled: {told(stall.waited_s)}")


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
    for way in ways_of(size):
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
    def of(value: Callable[[Stretch], float]) -> list[float | None]:
        return stretches(found, contender, size, way=way, value=value)

    def typical(value: Callable[[Stretch], float]) -> float:
        return figure("", "", values=of(value)).value

    busy = f"server busy {typical(lambda one: one.server_busy):.2f}"
    busy += f", listeners {typical(lambda one: one.listeners_busy):.2f}"
    stalled = stalls(found[contender.name, size], came_so_far=lambda one: way in one.ways)
    return [
        figure(f"{way}: {contender.name}", "deliveries/s", values=of(lambda one: one.rate), note=stalled or busy),
        figure(f"{way}: {contender.name}, CPU a delivery", "µs", values=of(lambda one: one.cpu_us)),
    ]


def _delays(found: Found, contenders: list[Contender], per_s: int) -> Section:
    figures: list[Figure] = []

    def of(name: str, value: Callable[[Steady], float]) -> list[float | None]:
        rounds = [one.steady.get(per_s) for one in found[name, COMPARED]]
        return [None if one is None else value(one) for one in rounds]

    ours = contenders[0].name
    for each in contenders:
        stalled = stalls(found[each.name, COMPARED], came_so_far=lambda one: per_s in one.steady)
        figures += [
            figure(f"{each.name}, p50", "ms", values=of(each.name, lambda one: one.p50_ms), note=stalled),
            figure(f"{each.name}, p99", "ms", values=of(each.name, lambda one: one.p99_ms), note=stalled),
        ]
        if each.name not in {ours, "loop"}:
            bound = _DELAY if each.name == "aiohttp-sse" else None
            mine, theirs = of(ours, lambda one: one.p99_ms), of(each.name, lambda one: one.p99_ms)
            figures.append(ratio(f"jobsvc over {each.name}, p99", mine, below=theirs, bound=bound))
    title = f"Delay to {COMPARED:,} streams at {per_s} events a second, from request to frame"
    return Section(f"delays-{per_s}", title, figures)


def _plot(found: Found, contenders: list[Contender]) -> str:
    """The rates with as many streams as are compared, of all that were measured."""
    groups = [Bars(way, [*_bars(found, contenders, way)]) for way in WAYS]
    return bars_svg(groups, title=f"Deliveries a second to {COMPARED:,} streams", unit="1/s")


def _bars(found: Found, contenders: list[Contender], way: str) -> Iterator[tuple[str, float]]:
    for each in contenders:
        rate = figure(each.name, "1/s", values=rates(found, each, COMPARED, way=way))
        if rate.rounds:
            yield rate.name, rate.value


if __name__ == "__main__":
    sys.exit(main())
