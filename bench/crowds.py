"""
Crowds: what an open stream costs that nobody is told anything on, and how many a process may have.

What the figures are held against stands beside them here, since nothing else is measured with so many.
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from msgspec import structs

from bench.figures import Bound, Section, figure
from bench.listeners import Stalled, listening
from bench.publishing import Publisher, guests, service
from bench.rounds import fresh, publish

if TYPE_CHECKING:
    from pathlib import Path

    from bench.publishing import Contender

_ROUNDS: Final = 3
_IDLE: Final = 5_000
_IDLE_BEFORE: Final = 500
"""Open already when the first is weighed, so that what the first of all costs is no part of it."""
MANY: Final = "Many streams"
_MANY: Final = 20_000
_EVENTS_TO_MANY: Final = 5
_FILES_SPARED: Final = 150
"""The service spares 100 for its own, and takes no more connections than the rest."""
_KIB: Final = 1_024
_FREED: Final = Bound("at most", 2.5)
_PARKED: Final = Bound("at most", 12)


def memory(folder: Path, others: list[Contender], *, quick: bool) -> Section:
    """What an idle stream weighs in the server, freed and parked, and with the others."""
    mine, parked = service(), service(module="bench.parked")
    of_guests = structs.replace(mine, opening=guests)
    weighed: list[tuple[str, Contender, Bound | None, str]] = [
        ("freed, each of a guest of its own", of_guests, _FREED, "jobsvc"),
        ("freed, each of a watcher of all", mine, _FREED, "jobsvc"),
        ("parked, each of a guest of its own", structs.replace(parked, opening=guests), _PARKED, "jobsvc"),
        *((each.name, each, None, "") for each in others),
    ]
    rounds = [[_weight(folder, each) for _, each, _, _ in weighed] for _ in range(1 if quick else _ROUNDS)]
    figures = [
        figure(name, "KiB", values=values, bound=bound, note=note if all(values) else f"{note} stalled".strip())
        for (name, _, bound, note), values in zip(weighed, zip(*rounds, strict=True), strict=True)
    ]
    return Section("memory", f"Resident memory of an idle stream, over {_IDLE:,} of them", figures)


def _weight(folder: Path, contender: Contender) -> float | None:
    """KiB a stream; None if they do not open."""
    print(f"bench: {_IDLE:,} idle streams, {contender.name} …", file=sys.stderr, flush=True)
    opening = contender.opening(_IDLE_BEFORE + _IDLE)
    first = structs.replace(opening, requests=opening.requests[:_IDLE_BEFORE])
    rest = structs.replace(opening, requests=opening.requests[_IDLE_BEFORE:])
    try:
        with (
            fresh(folder) as place,
            contender.start(place, _IDLE_BEFORE + _IDLE) as server,
            listening(server.address, first),
        ):
            before = server.resident_bytes()
            with listening(server.address, rest):
                return (server.resident_bytes() - before) / _IDLE / _KIB
    except Stalled:
        return None


def many(folder: Path) -> Section:
    """As many streams as the machine lets one process have, up to 20,000, and one event to all of them."""
    mine = service()
    files = files_max()
    size = min(_MANY, files - _FILES_SPARED)
    print(f"bench: {size:,} streams in one process …", file=sys.stderr, flush=True)
    with (
        fresh(folder) as place,
        mine.start(place, size) as server,
        listening(server.address, mine.opening(size)) as audience,
        closing(Publisher(mine, server)) as publisher,
    ):
        waits_ms = []
        for _ in range(_EVENTS_TO_MANY):
            began_s = time.monotonic()
            publish(audience, publisher, 1)
            waits_ms.append((time.monotonic() - began_s) * 1e3)
        resident = server.resident_bytes() / _KIB**2
    limit = f"of {_MANY:,} wanted: here a process may have {files:,} files open, and no more"
    figures = [
        figure("open streams in one process", "streams", values=[audience.size], note=limit if size < _MANY else ""),
        figure("one event to all of them", "ms", values=waits_ms, note="from request to the last frame"),
        figure("resident memory of the whole process", "MiB", values=[resident]),
    ]
    return Section("many", MANY, figures)


def files_max() -> int:
    """So many files may this process and those it starts have open from now on; the limit is raised if it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY + 2 * _FILES_SPARED
    if resource.RLIM_INFINITY != hard < wanted:
        # Who may not (setrlimit(2): CAP_SYS_RESOURCE) has what there is.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
