"""
What a watcher is told while nothing happens, and when something happens just then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobsvc.feed import Reader
from tests.http.world import started
from tests.system.watching import Watcher

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_heartbeat_never_knows_more_than_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A change that comes in the very turn in which a stream's wait runs out is shown before any digest counts it.
    """
    async with started(tmp_path / "jobs.db", heartbeat_s=0.02) as world:
        wait = Reader.wait

        async def wait_and_be_overtaken(reader: Reader, timeout_s: float) -> bool:
            came = await wait(reader, timeout_s)
            if not came:
                await world.guest.made(input={"just": "now"})
            return came

        monkeypatch.setattr(Reader, "wait", wait_and_be_overtaken)
        watcher = Watcher(world.viewer.token or "", shows=lambda _: True)
        watching = asyncio.create_task(watcher.watch(world.session, world.url))
        async with asyncio.timeout(10):
            await watcher.reaches(3)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    assert [] == watcher.wrong
    assert len(watcher.seen) >= 3
