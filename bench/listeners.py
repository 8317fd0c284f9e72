"""
Listeners: thousands of open streams in a process of their own, heard with as little as can be.

Raw sockets and epoll. What a stream says is the same for all, so that one of them, the *reference*, is searched for
frames, and of the others only the bytes are counted, which the kernel throws away uncopied (``MSG_TRUNC``, tcp(7));
at the end each must have had as many as the reference. When a frame came to a stream, its bytes by then say.
Nobody sleeps while an event is under way: on one machine who sends pays for waking who waits, which readers elsewhere
never cost it.
What the streams are of is not known here.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import time
from array import array
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct

from bench.figures import quantile
from bench.servers import LOAD_CORES, SERVER_CORES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

Came = TypeVar("Came", bytes, int)

_PATIENCE_S: Final = 60.0
SILENCE: Final = "BENCH_SILENCE_S"
"""Names how long nothing may be heard before it is a stall."""
_SILENCE_S: Final = float(os.environ.get(SILENCE, "30"))
_ANSWER_S: Final = 180.0
"""As long as something comes now and then; a slow one has its time."""
_GONE_S: Final = 5.0
_RECEIVE_BYTES: Final = 1_048_576
_OPENED_AT_ONCE: Final = 64
_SPINS: Final = 5_000 if LOAD_CORES != SERVER_CORES else 0
"""How often is looked before one sleeps amid an event, some 2 ms; a core that is shared is the servers'."""
_FRAME_ENDS: Final = (b"\n\n", b"\n\n\r\n")
"""Of a frame, and of one that is a chunk: what is left of an opening would be counted."""


class Stalled(Exception):
    """
    What was sent does not come: nothing has been heard for ``waited_s``, or the server ended a stream, which is 0.
    """

    def __init__(self, waited_s: float) -> None:
        super().__init__(waited_s)
        self.waited_s = waited_s


def told(waited_s: float) -> str:
    """What ``Stalled`` means, in words."""
    return f"nothing for {waited_s:g} s" if waited_s else "a stream was ended"


class Opening(Struct, frozen=True):
    """
    How a stream is asked for.

    Attributes:
        requests: One a stream.
        opened: What stands in the last frame that a stream says before it is open.
        mark: What stands once in each frame that counts.
    """

    requests: Sequence[bytes]
    opened: bytes
    mark: bytes


class Heard(Struct, frozen=True):
    """
    What was heard of some frames, by all streams.

    Attributes:
        at_s: When the last stream had the last of them, by the clock that all processes share.
        bytes: How many there were, on all streams.
        busy_s: How long the listening process had something to do.
    """

    at_s: float
    bytes: int
    busy_s: float


class Delays(Struct, frozen=True):
    """How long after it was sent for frames came, over all streams; ``busy_s`` as of `Heard`."""

    p50_s: float
    p99_s: float
    longest_s: float
    count: int
    busy_s: float


class Audience:
    """The listening process, as who measures sees it. One order at a time; after one that stalled there is no other."""

    def __init__(self, pipe: Connection, size: int) -> None:
        self._pipe = pipe
        self.size = size

    def expect(self, frames: int) -> None:
        """The next *frames* are listened for from now on; `heard` waits for them."""
        self._pipe.send(("count", frames))

    def heard(self) -> Heard:
        """What was heard, once every stream has had every frame."""
        answer = self._answer()
        assert isinstance(answer, Heard)
        return answer

    def expect_timed(self, frames: int) -> None:
        """As `expect`, but it is noted when each stream has each frame; `delays` waits for them."""
        self._pipe.send(("time", frames))

    def delays(self, sent_s: Sequence[float]) -> Delays:
        """How long after *sent_s*, one a frame, they came."""
        self._pipe.send(list(sent_s))
        answer = self._answer()
        assert isinstance(answer, Delays)
        return answer

    def _answer(self) -> object:
        return _received(self._pipe, _ANSWER_S)


