"""
One connection to a stream, from hello to bye: what it is told, in which order, and how far it is.

The same life for server-sent events, lines of JSON and a long poll: hello, then a snapshot or a resume, then what
happens, with a heartbeat when nothing does. It pulls from the feed at its own pace and holds nothing but its place.
A cursor that cannot be served is told in band. What must never live here: bytes, sockets, or who may see what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Raw

from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.framing import Frame, parse_cursor
from jobsvc.resource import encode, job_resource

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator

    from jobsvc.clock import Clock
    from jobsvc.domain.job import Job
    from jobsvc.feed import Feed, Scope
    from jobsvc.framing import EncodedChange
    from jobsvc.ledger import Ledger
    from jobsvc.settings import Settings

Told = list["Frame | EncodedChange"]
"""Frames that belong together, in order."""

_CHANGES_PER_READ: Final = 256
_SNAPSHOT_OVERHEAD: Final = 256
_REQUESTED_CHARACTERS: Final = 64


class Connection:
    """
    A reader of the feed, and what it is told.

    Attributes:
        reader: Registered with the feed since the connection was made, and until ``close``.
        cursor: From where a client goes on, had it seen every frame so far.
        follows: What came before the connection has been told; now comes what happens.
        reset: Why it could not resume, if it asked to and could not.
    """

    def __init__(
        self,
        feed: Feed,
        ledger: Ledger,
        settings: Settings,
        clock: Clock,
        *,
        scope: Scope,
        single: Job | None,
        after: str | None,
        expires_at: int,
        retry_ms: Callable[[str], int],
        loop: asyncio.AbstractEventLoop,
        until: float | None = None,
    ) -> None:
        """
        The connection at its place, and the snapshot if it begins afresh: one loop turn, nothing can come between.

        Args:
            feed: Where it reads.
            ledger: Knows the leases.
            settings: The heartbeat and the size of a snapshot's parts.
            clock: For the server's time and the credential's end.
            scope: What it sees.
            single: The one job it is about, as it stands in this turn; None for a stream of many.
            after: The cursor to resume from, as it was sent; None for a fresh start.
            expires_at: When its credential runs out.
            retry_ms: By reason, when a client should be back.
            loop: Its time.
            until: When a long poll ends, on the loop's clock; None for a stream that lasts.
        """
        self._feed = feed
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._scope = scope
        self._single = single
        self._expires_at = expires_at
        self._retry_ms = retry_ms
        self._loop = loop
        self._until = until
        position, reason = self._resume_at(after)
        self.reader, jobs = feed.open(scope, after=position)
        self._jobs = None if position is not None else jobs if single is None else [single]
        self.cursor = feed.cursor(self.reader.position)
        self.follows = False
        self.reset = reason and {"reason": reason, "requested": _shown(after or "")}

    def close(self) -> None:
        """The feed forgets the connection."""
        self._feed.close(self.reader)

    async def frames(self) -> AsyncIterator[Told]:
        """All that the connection is told."""
        unwelcome = self.reader.farewell
        yield [self._hello()]
        if unwelcome is not None:
            # One too many: told to go before it has cost a snapshot.
            yield [self._bye(unwelcome)]
            return
        if self.reset:
            yield [Frame("reset", encode(self.reset))]
        if self._jobs is not None:
            for part in self._snapshot(self._jobs):
                yield [part]
        self.follows = True
        if self._single is not None and not self._single.active and self._jobs is not None:
            yield [self._ready(), self._end(self._single)]
            return
        async for told in self._follow():
            yield told

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

    async def _follow(self) -> AsyncIterator[Told]:
        """What comes after the reader's place, for as long as the connection lasts."""
        reader, was_live = self.reader, False
        while not reader.has_all_before_farewell:
            changes = await reader.read(_CHANGES_PER_READ)
            self.cursor = self._feed.cursor(reader.place)
            told: Told = list(changes)
            ended = next((place for place, change in enumerate(changes) if self._ends_with(change)), None)
            if ended is not None:
                yield [*told[: ended + 1], self._end(changes[ended].change.job)]
                return
            if reader.caught_up and not was_live:
                was_live = True
                told.append(self._ready())
            if told:
                yield told
            elif self._is_over():
                return
            elif reader.caught_up and not await self._wait() and (idle := self._idle()):
                yield idle
        yield [self._bye(reader.farewell or "")]

    def _idle(self) -> Told:
        """A heartbeat; none if a change came in the very turn in which the wait ran out, since its digest is of now."""
        if not self.reader.caught_up or self._is_over():
            return []
        self.cursor = self._feed.cursor(self.reader.place)
        return [self._heartbeat()]

    def _is_over(self) -> bool:
        """True for a long poll whose time has come."""
        return self._until is not None and self._loop.time() >= self._until

    async def _wait(self) -> bool:
        """True if there is something to say; False if it is time for a heartbeat. A credential that runs out is."""
        left_s = (self._expires_at - self._clock.now()) / SECOND_US
        if left_s <= 0:
            self.reader.dismiss("expired")
            return True
        wait_s = heartbeat_s = self._settings.heartbeat_s
        if self._until is not None:
            wait_s = min(wait_s, max(0, self._until - self._loop.time()))
        woken = await self.reader.wait(min(wait_s, left_s))
        return woken or left_s < heartbeat_s

    def _ends_with(self, change: EncodedChange) -> bool:
        return self._single is not None and not change.change.job.active

    # Frames

    def _hello(self) -> Frame:
        told = {
            "cursor": self._feed.cursor(self.reader.position),
            "heartbeat_s": self._settings.heartbeat_s,
            "server_time": rfc3339(self._clock.now()),
        }
        return Frame("hello", encode(told), retry_ms=self._retry_ms("hello"))

    def _snapshot(self, jobs: list[Job]) -> Iterator[Frame]:
        """The jobs in parts of at most 64 KiB; the id stands on the last, so that a cut snapshot is asked for again."""
        cursor, room = self.cursor, self._settings.snapshot_part_bytes_max
        part: list[Raw] = []
        size = _SNAPSHOT_OVERHEAD
        for job in jobs:
            lease_expires_at = self._ledger.lease_of(job)
            told = encode(job_resource(job, lease_expires_at=lease_expires_at, brief=True))
            if part and size + len(told) + 1 > room:
                yield Frame("snapshot", encode({"jobs": part, "cursor": cursor, "more": True}))
                part, size = [], _SNAPSHOT_OVERHEAD
            part.append(Raw(told))
            size += len(told) + 1
        yield Frame("snapshot", encode({"jobs": part, "cursor": cursor, "more": False}), id=cursor)

    def _ready(self) -> Frame:
        return Frame("ready", encode({"cursor": self.cursor}), id=self.cursor)

    def _heartbeat(self) -> Frame:
        return Frame("hb", encode({"cursor": self.cursor, "digest": self._feed.digest(self._scope)}), id=self.cursor)

    def _bye(self, reason: str) -> Frame:
        return Frame("bye", encode({"reason": reason}), retry_ms=self._retry_ms(reason))

    def _end(self, job: Job) -> Frame:
        cursor = self._feed.cursor(max(job.position, self.reader.position))
        return Frame("end", encode({"job": job_resource(job, brief=True)}), id=cursor)


def is_past_end(job: Job, after: str | None, feed: Feed) -> bool:
    """True if the job has ended and the cursor *after* has seen it end."""
    if job.ended_position is None or after is None:
        return False
    cursor = parse_cursor(after)
    return cursor is not None and feed.cursor(cursor.position) == after and job.ended_position <= cursor.position


def _shown(requested: str) -> str:
    """*requested* as it may stand in a frame, whatever bytes the header held."""
    return requested[:_REQUESTED_CHARACTERS].encode("ascii", "replace").decode("ascii")
