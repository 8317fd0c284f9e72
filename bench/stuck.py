"""
Stuck readers: a thousand that never read while a hundred thousand events pass, and what others notice of them.

Two services of the same kind, side by side: with one of them a thousand streams are open of which nothing is read. Each
has the same events in turn, a stretch at a time, so that what disturbs the machine for long disturbs both; what the one
weighs more in the end, and how much later those who read are told, is because of the stuck ones.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from bench.figures import Bound, Figure, Section, figure, ratio
from bench.listeners import listening
from bench.publishing import Publisher, service, stream
from bench.rounds import fresh, publish
from bench.servers import token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.listeners import Audience, Delays
    from bench.servers import Server

_STUCK: Final = 1_000
_READERS: Final = 10
_EVENTS: Final = 100_000
STUCK: Final = f"{_STUCK:,} readers that never read, while {_EVENTS:,} events pass"
_AT_ONCE: Final = 100
_PER_S: Final = 20
_STRETCHES: Final = 10
_RECEIVE_BYTES: Final = 4_096
_MIB: Final = 1_024**2
_MORE: Final = Bound("at most", 30)
_LATER: Final = Bound("at most", 1.1)


def stuck(folder: Path, *, quick: bool) -> Section:
    """What those who never read cost in memory, and those who read in time."""
    with ExitStack() as stack:
        without = stack.enter_context(_place(folder, stuck_readers=0))
        beside = stack.enter_context(_place(folder, stuck_readers=_STUCK))
        delays: list[tuple[Delays, Delays]] = []
        for number in range(2 if quick else _STRETCHES):
            print(f"bench: {_STUCK:,} stuck readers, stretch {number + 1} …", file=sys.stderr, flush=True)
            # Who is first by turns: what one leaves behind for the other it has itself the next time.
            order = (without, beside) if number % 2 else (beside, without)
            found = {place: place.pass_by(_EVENTS // _STRETCHES) for place in order}
            delays.append((found[without], found[beside]))
        weights = [place.server.resident_bytes() / _MIB for place in (without, beside)]
        return Section("stuck", STUCK, _figures(delays, *weights))


def _figures(delays: list[tuple[Delays, Delays]], without_mib: float, beside_mib: float) -> list[Figure]:
    fair, hindered = ([each[number].p99_s * 1e3 for each in delays] for number in (0, 1))
    note = f"events {_AT_ONCE} at once, {_AT_ONCE * _PER_S:,} a second, to {_READERS} who read"
    return [
        figure("memory of the service without them", "MiB", values=[without_mib]),
        figure("how much more with them", "MiB", values=[beside_mib - without_mib], bound=_MORE),
        figure("p99 delay of those who read, without them", "ms", values=fair, note=note),
        figure("p99 delay of those who read, with them", "ms", values=hindered, note=note),
        ratio("p99 with them over p99 without", hindered, below=fair, bound=_LATER),
    ]


class _Place:
    """A service, a few who read, and who publishes."""

    def __init__(self, server: Server, audience: Audience, publisher: Publisher) -> None:
        self.server = server
        self._audience = audience
        self._publisher = publisher

    def pass_by(self, events: int) -> Delays:
        """So many *events* were published at a steady rate, and how long after each was heard."""
        self._audience.expect_timed(events)
        sent_s: list[float] = []
        began_s = time.monotonic()
        for number in range(events // _AT_ONCE):
            time.sleep(max(0.0, began_s + number / _PER_S - time.monotonic()))
            sent_s += [time.monotonic()] * _AT_ONCE
            self._publisher.send(_AT_ONCE)
            self._publisher.finish(_AT_ONCE)
        return self._audience.delays(sent_s)


@contextmanager
def _place(folder: Path, *, stuck_readers: int) -> Iterator[_Place]:
    mine = service()
    with (
        fresh(folder) as place,
        mine.start(place, _READERS) as server,
        ExitStack() as stack,
        listening(server.address, mine.opening(_READERS)) as audience,
        closing(Publisher(mine, server)) as publisher,
    ):
        for number in range(stuck_readers):
            stack.enter_context(closing(_stuck(server, number)))
        publish(audience, publisher, 1)
        yield _Place(server, audience, publisher)


def _stuck(server: Server, number: int) -> socket.socket:
    """A stream of which nothing is read, not even that it is open."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    connection.connect(server.address)
    connection.sendall(stream(token("service", f"stuck-{number}")))
    # It is open, and no more than that is asked: what opening many at once costs is no part of this.
    connection.recv(1, socket.MSG_PEEK)
    return connection
