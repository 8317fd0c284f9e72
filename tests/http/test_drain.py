from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.http.client import Caller
from tests.process import running_process, token

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.process
async def test_sigterm_ends_all_waits_with_an_answer(tmp_path: Path) -> None:
    """
    A waiting claim, read, create and long-poll are answered when the service drains, a stream gets bye, and it exits 0.
    """
    async with running_process(tmp_path / "jobs.db") as process, aiohttp.ClientSession() as session:
        guest = Caller(session, process.url, owner="guest:ann", token=token("guest", "ann"))
        worker = Caller(session, process.url, owner="w1", token=token("worker", "w1", kinds=["nothing"]))
        job = await guest.made()
        cursor = (await guest.get("/api/jobs/active")).body["cursor"]
        async with guest.stream() as frames:
            await frames.until("ready")
            waits = [
                asyncio.create_task(worker.post("/api/worker/claim", {"wait_s": 30})),
                asyncio.create_task(guest.get(f"/api/jobs/{job['id']}", wait_s=30, since=1)),
                asyncio.create_task(guest.create(key="k", headers={"Prefer": "wait=30"})),
                asyncio.create_task(guest.get("/api/stream", wait_s=25, after=f"{cursor.partition('.')[0]}.2")),
            ]
            # The create's event is what tells that the requests have reached the service.
            await frames.until_type("job.created")

            began = time.monotonic()
            stopping = asyncio.create_task(process.stop())
            farewell = await frames.rest()
            answers = await asyncio.gather(*waits)
            code = await stopping

    assert 0 == code
    assert time.monotonic() - began < 8
    assert ("bye", "drain") == (farewell[-1].event, farewell[-1].data["reason"])
    assert [204, 200, 201, 200] == [answer.status for answer in answers]
