"""
How soon others hear of a create: a claim that waits, and a stream that is open. From the request's last byte on.

One create at a time on an otherwise idle service; each delay holds a durable commit. Measured against the bare
handler's answer on one connection in the same run.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from bench.callers import Guest, Worker, creates
from bench.figures import Figure, figure, quantile
from bench.load import drive
from bench.servers import bare, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PATIENCE_S: Final = 10.0
_SETTLE_S: Final = 0.003
"""Long enough for a claim to have begun waiting; the create that follows is what is timed, so it hides nothing."""
_EMPTY_ANSWER: Final = {"job": None, "filler": "x" * 900}


def measure_delays(folder: Path, *, quick: bool) -> list[Figure]:
    """p50 and p99 of both, and of a create's own answer and the bare handler's."""
    rounds, samples = (3, 50) if quick else (5, 200)
    answer = folder / "delays.json"
    answer.write_text(json.dumps(_EMPTY_ANSWER), encoding="utf-8")
    found: dict[str, list[list[float]]] = {name: [] for name in _NAMES}
    with bare(answer) as bare_server, serving(folder / "delays.db") as server:
        for _ in range(rounds):
            found["bare"].append(_answers(bare_server.address, samples))
            found["create"].append(_answers(server.address, samples))
            found["claim"].append(_wake_ups(server.address, samples))
            found["stream"].append(_frames(server.address, samples))
    return [
        figure(f"{text}, {label}", "ms", values=[quantile(each, share) * 1e3 for each in found[name]])
        for name, text in _NAMES.items()
        for share, label in ((0.5, "p50"), (0.99, "p99"))
    ]


_NAMES: Final = {
    "bare": "bare POST to its answer",
    "create": "create to its answer",
    "claim": "create to the answer of a waiting claim",
    "stream": "create to its frame on an open stream",
}


def _answers(address: tuple[str, int], samples: int) -> list[float]:
    return drive(address, [creates(0, count=samples)], keep_waits=True).waits_s


def _wake_ups(address: tuple[str, int], samples: int) -> list[float]:
    guest, worker = Guest(0), Worker()
    with closing(_connect(address)) as asking, closing(_connect(address)) as waiting:
        _drain_claims(waiting, worker)

        def once() -> float:
            waiting.sendall(worker.claim(1, wait_s=_PATIENCE_S))
            time.sleep(_SETTLE_S)
            return _timed(asking, guest.create(), lambda: _until(waiting, b'"lease_token"'))

        return [once() for _ in range(samples)]


def _frames(address: tuple[str, int], samples: int) -> list[float]:
    guest = Guest(1)
    with closing(_connect(address)) as asking, closing(_connect(address)) as stream:
        stream.sendall(guest.stream())
        _until(stream, b"event: ready")
        return [_timed(asking, guest.create(), lambda: _until(stream, b"event: job")) for _ in range(samples)]


def _timed(asking: socket.socket, create: bytes, heard: Callable[[], None]) -> float:
    """How long after *create* was sent *heard* returned; its own answer is read afterwards."""
    asking.sendall(create)
    begun_at = time.perf_counter()
    heard()
    delay_s = time.perf_counter() - begun_at
    _until(asking, b'"links"')
    return delay_s


def _drain_claims(waiting: socket.socket, worker: Worker) -> None:
    """No job waits any more for a worker."""
    while True:
        waiting.sendall(worker.claim(500))
        head = waiting.recv(65_536)
        if b" 204 " in head.partition(b"\r\n")[0]:
            return
        if b"Content-Length" in head:
            _rest(waiting, head)


def _rest(connection: socket.socket, received: bytes) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(1_048_576)


def _until(connection: socket.socket, mark: bytes) -> None:
    received = b""
    while mark not in received:
        part = connection.recv(1_048_576)
        assert part, "the server closed a connection"
        received += part


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address, timeout=_PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
