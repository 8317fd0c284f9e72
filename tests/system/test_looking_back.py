"""
docs/looking-back.md says what is so: its commands run beside a service, and print what the page shows.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.process import running_process, token
from tests.system.test_docs import _blocks, _run

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/looking-back.md"


@pytest.mark.process
async def test_the_commands_that_look_back_print_what_the_page_says(tmp_path: Path) -> None:
    """
    Run as they stand on a log with one job that an operator made and cancelled, while the service holds it.
    """
    (shown,) = _blocks(PAGE, "text")
    explained, urls, states, differences, turns = _blocks(PAGE, "sh")

    async with running_process(tmp_path / "jobsvc.db") as service:
        job = await cancelled_job(service.url)
        run = [
            await _run(f"export JOB={shlex.quote(job)}\n{block}", folder=tmp_path)
            for block in (explained, urls, states, differences, turns)
        ]

    assert [0] * 5 == [code for code, _ in run], run
    printed = [output for _, output in run]
    for line in shown.splitlines():
        assert line in printed[0]
    assert "both URLs give the key x:post:1:" in printed[1]
    assert '"state":"queued"' in printed[2]
    assert f'{{"position":1,"jobs":[{{"id":"{job}"' in printed[2]
    assert f"1 {job} made and ended" in printed[3]
    assert f"job.created of {job} made active>=1 so: 0 → 1" in printed[4]
    assert 2 == json.loads(printed[4].splitlines()[-1])["first"]["position"]


async def cancelled_job(url: str) -> str:
    """
    The id of a job that an operator made for a user, and cancelled.
    """
    body = {"kind": "x-post", "url": "https://x.com/ada/status/1", "owner": "user:17"}
    headers = {"Authorization": f"Bearer {token('operator', 'olga')}"}
    async with aiohttp.ClientSession(url, headers=headers) as session:
        async with session.post("/api/jobs", json=body) as answer:
            job_id: str = (await answer.json())["job"]["id"]
        async with session.post(f"/api/jobs/{job_id}/cancel", json={}) as answer:
            assert 200 == answer.status
    return job_id
