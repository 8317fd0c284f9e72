"""
The streams: everything that a caller may see, live, as server-sent events, lines of JSON, or a long poll.

Here is who comes, in which form it is told, and how many may: what a connection is told is connection.py's. Nothing
queues up for a slow reader, since a connection pulls; one that takes no byte for the stall time is cut.

A bad cursor is never an HTTP error, since EventSource dies for good on any answer but 200: it is told in band.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from aiohttp import HttpVersion11, web
from msgspec import Raw

from jobsvc.domain.errors import AccessDenied, InvalidCommand, JobNotFound
from jobsvc.domain.ids import is_job_id
from jobsvc.feed import Scope
from jobsvc.framing import LINES, SSE, Frame
from jobsvc.http.call import respond
from jobsvc.http.connection import Connection, is_past_end
from jobsvc.http.told import tell_fault
from jobsvc.resource import encode
from jobsvc.shares import Shares
from jobsvc.telemetry import log

if TYPE_CHECKING:
    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Principal
    from jobsvc.feed import Feed, Reader
    from jobsvc.framing import EncodedChange, Framer
    from jobsvc.http.call import Call
    from jobsvc.http.connection import Told
    from jobsvc.http.revocations import Revocation, Revocations
    from jobsvc.ledger import Ledger
    from jobsvc.metrics import Metrics
    from jobsvc.settings import Settings
    from jobsvc.tokens import Bearer

HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_DISMISSED_AT_ONCE: Final = 64
_SPREAD_FROM: Final = 10_000
"""So many streams take half the drain window to be told; fewer take a part of it."""
_RETRY_MS: Final = (1_000, 3_000)
_RETRY_FAR_MS: Final = (10_000, 30_000)
_RETRY_SUPERSEDED_MS: Final = 300_000
_NOT_DUE: Final = frozenset({"hello", "ready", "hb"})
"""Frames for which a long poll does not come back."""


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
    ) -> None:
        self._feed = feed
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._revocations = revocations
        revocations.on_revoked.append(self._dismiss_revoked)
        self._open: dict[str, dict[Reader, Bearer]] = {}
        # The oldest of one principal gives way to the next, so there is no bound on each here.
        self._shares = Shares(
            each_max=settings.streams_total_max,
            guests_max=settings.streams_guests_max,
            total_max=settings.streams_total_max,
        )
        self._drain_ms = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False

    # Who comes

    async def of_caller(self, call: Call) -> web.StreamResponse:
        """``GET /api/stream``: everything that the caller may see; never ends by itself."""
        who = self._who(call)
        scope = Scope(owner=who.owner, kinds=self._kinds(call), job_ids=await self._jobs(call, who))
        return await self._serve(call, scope, single=None)

    async def of_job(self, call: Call, job: Job) -> web.StreamResponse:
        """``GET /api/jobs/{id}/events`` as a stream: of this job only; ends with the job."""
        who = self._who(call)
        scope = Scope(owner=who.owner, job_ids=frozenset({job.id}))
        if is_past_end(job, _cursor_text(call), self._feed):
            return web.Response(status=204)
        return await self._serve(call, scope, single=job.id)

    def _who(self, call: Call) -> Principal:
        owner = call.query("owner")
        if owner is None and call.principal.role == "service":
            return call.principal
        return call.acting(owner)

    def _kinds(self, call: Call) -> frozenset[str]:
        return frozenset(call.request.query.getall("kind", []))

    async def _jobs(self, call: Call, who: Principal) -> frozenset[str]:
        """The jobs that the query names, each of which there is and the caller may see."""
        named = call.request.query.getall("job", [])
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

    async def _serve(self, call: Call, scope: Scope, *, single: str | None) -> web.StreamResponse:
        wait_s = call.seconds("wait_s", most=self._settings.read_wait_max_s)
        if wait_s is not None:
            return await self._long_poll(call, scope, single, wait_s)
        framer: Framer = LINES if "application/x-ndjson" in call.request.headers.get("Accept", "") else SSE
        response = web.StreamResponse(headers=HEADERS | {"X-Request-Id": call.request_id})
        response.content_type = framer[0]
        if call.request.version >= HttpVersion11:
            # A proxy that speaks HTTP/1.0 knows no chunks; there the stream ends with its connection.
            response.enable_chunked_encoding()
        await response.prepare(call.request)
        if call.request.method == "HEAD":
            return response
        self._bound_buffer(call.request)
        self._metrics.streams_opened.labels("sse" if framer is SSE else "ndjson").inc()
        try:
            await self._tell(call, response, framer, await self._connect(call, scope, single))
        except TimeoutError:
            self._metrics.stalls.inc()
            _abort(call)
        except ConnectionError:
            pass  # the reader went away: nothing is left to be told
        except Exception as fault:  # noqa: BLE001  # the answer has begun: no problem can be told any more
            tell_fault(call, fault, route=None if single is None else "/api/jobs/{id}/events")
            _abort(call)
        return response

    async def _connect(self, call: Call, scope: Scope, single: str | None, *, until: float | None = None) -> Connection:
        """The connection, counted. Its job, if it is about one, is read in the turn in which it is registered."""
        return Connection(
            self._feed,
            self._ledger,
            self._settings,
            self._clock,
            scope=scope,
            single=None if single is None else await self._ledger.read_job(single),
            after=_cursor_text(call),
            expires_at=call.bearer.expires_at,
            retry_ms=self.retry_ms,
            loop=asyncio.get_running_loop(),
            until=until,
        )

    async def _tell(self, call: Call, response: web.StreamResponse, framer: Framer, connection: Connection) -> None:
        """Everything that the connection is told, written in slices that the reader is given time to take."""
        self.admit(call.bearer, connection)
        try:
            async for told in connection.frames():
                for content in self._slices(told, framer):
                    await self._write(call.request, response, content)
            await response.write_eof()
        finally:
            self.leave(call.principal, connection)
            connection.close()

    def _slices(self, told: Told, framer: Framer) -> list[bytes]:
        """*told* as bytes, in pieces of about 64 KiB: so long is the most that one wait for the reader is for."""
        slices: list[bytes] = []
        part: list[bytes] = []
        size = 0
        for frame in told:
            content = _bytes(frame, framer)
            part.append(content)
            size += len(content)
            if size >= self._settings.snapshot_part_bytes_max:
                slices.append(b"".join(part))
                part, size = [], 0
        return [*slices, b"".join(part)] if part else slices

    async def _write(self, request: web.BaseRequest, response: web.StreamResponse, content: bytes) -> None:
        """
        *content* handed to the transport, and the reader given time to take most of it.

        Raises:
            TimeoutError: It took nothing for the stall time.
        """
        async with asyncio.timeout(self._settings.stream_stall_s):
            await response.write(content)
            await request.writer.drain()

    def _bound_buffer(self, request: web.BaseRequest) -> None:
        """The transport buffers no more for this reader than the water marks say."""
        if request.transport is not None:
            high, low = self._settings.stream_buffer_high_bytes, self._settings.stream_buffer_low_bytes
            request.transport.set_write_buffer_limits(high=high, low=low)

    async def _long_poll(self, call: Call, scope: Scope, single: str | None, wait_s: float) -> web.Response:
        """The frames that are due within *wait_s*, at once if any is but hello, ready and hb."""
        until = asyncio.get_running_loop().time() + wait_s
        connection = await self._connect(call, scope, single, until=until)
        self.admit(call.bearer, connection)
        frames: list[dict[str, Any]] = []
        try:
            async for told in connection.frames():
                made = [frame if isinstance(frame, Frame) else frame.frame() for frame in told]
                frames += [{"event": frame.name, "id": frame.id, "data": Raw(frame.data)} for frame in made]
                # Not amid a snapshot: its cursor stands for all of its parts.
                # Nor before a farewell: whoever is not let in again could never ask for it.
                is_due = connection.follows and connection.reader.farewell is None
                if is_due and any(frame["event"] not in _NOT_DUE for frame in frames):
                    break
        finally:
            self.leave(call.principal, connection)
            connection.close()
        return respond(encode({"frames": frames, "cursor": connection.cursor}))

    # Bounds

    def admit(self, bearer: Bearer, connection: Connection) -> None:
        """*connection* is counted; the principal's oldest is told to go if it is one too many, itself if all are."""
        reader = connection.reader
        if connection.reset:
            self._metrics.resets.labels(connection.reset["reason"]).inc()
        if not self._shares.has_room(bearer.principal.actor):
            reader.dismiss("overload")
        if self.draining:
            reader.dismiss("drain")
        if self._revocations.covered_lately(bearer):
            # Between its proof and here.
            reader.dismiss("expired")
        readers = self._open.setdefault(bearer.principal.actor, {})
        readers[reader] = bearer
        self._shares.take(bearer.principal.actor)
        self._empty.clear()
        self._metrics.streams_open.inc()
        staying = [one for one in readers if one.farewell is None]
        for oldest in staying[: max(0, len(staying) - self._settings.streams_per_principal_max)]:
            oldest.dismiss("superseded")

    def leave(self, principal: Principal, connection: Connection) -> None:
        """*connection* is counted no more."""
        reader = connection.reader
        if reader.farewell is not None:
            self._metrics.byes.labels(reader.farewell).inc()
        readers = self._open.get(principal.actor)
        if readers is None or reader not in readers:
            return
        del readers[reader]
        self._shares.give(principal.actor)
        self._metrics.streams_open.dec()
        if not readers:
            del self._open[principal.actor]
        if not self._open:
            self._empty.set()

    def _dismiss_revoked(self, revocation: Revocation, farewell: str) -> None:
        """The streams of whoever *revocation* is about end with that farewell."""
        for readers in self._open.values():
            for reader, bearer in readers.items():
                if revocation.covers(bearer):
                    reader.dismiss(farewell)

    def __len__(self) -> int:
        return self._shares.total

    async def drain(self, window_s: float) -> None:
        """
        Every wait has ended, and every stream is told to come back later, each at a moment of its own.

        In random order, over half of *window_s*.
        """
        self.draining = True
        self._ledger.job_waiters.wake_all()
        self._ledger.worker_waiters.wake_all()
        self._drain_ms = int(window_s * 1000)
        readers = [reader for readers in self._open.values() for reader in readers]
        random.shuffle(readers)
        for first in range(0, len(readers), _DISMISSED_AT_ONCE):
            for reader in readers[first : first + _DISMISSED_AT_ONCE]:
                reader.dismiss("drain")
            await asyncio.sleep(window_s / 2 * _DISMISSED_AT_ONCE / max(len(readers), _SPREAD_FROM))
        try:
            async with asyncio.timeout(window_s):
                await self._empty.wait()
        except TimeoutError:
            log("stream.cut", count=len(self), reason="drain")

    def retry_ms(self, reason: str) -> int:
        """When one who is told to go for *reason* should be back: not all at once."""
        match reason:
            case "superseded":
                return _RETRY_SUPERSEDED_MS
            case "overload":
                return random.randint(*_RETRY_FAR_MS)  # noqa: S311  # spreads load, hides nothing
            case "drain":
                return random.randint(500, max(1_000, self._drain_ms))  # noqa: S311  # the same
            case _:
                return random.randint(*_RETRY_MS)  # noqa: S311  # the same


def _cursor_text(call: Call) -> str | None:
    return call.request.headers.get("Last-Event-ID") or call.query("after")


def _bytes(frame: Frame | EncodedChange, framer: Framer) -> bytes:
    if isinstance(frame, Frame):
        return framer[1](frame)
    return frame.sse() if framer is SSE else frame.line()


def _abort(call: Call) -> None:
    if call.request.transport is not None:
        call.request.transport.abort()
