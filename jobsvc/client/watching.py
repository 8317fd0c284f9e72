"""
Watching: how a stream is read, how far one is, and when to come back.

Bytes become frames, frames become what a caller is told, and the place remembers the cursor to go on from. Pure but for
the reading of bytes: who connects is caller.py's business.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from jobsvc.client.records import Change, Ended, Job, JobAnswer, Ready, Snapshot, Told

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    import aiohttp

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LONGEST_S: Final = 30.0
HEARTBEATS_MISSED: Final = 2.5
"""A stream that is silent for so many heartbeats is dead, whatever the connection says."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the stream: its event, its id (empty for none) and its JSON."""

    event: str
    id: str
    data: bytes
    retry_ms: int | None


class Backoff:
    """Pauses that grow, with full jitter, so that many clients do not come back at once."""

    def __init__(self, first_s: float = BACKOFF_FIRST_S, longest_s: float = BACKOFF_LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._turns = 0

    def next_s(self, asked_s: float | None = None) -> float:
        """The next pause: *asked_s* if the service asked for one, else random below a bound that doubles each time."""
        bound_s = min(self._first_s * 2.0 ** min(self._turns, 30), self._longest_s)
        self._turns += 1
        return asked_s if asked_s is not None else random.uniform(0, bound_s)  # noqa: S311  # nothing secret

    def reset(self) -> None:
        """It works again: the next pause is a short one."""
        self._turns = 0


class Place:
    """How far a watch is, and what it must know to go on. Pure: takes frames, tells what they mean."""

    def __init__(self, *, cursor: str | None) -> None:
        self.cursor = cursor
        self.over = False
        self.leaving = False
        self.silence_max_s = 60.0
        self._retry_s: float | None = None
        self._asked_s: float | None = None
        self._backoff = Backoff()
        self._parts: list[Job] = []
        self._versions: dict[str, int] | None = None

    def take(self, frame: Frame) -> list[Told]:
        """What *frame* tells the reader; the place is after it."""
        if frame.id:
            self.cursor = frame.id
        return self._read(frame)

    def _read(self, frame: Frame) -> list[Told]:
        match frame.event:
            case "hello":
                self._greeted(msgspec.json.decode(frame.data, type=_Hello), frame)
            case "snapshot":
                return self._snapshot(msgspec.json.decode(frame.data, type=_Part))
            case "job":
                return self._change(frame)
            case "ready":
                self._backoff.reset()
                return [Ready(cursor=frame.id or self.cursor or "")]
            case "hb":
                self._compare(msgspec.json.decode(frame.data, type=_Heartbeat))
            case "reset":
                self.cursor, self._versions, self._parts = None, None, []
            case "end":
                self.over = True
                return [Ended(job=msgspec.json.decode(frame.data, type=JobAnswer).job)]
            case "bye":
                self.leaving = True
                self._asked_s = None if frame.retry_ms is None else frame.retry_ms / 1000
            case _:
                pass  # A newer service may tell more.
        return []

    def _greeted(self, hello: _Hello, frame: Frame) -> None:
        self.leaving = False
        self._parts = []
        self.silence_max_s = HEARTBEATS_MISSED * hello.heartbeat_s
        self._retry_s = None if frame.retry_ms is None else frame.retry_ms / 1000

    def _snapshot(self, part: _Part) -> list[Told]:
        """Parts are put together: a cut in the middle leaves nothing half told."""
        self._parts.extend(part.jobs)
        if part.more:
            return []
        jobs, self._parts = tuple(self._parts), []
        self._versions = {job.id: job.version for job in jobs if job.active}
        return [Snapshot(jobs=jobs, cursor=part.cursor)]

    def _change(self, frame: Frame) -> list[Told]:
        body = msgspec.json.decode(frame.data, type=_ChangeBody)
        if self._versions is not None:
            if body.job.active:
                self._versions[body.job.id] = body.version
            else:
                self._versions.pop(body.job.id, None)
        change = Change(
            type=body.type,
            job=body.job,
            position=body.position,
            version=body.version,
            at=body.at,
            cursor=frame.id,
            data=body.data,
        )
        return [change]

    def _compare(self, heartbeat: _Heartbeat) -> None:
        """Leave and ask for a snapshot if what was told is not what the service has."""
        if self._versions is not None and heartbeat.digest and heartbeat.digest != digest(self._versions):
            self.cursor, self._versions, self.leaving, self._asked_s = None, None, True, 0.0

    def failed(self, asked_s: float | None) -> None:
        """The connection could not be made, or broke."""
        self._asked_s = asked_s

    def pause_s(self) -> float:
        """How long to wait before the next connection."""
        asked_s, self._asked_s = self._asked_s, None
        if asked_s is None and self._retry_s is not None:
            asked_s, self._retry_s = random.uniform(0, self._retry_s), None  # noqa: S311  # nothing secret
        return self._backoff.next_s(asked_s)


def digest(versions: Mapping[str, int]) -> str:
    """The digest of active jobs, by id and version, that a heartbeat carries: 8 hexadecimal digits."""
    total = 0
    for job_id, version in versions.items():
        total ^= _fnv1a_32(f"{job_id}:{version}".encode())
    return f"{total:08x}"


def _fnv1a_32(content: bytes) -> int:
    value = 0x811C9DC5
    for byte in content:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


class _Hello(Struct, frozen=True):
    heartbeat_s: float = 15.0


class _Part(Struct, frozen=True):
    jobs: tuple[Job, ...]
    cursor: str
    more: bool = False


class _Heartbeat(Struct, frozen=True):
    digest: str = ""


class _ChangeBody(Struct, frozen=True):
    type: str
    position: int
    version: int
    at: str
    job: Job
    data: Any = None


async def frames(content: aiohttp.StreamReader, place: Place) -> AsyncGenerator[Frame]:
    """
    The frames of a response, whole ones only.

    Raises:
        TimeoutError: Nothing came for too long; the connection is dead though nobody said so.
    """
    received = b""
    while True:
        async with asyncio.timeout(place.silence_max_s):
            chunk = await content.readany()
        if not chunk:
            return
        *blocks, received = (received + chunk).split(b"\n\n")
        for block in blocks:
            if (frame := _frame(block)) is not None:
                yield frame


def _frame(block: bytes) -> Frame | None:
    """The frame that *block* writes out, None for a comment."""
    fields = {"event": b"", "id": b"", "data": b"", "retry": b""}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if (known := name.decode("utf-8", "replace")) in fields:
            fields[known] = value.removeprefix(b" ")
    if not fields["event"]:
        return None
    retry_ms = int(fields["retry"]) if fields["retry"].isdigit() else None
    return Frame(fields["event"].decode(), fields["id"].decode(), fields["data"], retry_ms)
