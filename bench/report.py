"""
The report: figures with the machine they were taken on, as JSON, as Markdown, and as the page docs/benchmarks.md.

The page is made here and never by hand. Nothing in a report names a path, a host or a person.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from bench.figures import Section
from bench.servers import LOAD_CORES, SERVER_CORES
from jobsvc.store.driver import version_text

if TYPE_CHECKING:
    from bench.figures import Figure

_CHECKOUT: Final = Path(__file__).parents[1]
_RESULTS: Final = _CHECKOUT / "bench" / "results"
_PAGE: Final = _CHECKOUT / "docs" / "benchmarks.md"
_STREAMS_PAGE: Final = _CHECKOUT / "docs" / "benchmarks-streams.md"


class Machine(Struct, frozen=True):
    """Where and how the figures were taken."""

    processor: str
    cores: int
    kernel: str
    filesystem: str
    python: str
    sqlite: str
    packages: str
    taken_at: str
    command: str
    revision: str
    load: str


class Report(Struct, frozen=True):
    """All of a run."""

    machine: Machine
    sections: Sequence[Section]


def machine_facts(command: str, folder: Path) -> Machine:
    """This machine, for figures whose databases lie in *folder*."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "aiosqlite", "msgspec", "orjson"))
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 0,
        kernel=f"{platform.system()} {platform.release()}",
        filesystem=_filesystem(folder),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=version_text(),
        packages=packages + _loop_package(),
        taken_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        revision=_revision(),
        load=f"server on core {_names(SERVER_CORES)}, load on core {_names(LOAD_CORES)}",
    )


def write(report: Report, *, whole: bool) -> str:
    """The Markdown of *report*, also written to bench/results/; that of a *whole* run to docs/benchmarks.md too."""
    text, name = _markdown(report), "latest" if whole else "partial"
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (_RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    if whole:
        _PAGE.write_text(_PREFACE + text, encoding="utf-8")
    return text


def write_streams(report: Report, *, plot: str, frame_bytes: int, missing: str, whole: bool) -> str:
    """The Markdown of a *report* on streams, also written to bench/results/; of a *whole* run a page and plot too."""
    text, name = _markdown(report), "streams" if whole else "streams-partial"
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (_RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    if whole:
        left_out = f"**{missing}.**\n\n" if missing else ""
        preface = _STREAMS_PREFACE.format(frame_bytes=frame_bytes) + left_out
        _STREAMS_PAGE.write_text(preface + text, encoding="utf-8")
        _STREAMS_PAGE.with_suffix(".svg").write_text(plot, encoding="utf-8")
    return text


_STREAMS_PREFACE: Final = """\
# Benchmarks of streams

Made by `make bench-stream`, which writes this page; edit `bench/`, not this.
Every bound is on a ratio within one run, since absolute figures say as much about the machine as about the code.
A delivery is one event on one stream: a frame with {frame_bytes} bytes of data, the same from everybody.
This service commits each event to its log, durably, before anybody hears of it; the others keep nothing.
One by one, the next event is published when all have the last; in bursts, so many are published at once.
Listeners do not sleep amid an event, and streams are a few dozen events old before they are measured.
nchan takes one event a request, and gets a burst as pipelined requests.
*loop* is no library: send() of 64 KiB at most on one stream after the other, all that machine and listeners can do.
Values are medians of interleaved rounds, as many as each section says, with the least and the greatest behind them.

![Deliveries a second](benchmarks-streams.svg)

"""

_PREFACE: Final = """\
# Benchmarks

Made by `make bench`, which writes this page; edit `bench/`, not this.
Every bound is on a ratio within one run, since absolute figures say as much about the machine as about the code.
The bare handler is aiohttp that reads a JSON body and answers one of equal size, in a process like the service's.
Values are medians of interleaved rounds, as many as each section says, with the least and the greatest behind them.

"""


def _markdown(report: Report) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in msgspec.structs.asdict(report.machine).items())
    return "\n\n".join((facts, *(_section(section) for section in report.sections))) + "\n"


def _section(section: Section) -> str:
    if section.missing:
        return f"## {section.title}\n\nNot measured: {section.missing}."
    head = "| figure | value | least – greatest | bound | note |\n| --- | ---: | ---: | --- | --- |\n"
    return f"## {section.title}\n\n{_rounds(section)}\n\n{head}" + "\n".join(map(_line, section.figures))


def _rounds(section: Section) -> str:
    """How many rounds stand behind the section's figures."""
    counts = sorted({each.rounds for each in section.figures if each.rounds})
    return f"Rounds: {', '.join(map(str, counts)) or 'none'}."


def _line(figure: Figure) -> str:
    if not figure.rounds:
        held = "" if figure.bound is None else f"{figure.bound}: **missed**"
        return f"| {figure.name} | not measured |  | {held} | {figure.note} |"
    unit = "" if figure.unit == "ratio" else f" {figure.unit}"
    held = ""
    if figure.bound is not None:
        held = f"{figure.bound}: {'kept' if figure.bound.kept_by(figure.value) else '**missed**'}"
    spread = f"{_number(figure.lowest)} – {_number(figure.highest)}"
    return f"| {figure.name} | {_number(figure.value)}{unit} | {spread} | {held} | {figure.note} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """The type of the file system that *folder* lies on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mounted_at, name, *_ = line.split()
        if folder.resolve().is_relative_to(mounted_at) and len(mounted_at) >= len(best):
            best, kind = mounted_at, name
    return kind


def _loop_package() -> str:
    try:
        return f", uvloop {version('uvloop')}"
    except ModuleNotFoundError:
        return ""


def _revision() -> str:
    command = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _names(cores: frozenset[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores))
