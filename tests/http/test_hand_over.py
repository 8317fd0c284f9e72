"""
The hand-over: streams are freed of aiohttp, or parked in it where that does not work, and nobody can tell which.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from jobsvc.http.call import Call
from jobsvc.http.wire import HandOver
from tests.http.world import started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.world import World


async def _never() -> bool:
    return False


@pytest.fixture(params=["freed", "parked"])
async def streaming(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """
    A service whose streams are freed, and one on which freeing is found not to work.
    """
    if request.param == "parked":
        monkeypatch.setattr(HandOver, "works", staticmethod(_never))
    async with started(tmp_path / "jobs.db") as world:
        assert (request.param == "freed") is await HandOver.works()
        yield world


async def test_a_stream_is_told_what_happens_and_says_bye(streaming: World) -> None:
    """
    Hello to bye, and then the answer is whole: its last chunk comes.
    """
    world = streaming
    async with world.guest.stream() as frames:
        await frames.until("ready")
        job = await world.guest.made()
        told = (await frames.until("job"))[-1]
        await world.service.streams.drain(1)
        await frames.until("bye")
        rest = await frames.response.content.read()

    assert job["id"] == told.data["job"]["id"]
    assert b"" == rest
    assert 0 == len(world.service.streams)


async def test_who_goes_away_is_gone_at_once(streaming: World) -> None:
    """
    Nothing is kept for a reader that has closed its end.
    """
    world = streaming
    async with world.guest.stream() as frames:
        await frames.until("ready")
        there = len(world.service.streams)

    async with asyncio.timeout(5):
        while len(world.service.streams):  # noqa: ASYNC110  # turns of the loop, until a state
            await asyncio.sleep(0.01)

    assert 1 == there
    assert 0 == len(world.service.feed)


async def test_an_idle_stream_keeps_no_call(streaming: World) -> None:
    """
    Freed it has no request of aiohttp's; parked it has that one, but of ours neither handler nor call.
    """
    world = streaming
    async with world.guest.stream() as frames:
        await frames.until("ready")
        gc.collect()
        calls = [one for one in gc.get_objects() if isinstance(one, Call)]
        requests = [one for one in gc.get_objects() if isinstance(one, web.BaseRequest)]

        freed = world.service.streams.freed

    assert [] == calls
    assert 1 - freed == len(requests)
