"""
A campaign of kills: a service under load is killed without warning, started again on the same file, and questioned.

One file, one load and the same watchers over all rounds of a campaign. After each kill the evidence is read from the
disk and everything that must hold is checked: nothing acked is missing, requests sent again have their first answer,
the active list is what a replay makes, and the watchers saw each event once.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Final

import aiohttp

from jobsvc.store.sqlite import SqliteStore
from tests.http.client import Caller
from tests.process import start_process, token
from tests.system.evidence import Evidence, jobs_in, without_lease
from tests.system.load import REPEATABLE, Load
from tests.system.raw import Answer, RawConnection, Request
from tests.system.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.process import ServiceProcess
    from tests.system.raw import JSON

ACKED_MIN: Final = 100
_ENVIRON: Final = {
    "JOBSVC_HEARTBEAT_S": "0.2",
    "JOBSVC_ACTIVE_PER_OWNER_MAX": "100000",
    "JOBSVC_STREAMS_PER_PRINCIPAL_MAX": "100",
}
_PATIENCE_S: Final = 20.0


def seed() -> str:
    """
    What the campaigns' chance comes from: JOBSVC_CHAOS_SEED, or something new.
    """
    return os.environ.get("JOBSVC_CHAOS_SEED") or os.urandom(4).hex()


@asynccontextmanager
async def campaign(folder: Path, *, seed: str) -> AsyncIterator[Campaign]:
    """
    A campaign on a fresh log, with its watchers watching; whatever goes wrong in it names its *seed*.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session())
        fresh = Campaign(folder / "jobs.db", session, Random(seed))
        stack.push_async_callback(fresh.close)
        try:
            await fresh.open()
            yield fresh
        except Exception as error:
            error.add_note(f"JOBSVC_CHAOS_SEED={seed.rpartition(':')[0]} plays it again; the log is in {folder}")
            raise


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=None)
    )


