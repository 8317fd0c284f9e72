"""
The streams: everything that a caller may see, live, as server-sent events, lines of JSON, or a long poll.

One life of a connection for all three: hello, then a snapshot or a resume, then what happens, with a heartbeat when
nothing does. Only the framer differs. A connection pulls from the feed at its own pace and holds nothing but its place,
so nothing queues up for a slow one; one that takes no byte for the stall time is cut.

A bad cursor is never an HTTP error, since EventSource dies for good on any answer but 200: it is told in band.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from msgspec import Raw

from jobsvc.domain.errors import AccessDenied, InvalidCommand, JobNotFound
from jobsvc.domain.ids import is_job_id
from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.feed import Scope
from jobsvc.framing import LINES, SSE, Frame, parse_cursor
from jobsvc.http.edge import respond
from jobsvc.resource import encode, job_resource
from jobsvc.telemetry import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Principal
    from jobsvc.feed import Feed, Reader
    from jobsvc.framing import EncodedChange, Framer
    from jobsvc.http.edge import Call
    from jobsvc.ledger import Ledger
    from jobsvc.settings import Settings
    from jobsvc.telemetry import Metrics

HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
_CHANGES_PER_READ: Final = 256
_DISMISSED_AT_ONCE: Final = 64
_SPREAD_FROM: Final = 10_000
"""So many streams take half the drain window to be told; fewer take a part of it."""
_RETRY_MS: Final = (1_000, 3_000)
_RETRY_FAR_MS: Final = (10_000, 30_000)
_RETRY_SUPERSEDED_MS: Final = 300_000
_DUE_AT_ONCE: Final = frozenset({"hello", "ready", "hb"})
"""Frames for which a long poll does not come back."""


class Streams:
    """Every open stream of the service, by principal, with the bounds on how many there may be."""

    def __init__(self, feed: Feed, ledger: Ledger, settings: Settings, *, clock: Clock, metrics: Metrics) -> None:
        self._feed = feed
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._open: dict[str, dict[Reader, None]] = {}
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
        if _is_past_end(job, self._cursor_text(call), self._feed):
            return web.Response(status=204)
        return await self._serve(call, scope, single=job)

    def _who(self, call: Call) -> Principal:
        owner = call.query("owner")
        if owner is None and call.principal.role == "service":
            return call.principal
        return call.acting(owner)

    def _kinds(self, call: Call) -> frozenset[str]:
        return frozenset(call.request.query.getall("kind", []))

    async def _jobs(self, call: Call, who: Principal) -> frozenset[str]:
        """The jobs that the query names, each of which there is and the caller may see."""
        asked = frozenset(call.request.query.getall("job", []))
        if len(asked) > self._settings.stream_jobs_max:
            raise InvalidCommand(f"job stands at most {self._settings.stream_jobs_max} times", pointer="/job")
        for job_id in asked:
            if not is_job_id(job_id):
                raise JobNotFound
            job = await self._ledger.read_job(job_id)
            if who.role != "service" and not who.may_see(job.owner):
                raise AccessDenied
        return asked

    def _cursor_text(self, call: Call) -> str | None:
        return call.request.headers.get("Last-Event-ID") or call.query("after")

    # Serving

    async def _serve(self, call: Call, scope: Scope, *, single: Job | None) -> web.StreamResponse:
        wait_s = call.seconds("wait_s", most=self._settings.read_wait_max_s)
        if wait_s is not None:
            return await self._long_poll(call, scope, single, wait_s)
        framer: Framer = LINES if "application/x-ndjson" in call.request.headers.get("Accept", "") else SSE
        response = web.StreamResponse(headers=HEADERS)
        response.content_type, frame_bytes = framer
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        if call.request.method == "HEAD":
            return response
        self._bound_buffer(call.request)
        life = _Life(self, call, scope, single)
        self._metrics.streams_opened.labels("sse" if framer is SSE else "ndjson").inc()
        try:
            async for frames in life.frames():
                content = b"".join(_bytes(frame, frame_bytes, framer) for frame in frames)
                await self._write(call.request, response, content)
            await response.write_eof()
        except TimeoutError:
            self._metrics.stalls.inc()
            if call.request.transport is not None:
                call.request.transport.abort()
        except ConnectionError:
            pass  # the reader went away: nothing is left to be told
        finally:
            life.close()
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, content: bytes) -> None:
        """
        *content* handed to the transport, and the reader given time to take most of it.

        Raises:
            TimeoutError: It took nothing for the stall time.
        """
        async with asyncio.timeout(self._settings.stream_stall_s):
            await response.write(content)
            await request.writer.drain()

    def _bound_buffer(self, request: web.Request) -> None:
        """The transport buffers no more for this reader than the water marks say."""
        if request.transport is not None:
            high, low = self._settings.stream_buffer_high_bytes, self._settings.stream_buffer_low_bytes
            request.transport.set_write_buffer_limits(high=high, low=low)

    async def _long_poll(self, call: Call, scope: Scope, single: Job | None, wait_s: float) -> web.Response:
        """The frames that are due within *wait_s*, at once if any is but hello, ready and hb."""
        life = _Life(self, call, scope, single)
        frames: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(wait_s):
                async for batch in life.frames():
                    made = [frame if isinstance(frame, Frame) else frame.frame() for frame in batch]
                    frames += [{"event": f.name, "id": f.id, "data": Raw(f.data)} for f in made]
                    if life.is_live and any(f["event"] not in _DUE_AT_ONCE for f in frames):
                        break
        except TimeoutError:
            pass  # that nothing came is the answer
        finally:
            life.close()
        return respond(encode({"frames": frames, "cursor": life.cursor}))

    # Bounds

    def admit(self, principal: Principal, reader: Reader) -> None:
        """*reader* is counted; the principal's oldest is told to go if that is one too many, or itself if all are."""
        if sum(len(readers) for readers in self._open.values()) >= self._settings.streams_total_max:
            reader.dismiss("overload")
        if self.draining:
            reader.dismiss("drain")
        readers = self._open.setdefault(principal.actor, {})
        readers[reader] = None
        self._empty.clear()
        self._metrics.streams_open.inc()
        staying = [one for one in readers if one.farewell is None]
        for oldest in staying[: max(0, len(staying) - self._settings.streams_per_principal_max)]:
            oldest.dismiss("superseded")

    def leave(self, principal: Principal, reader: Reader) -> None:
        """*reader* is counted no more."""
        readers = self._open.get(principal.actor)
        if readers is None or reader not in readers:
            return
        del readers[reader]
        self._metrics.streams_open.dec()
        if not readers:
            del self._open[principal.actor]
        if not self._open:
            self._empty.set()

    def __len__(self) -> int:
        return sum(len(readers) for readers in self._open.values())

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


