"""
What a watcher is told while nothing happens, and when something happens just then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobsvc.http.connection import Connection
from tests.http.world import started
from tests.system.watching import Watcher

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_heartbeat_never_knows_more_than_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A change that is committed just before a stream's heartbeat is due is shown before any digest counts it.
    """
    async with started(tmp_path / "jobs.db", heartbeat_s=0.02) as world:
        on_time, asking = Connection.on_time, set[asyncio.Task[object]]()
        ledger = world.service.ledger

        def overtaken(connection: Connection) -> None:
            """
            The commit's turn ends with the heartbeat instead of with the telling.
            """
            position = ledger.memory.position
            asking.add(asyncio.ensure_future(world.guest.made(input={"just": "now"})))
            ledger.on_commit.append(lambda _: on_time(connection) if ledger.memory.position > position else None)
            on_time(connection)

        monkeypatch.setattr(Connection, "on_time", overtaken)
        watcher = Watcher(world.viewer.token or "", shows=lambda _: True)
        watching = asyncio.create_task(watcher.watch(world.session, world.url))
        async with asyncio.timeout(10):
            await watcher.reaches(3)
        watching.cancel()
        await asyncio.gather(watching, *asking, return_exceptions=True)

    assert [] == watcher.wrong
    assert len(watcher.seen) >= 3
