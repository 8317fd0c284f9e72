"""
Workers that are killed and connections that close, against the real service: jobs end once, and nothing stays for ever.

What a stepped wall clock does to leases cannot be shown on a machine's own clock: tests/ledger/test_sweeper.py
(``a_stepped_wall_clock``) and race 18 in tests/races/test_leases.py show it on a clock of theirs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from jobsvc.domain.moments import SECOND_US, parse_rfc3339
from jobsvc.domain.words import TERMINAL
from jobsvc.operate.verify import verify
from jobsvc.store.sqlite import SqliteStore
from tests.ledger.rig import whole_log
from tests.process import running_process, token
from tests.system.raw import RawConnection, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jobsvc.domain.events import Event
    from tests.process import ServiceProcess
    from tests.system.raw import JSON

WORKERS: Final = 6
KILL_EVERY_S: Final = 1.2
LATE_US_MAX: Final = SECOND_US
PATIENCE_S: Final = 30.0
ABANDONED: Final = 100
WAKE_S_MAX: Final = 0.5
ENDS: Final = frozenset(f"job.{state}" for state in TERMINAL)
_ENVIRON: Final = {"JOBSVC_LOG_LEVEL": "warning"}


class Workers:
    """
    Worker processes, half of which are killed whenever somebody says so.
    """

    def __init__(self, url: str, chance: Random) -> None:
        self._url = url
        self._chance = chance
        self._alive: list[asyncio.subprocess.Process] = []
        self.killed = 0

    async def fill_up(self) -> None:
        """
        As many work as there should be.
        """
        while len(self._alive) < WORKERS:
            command = ("-m", "tests.system.dying_worker", self._url, token("worker", "w1"), f"{self._chance.random()}")
            self._alive.append(await asyncio.create_subprocess_exec(sys.executable, *command))

    async def kill(self, count: int) -> None:
        """
        *count* of them, any, are dead, and saw nothing come.
        """
        for _ in range(count):
            victim = self._alive.pop(self._chance.randrange(len(self._alive)))
            assert victim.returncode is None, "a worker ended by itself"
            victim.kill()
            await victim.wait()
            self.killed += 1

    async def kill_all(self) -> None:
        """
        None is left.
        """
        await self.kill(len(self._alive))


class Watch:
    """
    Looks at the active list again and again, and remembers the worst of what it saw.

    Attributes:
        latest_us: How long an entry at most was past its lease or its deadline when somebody could still see it.
        looks: How often it looked.
        seen: How many different jobs it saw under a lease.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.latest_us = 0
        self.looks = 0
        self.seen: set[str] = set()

    async def run(self) -> None:
        """
        Looks on until it is cancelled.
        """
        connection = await RawConnection.open(self._url)
        try:
            while True:
                await self.look(connection)
                # Only not to be the service's whole load.
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async def look(self, connection: RawConnection) -> list[JSON]:
        """
        The active jobs; what they are late by counts from before the question was sent.
        """
        asked_at = time.time_ns() // 1_000
        request = Request("read", "GET", "/api/jobs/active?limit=1000", token("viewer", "vera"))
        jobs: list[JSON] = (await connection.ask(request)).body["jobs"]
        for job in jobs:
            for moment in (job["lease_expires_at"], job["deadline"]):
                if moment is not None:
                    self.latest_us = max(self.latest_us, asked_at - parse_rfc3339(moment))
            if job["lease_expires_at"] is not None:
                self.seen.add(job["id"])
        self.looks += 1
        return jobs

    async def sees_none(self) -> None:
        """
        Returns once no job is active.
        """
        connection = await RawConnection.open(self._url)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await self.look(connection):  # noqa: ASYNC110  # a list tells nobody when it is empty
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()


async def _create(url: str, chance: Random, made: set[str]) -> None:
    """
    Jobs for few keys and with deadlines of all sorts, until cancelled.
    """
    connection = await RawConnection.open(url)
    try:
        while True:
            body: JSON = {"kind": "work", "key": f"{chance.randrange(60)}", "max_attempts": 5}
            body["dedup"] = {"on_active": chance.choice(("attach", "replace", "run_after"))}
            if chance.random() < 0.3:
                body["deadline_s"] = chance.uniform(0.5, 3)
            request = Request("create", "POST", "/api/jobs", token("user", "user:ann"), body)
            made.add((await connection.ask(request)).body["job"]["id"])
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def _campaign(folder: Path, *, lasts_s: float, seed: str) -> tuple[Watch, Workers, set[str], Sequence[Event]]:
    """
    Half of the workers were killed again and again for so long; then the rest finished what there was.

    The seed says who is killed and what is asked for; the moments are the machine's.
    """
    chance, made = Random(seed), set[str]()
    async with running_process(folder / "jobs.db", environ=_ENVIRON) as service:
        watch, workers = Watch(service.url), Workers(service.url, chance)
        try:
            await workers.fill_up()
            background = [asyncio.create_task(watch.run()), asyncio.create_task(_create(service.url, chance, made))]
            await _kill_again_and_again(workers, chance, lasts_s=lasts_s)
            await _stopped(background[1:])
            await _replays(service)
            await workers.fill_up()
            await watch.sees_none()
            await _stopped(background[:1])
        finally:
            await workers.kill_all()
        events = await _replays(service)
    return watch, workers, made, events


