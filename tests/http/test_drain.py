from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.http.client import Caller
from tests.process import SECRET, running_process, token

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


@pytest.mark.process
async def test_an_idle_service_says_that_it_drains_before_it_goes(tmp_path: Path) -> None:
    """
    For drain_notice_s after SIGTERM /readyz is 503 draining while requests are still served, streams or none.
    """
    environ = {"JOBSVC_DRAIN_NOTICE_S": "2"}
    async with running_process(tmp_path / "jobs.db", environ=environ) as process, aiohttp.ClientSession() as session:
        guest = Caller(session, process.url, owner="guest:ann", token=token("guest", "ann"))
        stopping = asyncio.create_task(process.stop())
        while (ready := await guest.get("/readyz")).status == 200:
            pass

        made = await guest.create()
        code = await stopping

    assert (503, "draining") == (ready.status, ready.code)
    assert (201, 0) == (made.status, code)


@pytest.mark.process
async def test_a_second_service_on_the_file_says_so_and_ends_with_1(tmp_path: Path) -> None:
    """
    One line for whoever started it, and no stack trace.
    """
    async with running_process(tmp_path / "jobs.db"):
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobsvc", "serve", "--port", "0", "--database", str(tmp_path / "jobs.db")),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()

    assert 1 == second.returncode
    assert b"Error: another process owns this database; stop it first\n" == said


@pytest.mark.process
async def test_a_log_that_nobody_reads_stops_no_service(tmp_path: Path) -> None:
    """
    With standard error a full pipe requests are answered, and the service drains.
    """
    command = (sys.executable, "-m", "jobsvc", "serve", "--port", "0", "--database", str(tmp_path / "jobs.db"))
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | {"JOBSVC_SECRET": SECRET}, stdout=asyncio.subprocess.PIPE, stderr=writing
    )
    os.close(writing)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().removeprefix("listening on ").strip()
    async with aiohttp.ClientSession() as session:
        guest = Caller(session, url, owner="guest:ann", token=token("guest", "ann"))
        for number in range(900):
            # Longer ids, longer lines: the pipe is full long before the end.
            assert (await guest.create(key="k", headers={"X-Request-Id": f"{number:0>128}"})).status in {200, 201}
        process.terminate()
        code = await process.wait()
    os.close(reading)

    assert 0 == code
