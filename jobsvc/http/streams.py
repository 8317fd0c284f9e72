"""
The streams: everything that a caller may see, live, as server-sent events, lines of JSON, or a long poll.

Here is who comes, in which form it is told, and how many may: what a connection is told is connection.py's, and how it
reaches the reader wire.py's.

A bad cursor is never an HTTP error, since EventSource dies for good on any answer but 200: it is told in band.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web

from jobsvc.channel import Scope
from jobsvc.domain.errors import AccessDenied, InvalidCommand, JobNotFound
from jobsvc.domain.ids import is_job_id
from jobsvc.few import Few, each, has, with_one, without
from jobsvc.framing import LINES, LINES_UNCHUNKED, LONG_POLL, SSE, SSE_UNCHUNKED
from jobsvc.http.around import Around
from jobsvc.http.beginning import is_past_end
from jobsvc.http.call import respond
from jobsvc.http.catching_up import CatchingUp
from jobsvc.http.connection import Connection
from jobsvc.http.long_poll import LongPoll
from jobsvc.http.snapshots import Snapshots
from jobsvc.http.wire import Streamed, Wire, Written, cut, transport_of
from jobsvc.resource import encode
from jobsvc.shares import Shares
from jobsvc.slices import Slices
from jobsvc.telemetry import log, log_failure
from jobsvc.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Principal
    from jobsvc.feed import Feed
    from jobsvc.framing import Form
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.http.revocations import Revocation, Revocations
    from jobsvc.http.sink import Sink
    from jobsvc.http.wire import HandOver
    from jobsvc.ledger import Ledger
    from jobsvc.metrics import Metrics
    from jobsvc.settings import Settings

HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_ANY: Final[frozenset[str]] = frozenset()
"""The one for all: an empty set of its own would be a tenth of what an idle stream weighs."""
_DISMISSED_AT_ONCE: Final = 64
_SPREAD_FROM: Final = 10_000
"""So many streams take half the drain window to be told; fewer take a part of it."""
_RETRY_MS: Final = (1_000, 3_000)
_RETRY_FAR_MS: Final = (10_000, 30_000)
_RETRY_SUPERSEDED_MS: Final = 300_000
_TICKS_PER_HEARTBEAT: Final = 32
_PARTS_SHARE: Final = 8
"""What is kept of snapshots for several weighs at most this part of what the ring may."""


class Streams:
    """Every open stream of the service, by principal, with the bounds on how many there may be."""

    def __init__(
        self,
        feed: Feed,
        ledger: Ledger,
        settings: Settings,
        *,
        clock: Clock,
        metrics: Metrics,
        revocations: Revocations,
        hand_over: HandOver,
    ) -> None:
        self._feed = feed
        self._ledger = ledger
        self._settings = settings
        self._metrics = metrics
        self._revocations = revocations
        revocations.on_revoked.append(self._dismiss_revoked)
        self._hand_over = hand_over
        self._open: dict[str, Few[Connection]] = {}
        # The oldest of one principal gives way to the next, so there is no bound on each here.
        self._shares = Shares(
            each_max=settings.streams_total_max,
            guests_max=settings.streams_guests_max,
            total_max=settings.streams_total_max,
        )
        self._drain_ms = 0
        self._told_at_s = 0.0
        self._empty = asyncio.Event()
        self._empty.set()
        self._around = Around(
            feed,
            settings,
            clock,
            asyncio.get_running_loop(),
            Wheel(Slices(failed=_tell_fault), tick_s=min(0.25, settings.heartbeat_s / _TICKS_PER_HEARTBEAT)),
            Snapshots(
                feed,
                ledger,
                clock,
                part_bytes_max=settings.snapshot_part_bytes_max,
                shared_bytes_max=settings.ring_bytes_max // _PARTS_SHARE,
            ),
            CatchingUp(feed, at_once_max=settings.catching_up_at_once_max),
            retry_ms=self.retry_ms,
            left=self._leave,
            stalled=self._cut,
        )
        self.written = Written()
        self.draining = False

    # Who comes

    async def of_caller(self, call: Call) -> Response:
        """``GET /api/stream``: everything that the caller may see; never ends by itself."""
        who = self._who(call)
        scope = Scope(owner=who.owner, kinds=self._kinds(call), job_ids=await self._jobs(call, who))
        return await self._serve(call, scope, single=None)

    async def of_job(self, call: Call, job: Job) -> Response:
        """``GET /api/jobs/{id}/events`` as a stream: of this job only; ends with the job."""
        who = self._who(call)
        scope = Scope(owner=who.owner, job_ids=frozenset({job.id}), ends=True)
        if is_past_end(job, _cursor_text(call), self._feed):
            return web.Response(status=204)
        return await self._serve(call, scope, single=job.id)

    def _who(self, call: Call) -> Principal:
        owner = call.query("owner")
        if owner is None and call.principal.role == "service":
            return call.principal
        return call.acting(owner)

    def _kinds(self, call: Call) -> frozenset[str]:
        return frozenset(named) if (named := call.request.query.getall("kind", ())) else _ANY

    async def _jobs(self, call: Call, who: Principal) -> frozenset[str]:
        """The jobs that the query names, each of which there is and the caller may see."""
        named = call.request.query.getall("job", ())
        if not named:
            return _ANY
        if len(named) > self._settings.stream_jobs_max:
            raise InvalidCommand(f"job stands at most {self._settings.stream_jobs_max} times", pointer="/job")
        sees_all = who.role == "service" and who.owner is None
        for job_id in (asked := frozenset(named)):
            if not is_job_id(job_id):
                raise JobNotFound
            job = await self._ledger.read_job(job_id)
            if not (sees_all or who.may_see(job.owner)):
                raise AccessDenied
        return asked

    # Serving

    async def _serve(self, call: Call, scope: Scope, *, single: str | None) -> Response:
        wait_s = call.seconds("wait_s", most=self._settings.read_wait_max_s)
        if wait_s is not None:
            return await self._long_poll(call, scope, single, wait_s)
        form = _form_of(call)
        # A body means nothing here, but it must have come before the transport is another's; too large a one is a 413.
        await call.wait_for_body()
        response = Streamed(headers=HEADERS | {"X-Request-Id": call.request_id})
        response.content_type = form.content_type
        if form.chunked:
            response.enable_chunked_encoding()
        await response.prepare(call.request.aiohttp)
        if call.request.method == "HEAD":
            return response
        try:
            job = None if single is None else await self._ledger.read_job(single)
        except Exception:
            # The answer has begun, and no other can follow it.
            cut(call.request.aiohttp)
            raise
        self._hand_over.leave(call.request.aiohttp, response, self._begin(call, form, scope=scope, single=job))
        return response

    def _begin(self, call: Call, form: Form, *, scope: Scope, single: Job | None) -> Wire:
        """The connection has the transport, and wrote what there was room for: no await, so that neither is alone."""
        transport = transport_of(call.request.aiohttp)
        wire = Wire(self.written, chunked=form.chunked)
        wire.connection = connection = self._connect(call, wire, form, scope=scope, single=single)
        self._admit(connection)
        high, low = self._settings.stream_buffer_high_bytes, self._settings.stream_buffer_low_bytes
        wire.begin(transport, high=high, low=low, kernel=self._settings.stream_kernel_bytes)
        connection.advance()
        return wire

    def _connect(self, call: Call, sink: Sink, form: Form, *, scope: Scope, single: Job | None) -> Connection:
        """The connection at its place; its job, if it is about one, was read in this turn."""
        return Connection(
            self._around,
            sink,
            form,
            scope=scope,
            single=single,
            after=_cursor_text(call),
            bearer=call.bearer,
        )

    async def _long_poll(self, call: Call, scope: Scope, single: str | None, wait_s: float) -> Response:
        """The frames that are due within *wait_s*, at once if any is but hello, ready and hb."""
        poll = LongPoll(bytes_max=self._settings.snapshot_part_bytes_max)
        job = None if single is None else await self._ledger.read_job(single)
        poll.connection = connection = self._connect(call, poll, LONG_POLL, scope=scope, single=job)
        try:
            self._admit(connection)
            connection.advance()
            await poll.wait(wait_s)
            return respond(b'{"frames":[%b],"cursor":%b}' % (poll.content, encode(connection.cursor)))
        finally:
            connection.lost()

    # Bounds

    def _admit(self, connection: Connection) -> None:
        """*connection* is counted; the principal's oldest is told to go if it is one too many, itself if all are."""
        self._metrics.streams_opened.labels(connection.channel.form.transport).inc()
        if connection.reset:
            self._metrics.resets.labels(connection.reset["reason"]).inc()
        who = connection.bearer.principal.actor
        # It may have been revoked, or claimed, between its proof and here.
        farewell = self._revocations.farewell_of(connection.bearer)
        if farewell is None and self.draining:
            farewell = "drain"
        if farewell is not None or not self._shares.take_if_room(who):
            # It counts until it has gone.
            self._shares.take(who)
            connection.send_away(farewell or "overload")
        theirs = self._open[who] = with_one(self._open.get(who), connection)
        self._empty.clear()
        self._metrics.streams_open.inc()
        staying = [one for one in each(theirs) if one.farewell is None]
        for oldest in staying[: max(0, len(staying) - self._settings.streams_per_principal_max)]:
            oldest.dismiss("superseded")

    def _leave(self, connection: Connection) -> None:
        """*connection* is counted no more."""
        who = connection.bearer.principal.actor
        theirs = self._open.get(who)
        if not has(theirs, connection):
            return
        if connection.farewell is not None:
            self._metrics.byes.labels(connection.farewell).inc()
        self._shares.give(who)
        self._metrics.streams_open.dec()
        left = without(theirs, connection)
        if left is None:
            del self._open[who]
        else:
            self._open[who] = left
        if not self._open:
            self._empty.set()

    def _cut(self, connection: Connection) -> None:
        """*connection* is cut: nobody reads it."""
        self._metrics.stalls.inc()
        connection.abort()

    def __len__(self) -> int:
        return self._shares.total

    def _dismiss_revoked(self, revocation: Revocation, farewell: str) -> None:
        """The streams of whoever *revocation* is about end with that farewell."""
        # Every claim of a guest comes by here: not past everybody's streams, unless it may be anybody's token.
        theirs = self.connections if revocation.is_of_one_token else each(self._open.get(revocation.whose))
        for connection in theirs:
            if revocation.covers(connection.bearer):
                connection.dismiss(farewell)

    @property
    def connections(self) -> list[Connection]:
        """Every open stream, those of one principal together."""
        return [connection for theirs in self._open.values() for connection in each(theirs)]

    @property
    def lag_max(self) -> int:
        """
        How many events of the log the stream furthest behind has yet to be told of, whosever they are.

        Cost: a pass over the open streams, below 0.1 µs each where nothing happens to them.
        """
        lowest = head = self._feed.position
        for theirs in self._open.values():
            some: Iterable[Connection] = theirs if isinstance(theirs, dict) else (theirs,)  # type: ignore[assignment]
            for one in some:
                # Nearly all are where there is nothing to tell: neither a list nor a call for them.
                if one.state != "live" or one.channel.quiet is not None:
                    lowest = min(lowest, one.place)
        return head - lowest

    @property
    def freed(self) -> int:
        """How many of them are connections that aiohttp knows nothing of any more."""
        return self._hand_over.freed

    @property
    def pages(self) -> int:
        """How many pages of the log were read for streams that were further back than the ring."""
        return self._around.catching_up.pages

    async def drain(self, window_s: float) -> None:
        """
        Every wait has ended, and every stream is told to come back later, each at a moment of its own.

        In random order, over half of *window_s*; one that takes nothing until its end is cut.
        """
        self.draining = True
        self._ledger.job_waiters.wake_all()
        self._ledger.worker_waiters.wake_all()
        self._drain_ms = int(window_s * 1000)
        connections = self.connections
        spread_s = window_s / 2 * min(1.0, len(connections) / _SPREAD_FROM)
        self._told_at_s = self._around.loop.time() + spread_s
        random.shuffle(connections)
        for first in range(0, len(connections), _DISMISSED_AT_ONCE):
            for connection in connections[first : first + _DISMISSED_AT_ONCE]:
                connection.dismiss("drain")
            await asyncio.sleep(spread_s * _DISMISSED_AT_ONCE / len(connections))
        try:
            async with asyncio.timeout(window_s):
                await self._empty.wait()
        except TimeoutError:
            log("stream.cut", count=len(self), reason="drain")
        await self.stop()

    async def stop(self) -> None:
        """No stream is left, nor anything that works for one."""
        for connection in self.connections:
            connection.abort()
        self._around.wheel.stop()
        await self._around.catching_up.stop()

    def retry_ms(self, reason: str) -> int:
        """When one who is told to go for *reason* should be back: not all at once."""
        match reason:
            case "superseded":
                return _RETRY_SUPERSEDED_MS
            case "overload":
                return random.randint(*_RETRY_FAR_MS)  # noqa: S311  # spreads load, hides nothing
            case "drain":
                # Whoever came back while others are still being told would be sent away again.
                left_ms = max(0, int(1_000 * (self._told_at_s - self._around.loop.time())))
                return left_ms + random.randint(500, max(1_000, self._drain_ms))  # noqa: S311  # the same
            case _:
                return random.randint(*_RETRY_MS)  # noqa: S311  # the same


def _cursor_text(call: Call) -> str | None:
    return call.request.headers.get("Last-Event-ID") or call.query("after")


def _form_of(call: Call) -> Form:
    """The form that the request asks for; chunks are not for HTTP/1.0."""
    chunked = call.request.aiohttp.version >= HttpVersion11
    if "application/x-ndjson" in call.request.headers.get("Accept", ""):
        return LINES if chunked else LINES_UNCHUNKED
    return SSE if chunked else SSE_UNCHUNKED


def _tell_fault(fault: Exception) -> None:
    log_failure("stream.failed", fault)
