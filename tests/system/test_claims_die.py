"""
Kill -9 while a guest becomes a user: between the move of its active jobs and that of the ended ones, and at any moment.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from jobsvc.operate.verify import verify
from jobsvc.store.sqlite import SqliteStore
from tests.http.client import Caller
from tests.process import start_process, token
from tests.system.chaos import seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.process import ServiceProcess

SEED: Final = seed()
ACTIVE: Final = 3
ENDED: Final = 40
SLOWLY: Final = {
    "JOBSVC_HANDOVER_JOBS_MAX": "1",
    "JOBSVC_HANDOVER_WAIT_MAX_S": "0.000001",
    "JOBSVC_LOG_LEVEL": "warning",
}
PATIENCE_S: Final = 20.0


class _Both:
    """
    The guest and the user, wherever the service is by now.
    """

    def __init__(self, session: aiohttp.ClientSession, service: ServiceProcess, number: int) -> None:
        guest, user = f"guest:{number}", f"user:{number}"
        self.guest = Caller(session, service.url, owner=guest, token=token("guest", guest))
        self.user = Caller(session, service.url, owner=user, token=token("user", user))

    async def prepare(self) -> None:
        """
        The guest has active jobs and ended ones.
        """
        jobs = await asyncio.gather(*(self.guest.made() for _ in range(ACTIVE + ENDED)))
        await asyncio.gather(*(self.guest.cancel(job["id"]) for job in jobs[ACTIVE:]))

    async def claim(self) -> int:
        """
        The status of the user's claim.
        """
        return (await self.user.post("/api/sessions/claim", {"guest_token": self.guest.token})).status

    async def owned(self, caller: Caller) -> int:
        """
        How many jobs *caller* has; none once its token counts no more.
        """
        answer = await caller.get("/api/jobs", limit=500)
        return 0 if answer.status == 401 else len(answer.body["jobs"])

    async def all_are_the_users(self) -> None:
        """
        Returns once nothing is left to move.
        """
        async with asyncio.timeout(PATIENCE_S):
            while await self.owned(self.user) < ACTIVE + ENDED:  # noqa: ASYNC110  # only the process knows, and tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def _check_log(database: Path) -> None:
    store = SqliteStore(database, read_only=True)
    await store.open()
    verified = await verify(store)
    await store.close()
    assert [] == verified.findings


@pytest.mark.process
async def test_a_kill_between_active_and_ended_jobs_leaves_none_behind(tmp_path: Path) -> None:
    """
    The claim was answered and the service killed before the ended jobs had moved: the next one moves the rest.
    """
    database = tmp_path / "jobs.db"
    async with _session() as session:
        service = await start_process(database, environ=SLOWLY)
        both = _Both(session, service, 0)
        await both.prepare()

        status = await both.claim()
        await service.kill()

        service = await start_process(database, environ=SLOWLY)
        both = _Both(session, service, 0)
        at_once = (len(await both.user.active()), (await both.guest.get("/api/jobs")).status)
        await both.all_are_the_users()
        again = await both.claim()
        await service.kill()

    assert (200, (ACTIVE, 401), 422) == (status, at_once, again)
    await _check_log(database)


@pytest.mark.process
async def test_a_claim_that_is_killed_at_any_moment_is_whole_or_was_never_made(tmp_path: Path) -> None:
    """
    Eight kills: afterwards either the user has all and the guest is spent, or the guest has all and can be claimed.
    """
    database, chance = tmp_path / "jobs.db", Random(SEED)
    async with _session() as session:
        service = await start_process(database, environ=SLOWLY)
        for number in range(8):
            both = _Both(session, service, number)
            await both.prepare()
            claiming = asyncio.create_task(both.claim())
            # The random moment, and not to wait for anything.
            await asyncio.sleep(chance.uniform(0, 0.03))
            await service.kill()
            await asyncio.gather(claiming, return_exceptions=True)

            service = await start_process(database, environ=SLOWLY)
            both = _Both(session, service, number)
            left = await both.owned(both.guest)

            assert left in {0, ACTIVE + ENDED}, SEED
            if left:
                assert (200, 0) == (await both.claim(), await both.owned(both.guest)), SEED
            await both.all_are_the_users()
            assert ACTIVE == len(await both.user.active()), SEED
        await service.kill()
    await _check_log(database)