class _Life:
    """
    One connection from hello to bye: an iterator over batches of frames, and the place that it has reached.

    Attributes:
        cursor: From where a client goes on, had it seen every frame so far.
        is_live: The head was reached once.
    """

    def __init__(self, streams: Streams, call: Call, scope: Scope, single: Job | None) -> None:
        self._streams = streams
        self._feed = streams._feed  # noqa: SLF001  # a life is a part of the streams, in a class of its own
        self._settings = streams._settings  # noqa: SLF001  # the same
        self._call = call
        self._scope = scope
        self._single = single
        self._reader: Reader | None = None
        self.cursor = ""
        self.is_live = False

    def close(self) -> None:
        """The feed and the bounds forget the connection."""
        if self._reader is not None:
            self._feed.close(self._reader)
            self._streams.leave(self._call.principal, self._reader)

    async def frames(self) -> AsyncIterator[list[Frame | EncodedChange]]:
        """All that the connection is told, in batches that each fit one write."""
        reader, jobs, reset = self._register()
        yield self._hello(reader)
        if reset is not None:
            self._streams._metrics.resets.labels(reset["reason"]).inc()  # noqa: SLF001  # as above
            yield [Frame("reset", encode(reset))]
        if jobs is not None:
            for part in self._snapshot(jobs, reader.position):
                yield [part]
            if self._single is not None and not self._single.active:
                yield [self._ready(), *self._end(self._single)]
                return
        async for batch in self._follow(reader):
            yield batch

    def _register(self) -> tuple[Reader, list[Job] | None, dict[str, Any] | None]:
        """The reader at its place, the snapshot if it begins afresh, and why it could not resume. One loop turn."""
        text = self._streams._cursor_text(self._call)  # noqa: SLF001  # as above
        after, reason = self._resume_at(text)
        reader, jobs = self._feed.open(self._scope, after=after)
        self._reader = reader
        self._streams.admit(self._call.principal, reader)
        self.cursor = self._feed.cursor(reader.position)
        if after is not None:
            return reader, None, None
        if self._single is not None:
            jobs = [self._single]
        return reader, jobs, None if reason is None else {"reason": reason, "requested": (text or "")[:64]}

    def _resume_at(self, text: str | None) -> tuple[int | None, str | None]:
        """The position to resume after, or none and why not."""
        if text is None:
            return None, None
        cursor = parse_cursor(text)
        if cursor is None:
            return None, "malformed"
        if self._feed.cursor(cursor.position) != text:
            return None, "other-epoch"
        return (None, "future") if cursor.position > self._feed.position else (cursor.position, None)

    async def _follow(self, reader: Reader) -> AsyncIterator[list[Frame | EncodedChange]]:
        """What comes after the reader's place, for as long as the connection lasts."""
        while reader.farewell is None:
            changes = await reader.read(_CHANGES_PER_READ)
            self.cursor = self._feed.cursor(reader.place)
            ended = next((change for change in changes if self._ends_with(change)), None)
            batch: list[Frame | EncodedChange] = list(changes)
            if ended is not None:
                yield [*batch[: batch.index(ended) + 1], *self._end(ended.change.job)]
                return
            if reader.caught_up and not self.is_live:
                self.is_live = True
                batch.append(self._ready())
            if batch:
                yield batch
            elif reader.caught_up and not await self._wait(reader) and reader.caught_up:
                # Asked again: a change may come in the very turn in which the wait runs out, and the digest is of now.
                self.cursor = self._feed.cursor(reader.place)
                yield [self._heartbeat()]
        yield [self._bye(reader.farewell)]

    async def _wait(self, reader: Reader) -> bool:
        """True if there is something to say; False if it is time for a heartbeat. A credential that runs out is."""
        left_s = (self._expires_at() - self._streams._clock.now()) / SECOND_US  # noqa: SLF001  # as above
        if left_s <= 0:
            reader.dismiss("expired")
            return True
        heartbeat_s = self._settings.heartbeat_s
        woken = await reader.wait(min(heartbeat_s, left_s))
        return woken or left_s < heartbeat_s

    def _expires_at(self) -> int:
        credential = self._call.credential
        return 0 if credential is None else credential.bearer.expires_at

    def _ends_with(self, change: EncodedChange) -> bool:
        return self._single is not None and not change.change.job.active

    # Frames

    def _hello(self, reader: Reader) -> list[Frame | EncodedChange]:
        told = {
            "cursor": self._feed.cursor(reader.position),
            "heartbeat_s": self._settings.heartbeat_s,
            "server_time": rfc3339(self._streams._clock.now()),  # noqa: SLF001  # as above
        }
        return [Frame("hello", encode(told), retry_ms=self._streams.retry_ms("hello"))]

    def _snapshot(self, jobs: list[Job], position: int) -> Iterator[Frame]:
        """The jobs in parts of at most 64 KiB; the id stands on the last, so that a cut snapshot is asked for again."""
        cursor, room = self._feed.cursor(position), self._settings.snapshot_part_bytes_max
        part: list[Raw] = []
        size = _SNAPSHOT_OVERHEAD
        for job in jobs:
            told = encode(job_resource(job, lease_expires_at=self._lease(job), brief=True))
            if part and size + len(told) + 1 > room:
                yield Frame("snapshot", encode({"jobs": part, "cursor": cursor, "more": True}))
                part, size = [], _SNAPSHOT_OVERHEAD
            part.append(Raw(told))
            size += len(told) + 1
        yield Frame("snapshot", encode({"jobs": part, "cursor": cursor, "more": False}), id=cursor)

    def _lease(self, job: Job) -> int | None:
        return None if job.lease_us is None else self._streams._ledger.lease_expires_at(job.id)  # noqa: SLF001  # as above

    def _ready(self) -> Frame:
        return Frame("ready", encode({"cursor": self.cursor}), id=self.cursor)

    def _heartbeat(self) -> Frame:
        return Frame("hb", encode({"cursor": self.cursor, "digest": self._feed.digest(self._scope)}), id=self.cursor)

    def _end(self, job: Job) -> list[Frame | EncodedChange]:
        cursor = self._feed.cursor(max(job.position, self._reader.position if self._reader else 0))
        return [Frame("end", encode({"job": job_resource(job, brief=True)}), id=cursor)]

    def _bye(self, reason: str) -> Frame:
        self._streams._metrics.byes.labels(reason).inc()  # noqa: SLF001  # as above
        return Frame("bye", encode({"reason": reason}), retry_ms=self._streams.retry_ms(reason))


_SNAPSHOT_OVERHEAD: Final = 256


def _bytes(frame: Frame | EncodedChange, frame_bytes: Any, framer: Framer) -> bytes:  # noqa: ANN401  # (Frame) -> bytes
    if isinstance(frame, Frame):
        return frame_bytes(frame)  # type: ignore[no-any-return]
    return frame.sse() if framer is SSE else frame.line()


def _is_past_end(job: Job, cursor_text: str | None, feed: Feed) -> bool:
    """True if the job has ended and the cursor has seen it end."""
    if job.active or cursor_text is None:
        return False
    cursor = parse_cursor(cursor_text)
    return cursor is not None and feed.cursor(cursor.position) == cursor_text and job.position <= cursor.position
