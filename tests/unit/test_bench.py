"""
What the benchmark of streams does when one of those that it measures stands still.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from bench import listeners
from bench.figures import Bound, Section, figure, ratio
from bench.listeners import Opening
from bench.publishing import Contender
from bench.report import _section
from bench.rounds import round_of, stalls
from bench.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SILENCE_S = 0.3
OPENED = b"HTTP/1.1 200 OK\r\n\r\nevent: hello\n\n"
REQUESTS = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(3)]
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


@contextmanager
def mute(_: Path, __: int) -> Iterator[Server]:
    """
    A server that opens every stream, takes every event, and tells nobody of any.
    """
    with _serving(lambda _: False) as server:
        yield server


@contextmanager
def _serving(ends: Callable[[int], bool]) -> Iterator[Server]:
    """
    The same, which ends those streams of whose number *ends* is true as soon as it has taken an event.
    """
    streams: dict[int, socket.socket] = {}
    answering: list[threading.Thread] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            answering.append(threading.Thread(target=answer, args=(client,)))
            answering[-1].start()

    def answer(client: socket.socket) -> None:
        with client, suppress(ConnectionError):
            while received := client.recv(65_536):
                if received.startswith(b"GET"):
                    streams[int(received[5:6])] = client
                    client.sendall(OPENED)
                    continue
                client.sendall(TAKEN)
                for number, stream in streams.items():
                    if ends(number):
                        stream.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        accepting = threading.Thread(target=serve, args=(listening,))
        accepting.start()
        yield Server(os.getpid(), host, port)
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for each in answering:
        each.join()


@pytest.mark.parametrize("ended", [0, 2])
def test_one_that_ends_a_stream_is_a_missing_figure_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: int
) -> None:
    """
    Whether it is the stream that is listened to or one whose bytes are counted: nothing comes of it any more.
    """
    monkeypatch.setenv(listeners.SILENCE, "60")
    opening = Opening(REQUESTS, b"event: hello", b"event: job\n")
    contender = Contender(
        "ends",
        lambda _, __: _serving(lambda number: number == ended),
        lambda _: opening,
        lambda _: b"POST /publish HTTP/1.1\r\n\r\n",
        lambda _: 1,
    )

    one = round_of(contender, tmp_path, 3)

    assert ({}, {}, 0) == (one.ways, one.steady, one.stalled_s)
    assert "stalled in 1 of 1 rounds: a stream was ended" == stalls([one], came_so_far=lambda _: False)


def test_one_that_stalls_is_a_missing_figure_and_not_the_end_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its round comes back with what there is, and says for how long nothing was heard; a bound on it is not kept.
    """
    monkeypatch.setenv(listeners.SILENCE, str(SILENCE_S))
    opening = Opening(REQUESTS, b"event: hello", b"event: job\n")
    contender = Contender("mute", mute, lambda _: opening, lambda _: b"POST /publish HTTP/1.1\r\n\r\n", lambda _: 1)

    one = round_of(contender, tmp_path, 3)

    assert ({}, {}, SILENCE_S) == (one.ways, one.steady, one.stalled_s)
    note = stalls([one], came_so_far=lambda each: bool(each.steady))
    assert "stalled in 1 of 1 rounds: nothing for 0.3 s" == note
    bound = Bound("at least", 3)
    missing, held = figure("rate", "1/s", values=[None], note=note), ratio("ratio", [2.0], below=[None], bound=bound)
    assert not bound.kept_by(held.value)
    table = _section(Section("s", "Title", [missing, held]))
    assert "| rate | not measured |  |  | stalled in 1 of 1 rounds: nothing for 0.3 s |" in table
    assert "| ratio | not measured |  | at least 3: **missed** |  |" in table
    assert "Rounds: none." in table
