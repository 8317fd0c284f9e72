"""
How the open streams stand, as an operator sees it.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from jobsvc.http import standings

if TYPE_CHECKING:
    import pytest

    from tests.http.conftest import Starter
    from tests.http.world import World


async def test_each_open_stream_is_listed_with_its_transport_and_state(world: World) -> None:
    """
    Whose it is, how it is told, that it is live and how far behind; one that is gone is not.
    """
    ndjson = {"Accept": "application/x-ndjson"}
    async with world.guest.stream() as mine, world.stranger.stream(headers=ndjson) as other:
        await mine.until("ready")
        await other.response.content.readuntil(b'{"event":"ready"')
        await world.guest.made()
        await mine.until("job")
        body = (await world.viewer.get("/api/streams")).body

    async with asyncio.timeout(10):
        while (gone := (await world.viewer.get("/api/streams")).body)["open"]:
            pass
    assert (2, {"sse": 1, "ndjson": 1}, {"live": 2}) == (body["open"], body["by_transport"], body["by_state"])
    assert {world.guest.owner, world.stranger.owner} == {one["principal"] for one in body["streams"]}
    assert [0, 0] == [one["lag"] for one in body["streams"]]
    assert body["bytes"] > 0
    assert all(one["age_s"] > 0 for one in body["streams"])
    assert (0, []) == (gone["open"], gone["streams"])


async def test_what_streams_went_through_is_counted(start: Starter) -> None:
    """
    A page read from the log, a cursor that was none and a farewell each show, here and in the metrics.
    """
    world = await start(ring_events_max=1, streams_per_principal_max=1)
    for _ in range(3):
        await world.guest.made()
    epoch = (await world.head())["epoch"]
    async with world.guest.stream(after=f"{epoch}.0") as first:
        await first.until("ready")
        async with world.guest.stream(after="nonsense") as second:
            await second.until("ready")
            assert "bye" == (await first.rest())[-1].event

            body = (await world.viewer.get("/api/streams", limit=0)).body
            metrics = (await world.viewer.get("/metrics")).content.decode()

    assert (1, {"malformed": 1}, {"superseded": 1}, []) == (
        body["catch_ups"],
        body["resets"],
        body["byes"],
        body["streams"],
    )
    assert "jobsvc_stream_catch_ups_total 1.0" in metrics
    assert 'jobsvc_streams_by_state{state="live",transport="sse"} 1.0' in metrics
    assert f"jobsvc_stream_bytes_total {float(body['bytes'])}" in metrics


async def test_others_get_a_turn_while_many_streams_are_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After so many at a time; all are counted, and those furthest behind are listed whichever part they are in.
    """
    monkeypatch.setattr(standings, "WALKED_AT_ONCE", 2)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with AsyncExitStack() as stack:
        for _ in range(5):
            await (await stack.enter_async_context(world.viewer.stream())).until("ready")
        beside = asyncio.create_task(take_turns())
        await asyncio.sleep(0)
        turns = 0
        told = await standings.standings(world.service, limit=3)
        beside.cancel()

    assert (5, {"live": 5}, 3) == (told.open, told.by_state, len(told.streams))
    assert turns == 2
