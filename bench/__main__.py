"""
``python -m bench [NAMES...] [--quick]``: measure, print each figure with its unit, and write the results down.

Exit 0 if every bound was kept, else 1. A run without names and --quick is a whole one and makes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.creates import measure_creates, measure_lifecycles
from bench.delays import measure_delays
from bench.figures import Figure, Section
from bench.growth import measure_growth
from bench.replay import measure_replay
from bench.report import Report, machine_facts, write
from bench.servers import LOAD_CORES

Measure = Callable[..., list[Figure]]

MEASURES: Final[dict[str, tuple[str, Measure]]] = {
    "creates": ("Durable creates", measure_creates),
    "lifecycles": ("Lifecycles", measure_lifecycles),
    "replay": ("Replay", measure_replay),
    "growth": ("A long log", measure_growth),
    "delays": ("How soon others hear of it", measure_delays),
}


def main() -> int:
    """The exit code, once everything asked for was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the service against a bare handler.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, a shorter long log")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(MEASURES))
    if unknown:
        parser.error(f"there is no measurement {unknown[0]!r}")
    os.sched_setaffinity(0, LOAD_CORES)
    with tempfile.TemporaryDirectory(prefix="jobsvc-bench-") as folder:
        sections = [_measured(name, Path(folder), quick=asked.quick) for name in asked.names or MEASURES]
        command = " ".join(["python -m bench", *sys.argv[1:]])
        report = Report(machine_facts(command, Path(folder)), sections)
    print(write(report, whole=not asked.names and not asked.quick))
    return 0 if all(_kept(figure) for section in sections for figure in section.figures) else 1


def _measured(name: str, folder: Path, *, quick: bool) -> Section:
    title, measure = MEASURES[name]
    print(f"bench: {title.lower()} …", file=sys.stderr, flush=True)
    try:
        return Section(name, title, measure(folder, quick=quick))
    except NotImplementedError as reason:
        return Section(name, title, (), missing=str(reason))


def _kept(figure: Figure) -> bool:
    return figure.bound is None or figure.bound.kept_by(figure.value)


if __name__ == "__main__":
    sys.exit(main())
