"""
Who is measured, and how each is told of events: this service by creates, the others by posts of the same frames.

A *contender* is a server that can be started, streams that can be opened on it, and events that can be published to all
of them. The service's events are jobs that are created, one by one or in a batch, each durable before anybody hears of
it; the others keep nothing.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench import nchan
from bench.callers import Guest
from bench.listeners import Opening, Stalled
from bench.load import request
from bench.servers import Server, listening, serving, token

_PATIENCE_S: Final = 60.0
_FAR_S: Final = "3600"
SETTINGS: Final = {
    "JOBSVC_HEARTBEAT_S": _FAR_S,
    "JOBSVC_STREAM_STALL_S": _FAR_S,
    "JOBSVC_STREAMS_TOTAL_MAX": "100000",
    "JOBSVC_STREAMS_GUESTS_MAX": "100000",
    "JOBSVC_CONNECTIONS_MAX": "100000",
    "JOBSVC_WRITES_PER_MINUTE_MAX": "0",
    "JOBSVC_ACTIVE_GUESTS_MAX": "100000000",
}
"""No heartbeats, so that only what was published is heard; every stream is let in, and every event."""


class Contender(Struct, frozen=True):
    """
    One who is measured.

    Attributes:
        name: As figures call it.
        start: Its server, on its core; given a folder and for how many streams.
        opening: How so many streams are opened.
        publish: What is sent for so many events.
        answers: How many answers that has.
    """

    name: str
    start: Callable[[Path, int], AbstractContextManager[Server]]
    opening: Callable[[int], Opening]
    publish: Callable[[int], bytes]
    answers: Callable[[int], int]


class Publisher:
    """
    The one connection over which events are published. What is not taken or answered in time raises `Stalled`.
    """

    def __init__(self, contender: Contender, server: Server) -> None:
        self._contender = contender
        self._line = socket.create_connection(server.address, timeout=_PATIENCE_S)
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, events: int) -> None:
        """So many *events* are on their way, all at once."""
        try:
            self._line.sendall(self._contender.publish(events))
        except TimeoutError:
            raise Stalled(_PATIENCE_S) from None

    def finish(self, events: int) -> None:
        """The server has answered that it took them."""
        received = b""
        for _ in range(self._contender.answers(events)):
            while (end := _end_of_answer(received)) is None:
                try:
                    part = self._line.recv(1_048_576)
                except TimeoutError:
                    raise Stalled(_PATIENCE_S) from None
                assert part, "the server closed a connection"
                received += part
            status = int(received[9:12])
            assert 200 <= status < 300, received[:300]
            received = received[end:]

    def close(self) -> None:
        """Nothing more is published."""
        self._line.close()


def _end_of_answer(received: bytes) -> int | None:
    head, found, _ = received.partition(b"\r\n\r\n")
    if not found:
        return None
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    end = len(head) + 4 + int(length or 0)
    return end if len(received) >= end else None


# --- This service --------------------------------------------------------------------------------------------------


def service(*, module: str = "jobsvc") -> Contender:
    """This service, with a watcher a stream, who sees all."""
    guest = Guest(0)

    def publish(events: int) -> bytes:
        return guest.create() if events == 1 else guest.create_many(events)

    def start(folder: Path, _: int) -> AbstractContextManager[Server]:
        return serving(folder / "streams.db", settings=SETTINGS, module=module)

    return Contender("jobsvc", start, _watchers, publish, answers=lambda _: 1)


def _watchers(streams: int) -> Opening:
    requests = [stream(token("service", f"watcher-{number}")) for number in range(streams)]
    return Opening(requests, b"event: ready", b"event: job\n")


def guests(streams: int) -> Opening:
    """So many streams of as many guests, each of whom sees its own jobs only."""
    requests = [stream(token("guest", f"bench-{number}")) for number in range(streams)]
    return Opening(requests, b"event: ready", b"event: job\n")


def stream(bearer: str) -> bytes:
    """The request for a stream."""
    return request("GET", "/api/stream", token=bearer)


def frame_data(folder: Path) -> bytes:
    """What stands in a ``job`` frame of a created job, as the service sends it."""
    with serving(folder / "frame.db") as server, closing(socket.create_connection(server.address)) as line:
        line.sendall(stream(token("service", "watcher")))
        received = b""
        while b"event: ready" not in received:
            received += line.recv(65_536)
        publisher = Publisher(service(), server)
        publisher.send(1)
        publisher.finish(1)
        publisher.close()
        received = b""
        while not received.endswith(b"\n\n\r\n"):
            received += line.recv(65_536)
    return received.partition(b"\ndata: ")[2].partition(b"\n")[0]


# --- The others ----------------------------------------------------------------------------------------------------


def rival(name: str, data: bytes) -> Contender:
    """One of bench/rivals.py, sending *data* in each event."""

    def start(_: Path, __: int) -> AbstractContextManager[Server]:
        return listening([sys.executable, "-m", "bench.rivals", name], {})

    def publish(events: int) -> bytes:
        return request("POST", "/publish", token="none", body=b"\n".join([data] * events))

    return Contender(name, start, partial(_plain, b"event: hello"), publish, answers=lambda _: 1)


def nginx(data: bytes) -> Contender:
    """nchan, sending *data* in each event; it takes one event a request."""
    head = (
        f"POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nX-EventSource-Event: job\r\nContent-Length: {len(data)}\r\n\r\n"
    )

    def start(folder: Path, streams: int) -> AbstractContextManager[Server]:
        return nchan.publishing(folder / "nchan", streams=streams)

    return Contender(
        "nchan",
        start,
        partial(_plain, b": hi"),
        publish=lambda events: (head.encode() + data) * events,
        answers=lambda events: events,
    )


def _plain(opened: bytes, streams: int) -> Opening:
    asked = b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    return Opening([asked] * streams, opened, b"event: job\n")
