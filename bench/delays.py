"""
How soon others hear of it: of a create a claim that waits, and a stream that is open; of a worker's death the next.

Creates come one at a time to an otherwise idle service, and count from the request's last byte on; each delay holds a
durable commit. Measured against the bare handler's answer on one connection in the same run. A worker is dead from its
last sign of life on: the answer by which it got its job, under a lease of a second.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from bench.callers import Guest, Worker, creates, granted
from bench.figures import Bound, Figure, figure, quantile
from bench.load import drive, request
from bench.servers import bare, serving, token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from bench.load import Caller

_PATIENCE_S: Final = 10.0
_SETTLE_S: Final = 0.003
"""Long enough for a claim to have begun waiting; the create that follows is what is timed, so it hides nothing."""
_LEASE_S: Final = 1
_RESCUE_MS: Final = Bound("at most", (_LEASE_S + 1) * 1e3)
"""What the service promises: a job is another's to claim within a second of the end of its lease."""
_DEATHS: Final = 50
_DEATHS_APART_S: Final = 0.005
"""So that all are dead before the first lease is over, and not all in one moment."""
_EMPTY_ANSWER: Final = {"job": None, "filler": "x" * 900}


def measure_delays(folder: Path, *, quick: bool) -> list[Figure]:
    """p50 and p99 of each, and the longest where one is promised; of an answer here and at the bare handler too."""
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
            found["death"].append(_deaths(server.address, _DEATHS))
    figures = [
        figure(f"{text}, {label}", "ms", values=[quantile(each, share) * 1e3 for each in found[name]])
        for name, text in _NAMES.items()
        for share, label in ((0.5, "p50"), (0.99, "p99"))
    ]
    longest_ms = [max(each) * 1e3 for each in found["death"]]
    return [*figures, figure(f"{_NAMES['death']}, longest", "ms", values=longest_ms, bound=_RESCUE_MS)]


_NAMES: Final = {
    "bare": "bare POST to its answer",
    "create": "create to its answer",
    "claim": "create to the answer of a waiting claim",
    "stream": "create to its frame on an open stream",
    "death": "worker's death to the job's next claim, lease 1 s",
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


def _deaths(address: tuple[str, int], count: int) -> list[float]:
    """Of *count* workers that died one after the other: how long until a claim that waited had the job."""
    died_at: dict[bytes, float] = {}
    found_at: dict[bytes, float] = {}
    drive(address, [_dying(count, died_at)])
    drive(address, [_rescuing(died_at.keys(), found_at)])
    return [found_at[job_id] - moment for job_id, moment in died_at.items()]


def _dying(count: int, died_at: dict[bytes, float]) -> Caller:
    """Workers that take a job each and are not heard of again."""
    for _ in range(count):
        yield request("POST", "/api/jobs", token=token("guest", "bench-mortal"), body=b'{"kind":"mortal"}')
    for _ in range(count):
        reply = yield _claim_mortal(max=1, lease_s=_LEASE_S)
        died_at |= {job_id: time.perf_counter() for job_id, _ in granted(reply)}
        time.sleep(_DEATHS_APART_S)


def _rescuing(job_ids: Collection[bytes], found_at: dict[bytes, float]) -> Caller:
    """A worker that lives and waits, until it has had all of *job_ids*."""
    while found_at.keys() != set(job_ids):
        reply = yield _claim_mortal(max=len(job_ids), lease_s=600, wait_s=_PATIENCE_S)
        found_at |= {job_id: time.perf_counter() for job_id, _ in granted(reply)}


def _claim_mortal(**asked: float) -> bytes:
    body = json.dumps({"kinds": ["mortal"], **asked}).encode()
    return request("POST", "/api/worker/claim", token=token("worker", "bench"), body=body)


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