@contextmanager
def listening(address: tuple[str, int], opening: Opening) -> Iterator[Audience]:
    """
    An audience whose streams are all open; closed when the block ends. Runs on the cores of who asks.

    Raises:
        Stalled: They do not open.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(theirs, address, opening), daemon=True)
    process.start()
    theirs.close()
    try:
        opened = _received(ours, _ANSWER_S)
        assert isinstance(opened, int)
        assert opened == len(opening.requests), opened
        yield Audience(ours, opened)
    finally:
        ours.close()
        process.join(timeout=_GONE_S)
        process.kill()


def _received(pipe: Connection, patience_s: float) -> object:
    """What the other process says; what it raises instead is raised here."""
    if not pipe.poll(patience_s):
        raise Stalled(patience_s)
    answer = pipe.recv()
    if isinstance(answer, Stalled):
        raise answer
    return answer


def _listen(pipe: Connection, address: tuple[str, int], opening: Opening) -> None:
    """The listening process: open, then do as told until nobody tells it anything any more."""
    with suppress(EOFError):
        try:
            _obey(pipe, address, opening)
        except Stalled as stall:
            pipe.send(stall)
        except TimeoutError:
            pipe.send(Stalled(_PATIENCE_S))
        except ConnectionError:
            pipe.send(Stalled(0))
        while True:
            # Whatever is still said to it comes too late, but has to go somewhere.
            pipe.recv()


def _obey(pipe: Connection, address: tuple[str, int], opening: Opening) -> None:
    streams = _opened(address, opening)
    ears = _Ears(streams, opening.mark)
    pipe.send(len(streams))
    while True:
        order, frames = pipe.recv()
        if order == "count":
            pipe.send(ears.count(frames))
        else:
            times = ears.time(frames)
            pipe.send(_delays(times, pipe.recv(), ears.busy_s))


def _opened(address: tuple[str, int], opening: Opening) -> list[socket.socket]:
    """Every stream, open, so many at a time."""
    streams: list[socket.socket] = []
    for first in range(0, len(opening.requests), _OPENED_AT_ONCE):
        some = []
        for request in opening.requests[first : first + _OPENED_AT_ONCE]:
            stream = socket.create_connection(address, timeout=_PATIENCE_S)
            stream.sendall(request)
            some.append(stream)
        for stream in some:
            received = b""
            while opening.opened not in received or not received.endswith(_FRAME_ENDS):
                part = stream.recv(65_536)
                received += _unless_ended(part)
            stream.setblocking(False)  # noqa: FBT003  # the socket's own signature
        streams += some
    return streams


def _unless_ended(received: Came) -> Came:
    """*received*, which is something: of a stream that has ended there is nothing, again and again."""
    if not received:
        raise Stalled(0)
    return received


class _Ears:
    """
    All streams of the process, and what they have said so far.

    Attributes:
        busy_s: For how much of the last listening there was something to do.
    """

    def __init__(self, streams: list[socket.socket], mark: bytes) -> None:
        self._streams = {stream.fileno(): stream for stream in streams}
        self._reference = streams[0].fileno()
        self._mark = mark
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._tail = b""
        self._epoll = select.epoll(len(streams))
        for descriptor in self._streams:
            self._epoll.register(descriptor, select.EPOLLIN)
        self.busy_s = 0.0

    def count(self, frames: int) -> Heard:
        """What was heard, once each stream had as many bytes as the reference has in *frames* of its own."""
        total, _ = self._hear(frames, None)
        return Heard(time.monotonic(), total, self.busy_s)

    def time(self, frames: int) -> list[array[float]]:
        """When each of *frames* came, on every stream; frame by frame."""
        parts = _Parts()
        _, ends = self._hear(frames, parts)
        return parts.times(ends)

    def _hear(self, frames: int, parts: _Parts | None) -> tuple[int, list[int]]:
        """How many bytes came with *frames*, on all streams, and behind how many bytes of a stream each mark ended."""
        clock, busy_s = time.perf_counter, 0.0
        had = dict.fromkeys(self._streams, 0)
        streams, buffer, truncate = self._streams, self._buffer, socket.MSG_TRUNC
        total, wanted = 0, -1
        ends: list[int] = []
        while total != wanted:
            ready = self._ready(amid=total != had[self._reference] * len(had))
            began_s = clock()
            for descriptor, _ in ready:
                if descriptor == self._reference:
                    size = self._search(had[descriptor], ends)
                else:
                    size = streams[descriptor].recv_into(buffer, _RECEIVE_BYTES, truncate)
                had[descriptor] += _unless_ended(size)
                total += size
                if parts is not None:
                    parts.note(descriptor, had[descriptor])
            if len(ends) == frames:
                wanted = had[self._reference] * len(had)
            busy_s += clock() - began_s
        assert len(set(had.values())) == 1, "not every stream had the same"
        self.busy_s = busy_s
        return total, ends

    def _ready(self, *, amid: bool) -> list[tuple[int, int]]:
        """Who has something to hear; for a while not slept for, *amid* an event that some have heard and some not."""
        for _ in range(_SPINS if amid else 0):
            if ready := self._epoll.poll(0):
                return ready
        ready = self._epoll.poll(_SILENCE_S)
        if not ready:
            raise Stalled(_SILENCE_S)
        return ready

    def _search(self, before: int, ends: list[int]) -> int:
        """
        How many bytes of the reference have come, with the ends of the marks in them added to *ends*.

        Those *before* have come already; a mark that was cut in two counts where its end comes.
        """
        size = self._streams[self._reference].recv_into(self._buffer)
        text, first, mark = self._tail + self._buffer[:size], before - len(self._tail), self._mark
        at = text.find(mark)
        while at >= 0:
            ends.append(first + at + len(mark))
            at = text.find(mark, at + len(mark))
        self._tail = bytes(text[max(0, len(text) - len(mark) + 1) :])
        return size


class _Parts:
    """What came when: on which stream, and how many bytes it had then."""

    def __init__(self) -> None:
        self._who = array("i")
        self._at_s = array("d")
        self._had = array("q")

    def note(self, descriptor: int, had: int) -> None:
        """Now *descriptor* has *had* so many bytes."""
        self._at_s.append(time.monotonic())
        self._who.append(descriptor)
        self._had.append(had)

    def times(self, ends: list[int]) -> list[array[float]]:
        """When each stream had as many bytes as each of *ends* says, one by one."""
        times = [array("d") for _ in ends]
        seen = dict.fromkeys(self._who, 0)
        for descriptor, at_s, had in zip(self._who, self._at_s, self._had, strict=True):
            while seen[descriptor] < len(ends) and ends[seen[descriptor]] <= had:
                times[seen[descriptor]].append(at_s)
                seen[descriptor] += 1
        return times


def _delays(times: list[array[float]], sent_s: list[float], busy_s: float) -> Delays:
    waits_s = [at_s - from_s for at, from_s in zip(times, sent_s, strict=True) for at_s in at]
    return Delays(quantile(waits_s, 0.5), quantile(waits_s, 0.99), max(waits_s), len(waits_s), busy_s)
