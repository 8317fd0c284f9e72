"""
Rebuilding over HTTP, and what becomes of it when whoever asked goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.http.world import World


async def test_a_rebuild_whose_asker_went_away_harms_none_that_follows(world: World) -> None:
    """
    Abandoned and asked for again, at any moment: the view is whole, and both memory and store agree with it.
    """
    await world.guest.post("/api/jobs/batch", {"jobs": [{"kind": "work", "key": f"k{n}"} for n in range(200)]})

    for rounds in range(12):
        abandoned = asyncio.create_task(world.operator.post("/api/projections/active/rebuild"))
        for _ in range(rounds * 3):
            await asyncio.sleep(0)
        abandoned.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await abandoned
        answer = await world.operator.post("/api/projections/active/rebuild")
        assert (200, 200) == (answer.status, answer.body["rows"])

    assert 200 == len(await world.guest.active())
    assert 200 == len(await world.service.store.read_view("active", after="", limit=2_000))