class Campaign:
    """
    A service that is killed again and again, everybody around it, and the evidence.

    Attributes:
        watchers: One that sees all, one guest, one that wants a kind only.
        kills: How many there were, each with enough acked and something unanswered.
        acked: How many writes were acked in all.
    """

    def __init__(self, database: Path, session: aiohttp.ClientSession, chance: Random) -> None:
        self._database = database
        self._session = session
        self._chance = chance
        self._load = Load(chance)
        self._store = SqliteStore(database, read_only=True)
        self._evidence = Evidence(self._store)
        self._process: ServiceProcess | None = None
        self._started = asyncio.Event()
        self._watching: list[asyncio.Task[None]] = []
        self._all_seeing = token("viewer", "vera")
        self.kills = 0
        self.acked = 0
        self.watchers = (
            Watcher(self._all_seeing, shows=lambda _: True),
            Watcher(token("guest", "guest:ann"), shows=lambda job: job.owner == "guest:ann"),
            Watcher(self._all_seeing, shows=lambda job: job.kind == "x-post", kind="x-post"),
        )

    async def open(self) -> None:
        """
        The service runs, and the watchers watch.
        """
        await self._start()
        await self._store.open()
        self._watching = [asyncio.create_task(self._watch(watcher)) for watcher in self.watchers]

    async def close(self) -> None:
        """
        Everything has ended.
        """
        for watching in self._watching:
            watching.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._process is not None:
            await self._process.kill()
        await self._load.stop()
        await self._store.close()

    async def round(self) -> None:
        """
        One kill, one start, and everything checked.
        """
        await self._kill_under_load()
        await self._start()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._question()
        finally:
            for watching in self._watching:
                if watching.done():
                    watching.result()

    # Killing and starting

    async def _kill_under_load(self) -> None:
        """
        The service is dead: enough was acked, something was not answered, and the moment was any.
        """
        assert self._process is not None
        self._load.forget()
        self._load.start(self._process.url)
        await self._load.has_acked(ACKED_MIN + self._chance.randrange(40))
        # Not to wait for anything: this is the random moment.
        await asyncio.sleep(self._chance.uniform(0, 0.02))
        self._started.clear()
        await self._process.kill()
        await self._load.end()
        self.acked += self._load.acked
        if self._load.acked >= ACKED_MIN and self._load.unanswered:
            self.kills += 1

    async def _start(self) -> None:
        self._process = await start_process(self._database, environ=_ENVIRON)
        self._started.set()

    async def _watch(self, watcher: Watcher) -> None:
        while True:
            await self._started.wait()
            assert self._process is not None
            await watcher.watch(self._session, self._process.url)
            # The service is as good as dead, and whoever killed it has not said so yet.
            await asyncio.sleep(0.005)

    # Questioning

    async def _question(self) -> None:
        await self._evidence.read_on()
        for request, answer in self._load.answered:
            self._evidence.holds(request, answer)
        told_again = await self._send_again()
        await self._evidence.read_on()
        for request, answer in told_again:
            self._evidence.holds(request, answer)
        self._evidence.no_request_made_two_jobs()
        await self._compare_active()
        for watcher in self.watchers:
            self._evidence.was_seen_by(watcher)

    async def _send_again(self) -> list[tuple[Request, Answer]]:
        """
        What was answered is answered the same again; what was not is answered now, and then the same again.
        """
        told: list[tuple[Request, Answer]] = []
        assert self._process is not None
        connection = await RawConnection.open(self._process.url)
        answered = [(request, answer) for request, answer in self._load.answered if _repeatable(request, answer)]
        for request, answer in self._chance.sample(answered, min(12, len(answered))):
            _same(request, answer, await connection.ask(request))
        for request in self._load.unanswered:
            if request.idempotency_key is not None or request.verb in REPEATABLE | {"claim", "reports"}:
                first = await connection.ask(request)
                told.append((request, first))
                assert first.status in {200, 201, 204, 409, 429}, (request, first)
                self._hold(request, first)
                if _repeatable(request, first):
                    _same(request, first, await connection.ask(request))
        await connection.close()
        return told

    def _hold(self, request: Request, answer: Answer) -> None:
        if request.verb == "claim" and answer.status == 200:
            self._load.hold(answer.body["jobs"])

    async def _compare_active(self) -> None:
        """
        The active list, the watchers' maps and a replay agree, as of one position at which all of them stand.
        """
        assert self._process is not None
        caller = Caller(self._session, self._process.url, owner="", token=self._all_seeing)
        while True:
            position, listed = await _active(caller)
            for watcher in self.watchers:
                await watcher.reaches(position)
            await self._evidence.read_on()
            # The service goes on by itself: what came due meanwhile is a reason to ask again.
            if {position} == {self._evidence.position, *(watcher.place for watcher in self.watchers)}:
                break
        for watcher in self.watchers:
            shown = {job_id for job_id in listed if watcher.shows(self._evidence.job(job_id))}
            assert {job_id: listed[job_id] for job_id in shown} == _folded(watcher)
        assert listed == await self._evidence.active_at(position)


def _folded(watcher: Watcher) -> dict[str, JSON]:
    return {job_id: without_lease(job) for job_id, job in watcher.jobs.items()}


async def _active(caller: Caller) -> tuple[int, dict[str, JSON]]:
    """
    The whole active list, and the one position that it is as of.
    """
    while True:
        pages = [page async for page in _pages(caller)]
        if len({page["cursor"] for page in pages}) == 1:
            jobs = {job["id"]: without_lease(job) for page in pages for job in page["jobs"]}
            return int(pages[0]["cursor"].rpartition(".")[2]), jobs


async def _pages(caller: Caller) -> AsyncIterator[JSON]:
    params: JSON = {}
    while True:
        page = (await caller.get("/api/jobs/active", **params)).body
        yield page
        if page["next"] is None:
            return
        params = {"after": page["next"]}


def _repeatable(request: Request, answer: Answer) -> bool:
    """
    True if the same request must be given *answer* again.
    """
    if request.verb in REPEATABLE:
        return answer.status == 200
    return request.idempotency_key is not None and answer.status in {200, 201}


def _same(request: Request, first: Answer, again: Answer) -> None:
    assert first.status == again.status, (request, first, again)
    if request.idempotency_key is not None:
        assert again.headers.get("idempotency-replayed") == "true", (request, first, again)
    assert list(_shown(first)) == list(_shown(again)), request


def _shown(answer: Answer) -> Iterator[JSON]:
    for job in jobs_in(answer.body):
        yield without_lease(job)