async def _kill_again_and_again(workers: Workers, chance: Random, *, lasts_s: float) -> None:
    until = time.monotonic() + lasts_s
    while time.monotonic() < until:
        # The random moment, and not to wait for anything.
        await asyncio.sleep(chance.uniform(0.5, 1.5) * KILL_EVERY_S)
        await workers.kill(WORKERS // 2)
        await workers.fill_up()


async def _stopped(running: Sequence[asyncio.Task[Any]]) -> None:
    for task in running:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _replays(service: ServiceProcess) -> Sequence[Event]:
    """
    The log, of which every view is the replay.
    """
    store = SqliteStore(service.database, read_only=True)
    await store.open()
    try:
        assert [] == (await verify(store)).findings
        return await whole_log(store)
    finally:
        await store.close()


def _check(watch: Watch, workers: Workers, made: set[str], events: Sequence[Event]) -> None:
    """
    Every job ended exactly once, in time, and killing cost leases: else there was nothing to see.
    """
    ends = Counter(event.job_id for event in events if event.type in ENDS)
    born = {event.job_id for event in events if event.type == "job.created"}
    types = Counter(event.type for event in events)
    assert made <= born == set(ends)
    assert {1} == set(ends.values())
    assert watch.latest_us <= LATE_US_MAX
    assert types["job.lease_expired"] >= workers.killed // 4
    assert watch.looks > workers.killed
    assert watch.seen


@pytest.mark.process
async def test_jobs_end_once_though_half_of_their_workers_are_killed_again_and_again(tmp_path: Path) -> None:
    """
    Ten seconds of kill -9: no active entry is past lease or deadline by more than a second, and the log replays.
    """
    found = await _campaign(tmp_path, lasts_s=10, seed="ten seconds")

    _check(*found)


@pytest.mark.process
@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_jobs_end_once_though_half_of_their_workers_are_killed_for_a_minute(tmp_path: Path) -> None:
    """
    The same for a minute.
    """
    found = await _campaign(tmp_path, lasts_s=60, seed="a minute")

    _check(*found)


def _claim(worker: str) -> Request:
    body = {"wait_s": 30, "worker": worker, "kinds": ["work"]}
    return Request("claim", "POST", "/api/worker/claim", token("worker", "w1"), body)


async def _waiting(url: str, count: int) -> None:
    """
    Returns once *count* claims wait, as the service's own gauge says.
    """
    headers = {"Authorization": f"Bearer {token('viewer', 'vera')}"}
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession(headers=headers) as session:
        told = ""
        while f"jobsvc_claims_waiting {count}.0" not in told:
            async with session.get(f"{url}/metrics") as answer:
                told = await answer.text()


@pytest.mark.process
async def test_a_hundred_abandoned_claims_cost_the_live_one_nothing(tmp_path: Path) -> None:
    """
    100 connections close with their claims waiting, then one job: the live worker has it within 500 ms, attempt 1.
    """
    async with running_process(tmp_path / "jobs.db", environ=_ENVIRON) as service:
        gone = [await RawConnection.open(service.url) for _ in range(ABANDONED)]
        live, caller = await RawConnection.open(service.url), await RawConnection.open(service.url)
        asked = [asyncio.create_task(connection.ask(_claim("gone"))) for connection in gone]
        waiting = asyncio.create_task(live.ask(_claim("live")))
        await _waiting(service.url, ABANDONED + 1)

        await _stopped(asked)
        for connection in gone:
            await connection.close()
        created_at = time.monotonic()
        body = {"kind": "work"}
        made = await caller.ask(Request("create", "POST", "/api/jobs", token("user", "user:ann"), body))
        answer = await waiting
        took_s = time.monotonic() - created_at
        await live.close()
        await caller.close()

        events = await _replays(service)
    (grant,) = answer.body["jobs"]
    assert (made.body["job"]["id"], 1, 0) == (grant["job"]["id"], grant["job"]["attempt"], grant["job"]["lost_leases"])
    assert took_s <= WAKE_S_MAX
    assert not any(event.type == "job.lease_expired" for event in events)
