"""
Rounds: each contender with fresh processes, publishing one by one, in bursts and at a steady rate to so many streams.

Interleaved, so that what disturbs the machine for long disturbs all of them. What the figures are held against is not
known here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bench.listeners import Stalled, listening, told
from bench.publishing import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.listeners import Audience
    from bench.publishing import Contender
    from bench.servers import Server

SIZES: Final = (100, 1_000, 5_000)
COMPARED: Final = 1_000
"""The bounds are on this many streams."""
WAYS: Final[Mapping[str, int]] = {"one by one": 1, "in bursts of 100": 100, "in bursts of 500": 500}
_ROUNDS: Final = 3
_STRETCH_S: Final = 1.0
STEADY_PER_S: Final = (20, 40)
"""At the first all of them sleep between two events; at the second the slowest has little sleep left."""
_STEADY_S: Final = 8
_YOUNG: Final = 32
"""A receiver acknowledges the first 16 segments of a connection at once (Linux: TCP_MAX_QUICKACKS), which costs the
sender as much again; streams live for hours, so none is measured before it is older."""


class Stretch(Struct, frozen=True):
    """Some time of publishing: deliveries a second, CPU for each in the server, how busy it and the listeners were."""

    rate: float
    cpu_us: float
    server_busy: float
    listeners_busy: float


class Steady(Struct, frozen=True):
    """Delays at one steady rate."""

    p50_ms: float
    p99_ms: float


class Round(Struct, frozen=True):
    """
    What one contender did in one round with so many streams.

    Attributes:
        ways: By way of publishing; what is not here was not measured.
        steady: By events a second; only with as many streams as are compared, and as far as it came.
        stalled_s: For how long nothing was heard, if the round ended so.
    """

    ways: Mapping[str, Stretch]
    steady: Mapping[int, Steady]
    stalled_s: float | None = None


Found = dict[tuple[str, int], list[Round]]
"""The rounds by contender and number of streams."""


def measured(folder: Path, contenders: list[Contender], *, quick: bool) -> Found:
    """Each contender with each number of streams, again and again."""
    found: Found = {}
    for number in range(1 if quick else _ROUNDS):
        for size in (COMPARED,) if quick else SIZES:
            for contender in contenders:
                print(f"bench: round {number + 1}, {size:,} streams, {contender.name} …", file=sys.stderr, flush=True)
                with fresh(folder) as place:
                    one = round_of(contender, place, size)
                found.setdefault((contender.name, size), []).append(one)
    return found


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """An empty folder in *folder* that another user may enter, gone when the block ends."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def ways_of(size: int) -> list[str]:
    """How is published to so many. The longest bursts only where compared: at the libraries' pace it takes minutes."""
    return [way for way, events in WAYS.items() if events < 500 or size == COMPARED]


def round_of(contender: Contender, folder: Path, size: int) -> Round:
    """One round; as much of it as there is, if the contender stalls in it."""
    ways: dict[str, Stretch] = {}
    steady: dict[int, Steady] = {}
    try:
        with (
            contender.start(folder, size) as server,
            listening(server.address, contender.opening(size)) as audience,
            closing(Publisher(contender, server)) as publisher,
        ):
            for _ in range(_YOUNG):
                publish(audience, publisher, 1)
            for per_s in STEADY_PER_S if size == COMPARED else ():
                steady[per_s] = _steady(audience, publisher, per_s)
            for way in ways_of(size):
                ways[way] = _stretch(server, audience, publisher, events=WAYS[way])
    except Stalled as stall:
        print(f"bench: {contender.name} STALLED: {told(stall.waited_s)}", file=sys.stderr, flush=True)
        return Round(ways, steady, stall.waited_s)
    return Round(ways, steady)


def publish(audience: Audience, publisher: Publisher, events: int) -> float:
    """So many events, heard by all; how long the listeners were busy with them."""
    audience.expect(events)
    publisher.send(events)
    busy_s = audience.heard().busy_s
    publisher.finish(events)
    return busy_s


def _stretch(server: Server, audience: Audience, publisher: Publisher, *, events: int) -> Stretch:
    """Publishing so many *events* at once, and again as soon as all have heard of them."""
    began_s, cpu_s, done, busy_s = time.monotonic(), server.cpu_s(), 0, 0.0
    while time.monotonic() < began_s + _STRETCH_S:
        busy_s += publish(audience, publisher, events)
        done += events * audience.size
    elapsed_s, used_s = time.monotonic() - began_s, server.cpu_s() - cpu_s
    return Stretch(done / elapsed_s, used_s / done * 1e6, used_s / elapsed_s, busy_s / elapsed_s)


def _steady(audience: Audience, publisher: Publisher, per_s: int) -> Steady:
    """Delays from the moment at which an event was sent to be published, at a rate that all can keep."""
    sent_s: list[float] = []
    audience.expect_timed(per_s * _STEADY_S)
    began_s = time.monotonic()
    for number in range(per_s * _STEADY_S):
        time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
        sent_s.append(time.monotonic())
        publisher.send(1)
        publisher.finish(1)
    delays = audience.delays(sent_s)
    return Steady(delays.p50_s * 1e3, delays.p99_s * 1e3)


def stretches(
    found: Found, contender: Contender, size: int, *, way: str, value: Callable[[Stretch], float]
) -> list[float | None]:
    """One value a round of what *contender* did that way with so many streams; None where it did not come so far."""
    return [value(one.ways[way]) if way in one.ways else None for one in found[contender.name, size]]


def stalls(rounds: Sequence[Round], *, came_so_far: Callable[[Round], bool]) -> str:
    """That the contender stalled before it came so far, if it did."""
    ended = [one.stalled_s for one in rounds if one.stalled_s is not None and not came_so_far(one)]
    return f"stalled in {len(ended)} of {len(rounds)} rounds: {told(max(ended))}" if ended else ""


def rates(found: Found, contender: Contender, size: int, *, way: str) -> list[float | None]:
    """Its deliveries a second, one a round."""
    return stretches(found, contender, size, way=way, value=lambda one: one.rate)
