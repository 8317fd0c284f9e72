"""
One connection to a stream, from hello to bye: what it is told, in which order, and how far it is.

The same life for server-sent events, lines of JSON and a long poll; only form and sink differ. It is a state and a
position, driven from outside: by room to write, by news, by time. ``LIFE`` is the table of what is done in each state;
a slow reader stays where it is, and nothing is kept for it but its position. What comes before what happens is
beginning.py's. What must never live here: a task, a socket, or who may see what.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, Literal

from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.framing import Frame
from jobsvc.http.beginning import BEGUN
from jobsvc.resource import encode, job_resource
from jobsvc.telemetry import log_failure
from jobsvc.wheel import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.channel import Channel, Scope
    from jobsvc.domain.job import Job
    from jobsvc.framing import EncodedChange, Form
    from jobsvc.http.around import Around
    from jobsvc.http.sink import Sink
    from jobsvc.pieces import Piece
    from jobsvc.tokens import Bearer

State = Literal["opening", "snapshot", "catching_up", "reading", "live", "bye", "over"]
"""
Opening, in the snapshot, catching up from the ring, while a page of the store is read, live, about to go, gone.
One that has no room lags, whichever of the first five it is in.
"""

_LINGER_S: Final = 2.0
"""How long the last bytes of a connection that is over have to reach the reader."""
_SPREAD: Final = 0.2
"""Heartbeats come up to this part early, each at a time of its own, so that not all come at once after a burst."""


class Connection:
    """
    A member of a channel, and what it is told.

    Attributes:
        bearer: Whose it is, and until when.
        position: Everything in scope up to here was written.
        state: What it does next; see `State`.
        farewell: Why it is to go, once somebody decided that.
        slot: The wheel's.
    """

    __slots__ = (
        "_around",
        "_began_s",
        "_beginning",
        "_last_position",
        "_moving",
        "_sink",
        "_touched_s",
        "_untaken_before",
        "bearer",
        "channel",
        "farewell",
        "position",
        "slot",
        "state",
    )

    def __init__(
        self,
        around: Around,
        sink: Sink,
        form: Form,
        *,
        scope: Scope,
        single: Job | None,
        after: str | None,
        bearer: Bearer,
    ) -> None:
        """
        The connection at its place, and the snapshot if it begins afresh: one loop turn, nothing can come between.

        Args:
            around: What it shares with all others.
            sink: Where it writes.
            form: How.
            scope: What it sees.
            single: The one job it is about, as it stands in this turn; None for a stream of many.
            after: The cursor to resume from, as it was sent; None for a fresh start.
            bearer: Whose it is, and until when.
        """
        self._around = around
        self._sink = sink
        self._untaken_before = 0
        self._last_position = 0
        self._moving = False
        self.bearer = bearer
        self.farewell: str | None = None
        self.state: State = "opening"
        self.slot = UNSET
        self._began_s = self._touched_s = around.wheel.now_s()
        self.channel: Channel = around.feed.join(scope, form, self)
        self.position, self._beginning = around.begin(self.channel, single, after)
        self._set_timer()

    # What moves it

    def advance(self) -> None:
        """Everything that is due and that there is room for has been written."""
        if self._moving:
            return
        sink, self._moving = self._sink, True
        try:
            while sink.room and (step := LIFE[self.state]) is not None:
                self.state = step(self)
        except Exception as fault:  # noqa: BLE001  # the answer has begun: no problem can be told, and others go on
            self.fail(fault)
        self._moving = False
        self._note_full()

    def notice(self) -> None:
        """Something in scope was published; one that is not live comes to it in its own time."""
        if self.state != "live":
            return
        channel, sink = self.channel, self._sink
        fresh, quiet = channel.fresh, channel.quiet
        if fresh is None or quiet is None or self.position > quiet or self._moving or not sink.room:
            self._leave_live()
            self.advance()
            return
        # What the steps below come to for nearly everyone, at a part of their cost: a thousand are told at a time.
        self.position, self._touched_s = fresh.position, channel.fresh_s
        try:
            sink.write(fresh.content, news=True)
        except Exception as fault:  # noqa: BLE001  # as in advance
            self.fail(fault)
        self._note_full()

    def _note_full(self) -> None:
        if not self._sink.room:
            self._sink.full()

    def take(self, changes: Sequence[EncodedChange], reached: int) -> None:
        """A page of the log from its position up to *reached*; of what there is no room for only the place is kept."""
        if self.state != "reading":
            return
        bytes_max = self._around.settings.stream_buffer_high_bytes
        while self._sink.room and self.position < reached and self.state == "reading":
            piece = self.channel.joined(
                (one for one in changes if one.position > self.position), until=reached, bytes_max=bytes_max
            )
            self.state = self._tell(piece)
        if self.state == "reading":
            self.state = "catching_up"
        self.advance()

    def dismiss(self, reason: str) -> None:
        """It is to say bye, once it has told what was published until now. The first reason stands."""
        if self.farewell is not None or self.state == "over":
            return
        if self.state == "live":
            self._leave_live()
        self.send_away(reason)
        self.advance()

    def send_away(self, reason: str) -> None:
        """As ``dismiss``, for one that is moved for the first time after this."""
        self.farewell, self._last_position = reason, self._around.feed.position

    def fail(self, fault: Exception) -> None:
        """It is cut for *fault*, which is ours."""
        log_failure("stream.failed", fault)
        self.abort()

    def abort(self) -> None:
        """It is cut: what was not written never is."""
        self._leave()
        self._sink.abort()

    def lost(self) -> None:
        """The reader is gone, and with it the connection."""
        self._leave()
        self._around.wheel.drop(self)
        self._around.left(self)

    def on_time(self) -> None:
        """Whatever time brings: a credential that ran out, a reader that takes nothing, a heartbeat."""
        now_s = self._around.loop.time()
        if self.state == "over":
            self._sink.abort()
            return
        if self.bearer.expires_at <= self._around.clock.now():
            self.dismiss("expired")
        if not self._sink.room:
            self._check_stall(now_s)
        elif self.state == "live" and now_s >= self._touched_s + self._heartbeat_s * (1 - _SPREAD):
            self._beat()
        if self.slot == UNSET:
            self._set_timer()

    # The steps of its life

    def _hello(self) -> State:
        feed, now = self._around.feed, self._around.clock.now()
        told = {
            "cursor": feed.cursor(self.position),
            "heartbeat_s": self._heartbeat_s,
            "server_time": rfc3339(now),
        }
        self._say(Frame("hello", encode(told), retry_ms=self._around.retry_ms("hello")), news=False)
        if self._goes_at_once() or (self.farewell is not None and not self._beginning.is_placed):
            # Told to go before it has cost a snapshot; of what happened one that was claimed is told all the same.
            return "bye"
        if self.reset:
            self._say(Frame("reset", encode(self.reset)), news=True)
        return "catching_up" if self._beginning.is_placed else "snapshot"

    def _next_part(self) -> State:
        if self._goes_at_once():
            return "bye"
        part, single = self._beginning.next_part(), self._beginning.single
        if part is not None:
            self._write(part, news=True)
            return "snapshot"
        if single is None or single.active:
            return "catching_up"
        self._say_ready()
        return self._end(single)

    def _catch_up(self) -> State:
        """From the ring, a buffer full at a time; the store is asked below it."""
        if self.farewell is not None and self.position >= self._last_position:
            return "bye"
        if not self._around.feed.ring.reaches(self.position):
            return "bye" if self._goes_at_once() else self._read()
        around = self._around
        bytes_max, now_s = around.settings.stream_buffer_high_bytes, around.wheel.now_s()
        return self._tell(self.channel.piece(self.position, bytes_max=bytes_max, now_s=now_s))

    def _read(self) -> State:
        self._around.catching_up.ask(self)
        return "reading"

    def _tell(self, piece: Piece) -> State:
        self.position = piece.position
        if piece.content:
            self._write(piece.content, news=True)
        if piece.ended is not None:
            return self._end(piece.ended)
        if self.position < self._around.feed.position:
            return self.state
        if self.farewell is not None:
            return "bye"
        if not self.caught_up:
            self._say_ready()
        return "live"

    def _bye(self) -> State:
        reason = self.farewell or ""
        self._say(Frame("bye", encode({"reason": reason}), retry_ms=self._around.retry_ms(reason)), news=True)
        return self._finish()

    def _end(self, job: Job) -> State:
        cursor = self._around.feed.cursor(max(job.position, self.position))
        self._say(Frame("end", encode({"job": job_resource(job, brief=True)}), id=cursor), news=True)
        return self._finish()

    def _finish(self) -> State:
        self._leave()
        self._around.wheel.put(self, self._around.loop.time() + _LINGER_S)
        self._sink.finish()
        return "over"

    # Its place

    @property
    def reset(self) -> dict[str, str] | None:
        """Why it could not resume, if it asked to and could not; until it has caught up."""
        return self._beginning.reset

    @property
    def cursor(self) -> str | None:
        """From where a client goes on, had it seen every frame so far; None: afresh, it was not given its snapshot."""
        return self._around.feed.cursor(self.place) if self._beginning.is_placed else None

    @property
    def place(self) -> int:
        """The position from which a resume would miss nothing and repeat nothing."""
        if self.state == "live" and self.channel.quiet is None:
            return self._around.feed.position
        return self.position

    @property
    def age_s(self) -> float:
        """How long ago it began, to a tick of the wheel."""
        return self._around.wheel.since_s(self._began_s)

    @property
    def follows(self) -> bool:
        """What came before the connection has been told; now comes what happens."""
        return self.state not in {"opening", "snapshot"}

    @property
    def caught_up(self) -> bool:
        """``ready`` was said."""
        return self._beginning is BEGUN

    @property
    def standing(self) -> str:
        """The state as an operator is told it."""
        if self.state not in {"bye", "over"} and not self._sink.room:
            return "lagging"
        return "catching_up" if self.state == "reading" else self.state

    @property
    def buffered(self) -> int:
        """Bytes that were written and that the reader has not taken."""
        return self._sink.buffered

    def _leave_live(self) -> None:
        """A live connection has missed nothing up to where its channel was quiet, however old its last frame is."""
        quiet = self.channel.quiet
        self.position = self._around.feed.position if quiet is None else max(self.position, quiet)
        self.state = "catching_up"

    def _goes_at_once(self) -> bool:
        """True if it is told to go and nothing of what it has not seen is worth waiting for."""
        return self.farewell not in {None, "claimed"}

    def _leave(self) -> None:
        self.state = "over"
        self._beginning.drop()
        self._around.feed.leave(self.channel, self)

    # Time

    @property
    def _heartbeat_s(self) -> float:
        return self._around.settings.heartbeat_s

    def _set_timer(self) -> None:
        now_s = self._around.loop.time()
        wait_s = self._heartbeat_s * (1 - _SPREAD * random.random())  # noqa: S311  # spreads load, hides nothing
        # One without room may be long past its heartbeat, and is not to be asked at each tick if it has room now.
        idle_since_s = self._touched_s if self._sink.room else now_s
        due_s = min(idle_since_s + wait_s, now_s + self._around.settings.stream_stall_s / 4)
        left_s = (self.bearer.expires_at - self._around.clock.now()) / SECOND_US
        if self.farewell is None:
            due_s = min(due_s, now_s + left_s)
        self._around.wheel.put(self, max(now_s, due_s))

    def _check_stall(self, now_s: float) -> None:
        untaken = self._sink.untaken
        if untaken < self._untaken_before:
            self._touched_s = now_s
        self._untaken_before = untaken
        if now_s - self._touched_s >= self._around.settings.stream_stall_s:
            self._around.stalled(self)

    def _beat(self) -> None:
        """A heartbeat, unless a change is on its way, since its digest is of the newest commit."""
        digest = self.channel.digest()
        if self.channel.quiet is not None or digest is None:
            return
        self.position = self._around.feed.position
        cursor = self._around.feed.cursor(self.position)
        self._say(Frame("hb", encode({"cursor": cursor, "digest": digest}), id=cursor), news=False)

    # Frames

    def _say_ready(self) -> None:
        self._beginning = BEGUN
        cursor = self._around.feed.cursor(self.position)
        self._say(Frame("ready", encode({"cursor": cursor}), id=cursor), news=False)

    def _say(self, frame: Frame, *, news: bool) -> None:
        self._write(self._encoded(frame), news=news)

    def _encoded(self, frame: Frame) -> bytes:
        return self.channel.form.encode(frame)

    def _write(self, content: bytes, *, news: bool) -> None:
        self._touched_s = self._around.wheel.now_s()
        self._sink.write(content, news=news)


LIFE: Final[dict[State, Callable[[Connection], State] | None]] = {
    "opening": Connection._hello,  # noqa: SLF001  # the table of the class itself
    "snapshot": Connection._next_part,  # noqa: SLF001  # the same
    "catching_up": Connection._catch_up,  # noqa: SLF001  # the same
    "reading": None,
    "live": None,
    "bye": Connection._bye,  # noqa: SLF001  # the same
    "over": None,
}
"""
What is done in each state as long as there is room; each step says which state comes then. None: somebody else moves it
on: a page that was read, news, nobody.
"""
