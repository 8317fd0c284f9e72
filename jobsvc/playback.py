"""
Playback: a recorded log served as if it happened now, at a pace of one's own, so that an incident can be watched again.

A store that shows the recording up to where the playback has come, and the player that moves it on and has the ledger
take in what was recorded, as if another writer had appended it; from there on it is the service's own feed, streams and
reads. Nothing can be written, nothing comes due, and the recording stays as it is. A playback has an epoch of its own:
a cursor of the log, or of another playback, gets a reset.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from typing import TYPE_CHECKING, Final, NoReturn

from msgspec.structs import replace

from jobsvc.app import link_code, running, serving
from jobsvc.http.problems import MethodNotAllowed
from jobsvc.http.routes import ROUTES
from jobsvc.lines import tell_loop_faults
from jobsvc.memory import INLINE
from jobsvc.store.chain import GENESIS
from jobsvc.store.codec import read_record
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Head, Needs, Opening
from jobsvc.store.sqlite import SqliteStore
from projections.folding import Rows, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jobsvc.domain.events import Event, EventType
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.http.call import Call
    from jobsvc.http.edge import Route
    from jobsvc.ledger import Ledger
    from jobsvc.settings import Settings
    from jobsvc.store.seam import Found, HistoryQuery, HistoryRow, Record

_EVENTS_PER_STEP: Final = 200
_WRITES_NOTHING: Final = frozenset({"/api/sessions/guest", "/api/sessions/link", "/api/stream/tickets"})
"""What is asked for with POST and leaves no trace in the log."""


class Recording(SqliteStore):
    """
    A log that only reads, as it was when it had come to a position; it comes further by ``advance`` alone.
    """

    def __init__(self, path: Path, *, begin: int, until: int) -> None:
        """
        It is not open yet.

        Args:
            path: The log's file; a service may hold it.
            begin: The position that it stands at when it is opened.
            until: The position that it ends at.
        """
        super().__init__(path, read_only=True)
        self._begin = begin
        self._until = until
        self._shown = Head(0, GENESIS, 0, secrets.token_hex(8))

    async def open(self) -> Opening:
        """
        It is as it was at its beginning, under an epoch of its own.
        """
        await self.open_as_is()
        views: dict[str, Rows] = {projection.name: {} for projection in INLINE}
        while records := await self.upcoming(min(ROWS_PER_PAGE_MAX, self._begin - self._shown.position)):
            self.advance(records[-1])
            events = [read_record(record) for record in records]
            for projection in INLINE:
                take(projection, views[projection.name], events)
        return Opening(self._shown, list(views["active"].values()), views["keys"])

    async def upcoming(self, limit: int) -> Sequence[Record]:
        """
        Up to *limit* events that come next; none at the end.
        """
        if limit < 1:
            return []
        records = await super().read_records(after=self._shown.position, limit=limit)
        return [record for record in records if record.position <= self._until]

    def advance(self, record: Record) -> None:
        """
        It has come to *record*.
        """
        self._shown = Head(record.position, record.chain, record.at, self._shown.epoch)

    async def announce(self, where: bytes) -> None:
        """
        Nobody holds the file because of this.
        """

    async def read_head(self) -> Head:
        """
        Where it has come.
        """
        return self._shown

    async def look_up(self, needs: Needs) -> Found:
        """
        Only who may come in is asked for here.
        """
        return await super().look_up(Needs(marks=needs.marks))

    async def read_events(
        self,
        *,
        after: int,
        limit: int,
        owner: str | None = None,
        job_id: JobId | None = None,
        until: int | None = None,
        archived: bool = True,
    ) -> Sequence[Event]:
        """
        As the log has them, up to where it has come.
        """
        shown = self._clamped(until)
        return await super().read_events(
            after=after, limit=limit, owner=owner, job_id=job_id, until=shown, archived=archived
        )

    async def read_records(
        self, *, after: int, limit: int, job_id: JobId | None = None, type: EventType | None = None
    ) -> Sequence[Record]:
        """
        The same, byte for byte.
        """
        records = await super().read_records(after=after, limit=limit, job_id=job_id, type=type)
        return [record for record in records if record.position <= self._shown.position]

    async def read_jobs(self, versions: Mapping[JobId, int | None], *, until: int | None = None) -> Mapping[JobId, Job]:
        """
        Each job as it stood then.
        """
        return await super().read_jobs(versions, until=self._clamped(until))

    async def read_history(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """
        The jobs that had ended by then.
        """
        rows = await super().read_history(query)
        return [row for row in rows if row.finished_at is not None and row.finished_at <= self._shown.at]

    def _clamped(self, until: int | None) -> int:
        return self._shown.position if until is None else min(until, self._shown.position)


async def play(ledger: Ledger, recording: Recording, *, speed: float) -> int:
    """
    The position at which the recording ended: until then *ledger* took in event after event, *speed* times as fast.
    """
    loop = asyncio.get_running_loop()
    begun_s, first_at = loop.time(), None
    while records := await recording.upcoming(_EVENTS_PER_STEP):
        first_at = records[0].at if first_at is None else first_at
        due_s = [begun_s + (record.at - first_at) / 1e6 / speed for record in records]
        await asyncio.sleep(max(0.0, due_s[0] - loop.time()))
        now_s = loop.time()
        due = [record for record, when_s in zip(records, due_s, strict=True) if when_s <= now_s] or records[:1]
        recording.advance(due[-1])
        await ledger.take_in([read_record(record) for record in due])
    return (await recording.read_head()).position


async def serve_recording(
    settings: Settings, recording: Recording, *, speed: float, announce: Callable[[str], None], link: bool
) -> None:
    """
    *recording* is played and served until SIGTERM or SIGINT; its end stays to be looked at.

    Args:
        settings: With a secret.
        recording: Not opened yet.
        speed: How many times as fast as it happened.
        announce: Told where it listens, and when the recording has ended.
        link: Also announce a dashboard link with a one-use code.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    tell_loop_faults(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        running(settings, store=recording, by_itself=False) as service,
        serving(service, routes=read_only(ROUTES)) as url,
    ):
        announce(f"listening on {url}")
        if link:
            announce(f"dashboard: {url}/#code={link_code(service)}")

        async def tell_end() -> None:
            announce(f"the recording ends at position {await play(service.ledger, recording, speed=speed)}")

        playing = asyncio.create_task(tell_end(), name="playback")
        playing.add_done_callback(lambda ended: None if ended.cancelled() or not ended.exception() else stop.set())
        await stop.wait()
        await service.streams.drain(0)
        if playing.done():
            # A fault in the playback is why it stops.
            playing.result()
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


def read_only(routes: Sequence[Route]) -> tuple[Route, ...]:
    """*routes*, of which those that would write refuse, whoever asks."""
    return tuple(
        route if route.method == "GET" or route.path in _WRITES_NOTHING else replace(route, handler=_refuse)
        for route in routes
    )


async def _refuse(call: Call) -> NoReturn:
    raise ReplayedOnly(call.request.method)


class ReplayedOnly(MethodNotAllowed):
    """This is a recording that is played again: it can be watched and read, and nothing in it can be changed."""

    def __init__(self, method: str) -> None:
        super().__init__(
            "GET, HEAD, OPTIONS", message=f"a recording is played here: it can be read, and takes no {method}"
        )
