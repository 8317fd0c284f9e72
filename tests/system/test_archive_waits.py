"""
Nobody waits long for the archive.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.http.test_claim_sessions import ended
from tests.http.world import started
from tests.system.logs import caught_up

if TYPE_CHECKING:
    from pathlib import Path

JOBS = 150


async def test_creates_go_on_while_jobs_are_archived(tmp_path: Path) -> None:
    """
    Between any two steps others are decided: several creates are answered before one look at the archive has ended.
    """
    async with started(tmp_path / "jobs.db", archive_older_than_s=0) as world:
        for number in range(JOBS):
            await ended(world.guest, world, key=f"old-{number}")
        await caught_up(world)
        act = asyncio.create_task(world.operator.post("/api/operator/archive", {"older_than_s": 0}))
        waits_s: list[float] = []
        while not act.done():
            begun_s = time.perf_counter()
            await world.guest.made(key=f"new-{len(waits_s)}")
            waits_s.append(time.perf_counter() - begun_s)

        report = (await act).body
        archived = [job["id"] for job in (await world.guest.get("/api/jobs", state="completed")).body["jobs"]]

    assert JOBS == report["jobs"]
    assert len(waits_s) > 1
    assert [] == archived
