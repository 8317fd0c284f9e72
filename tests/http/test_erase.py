"""
What was erased is found nowhere: in no answer, no frame, and no byte of any file.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import pytest

from jobsvc.operate.verify import verify
from jobsvc.operate.views import rebuild
from tests.http.test_archive import archive
from tests.http.test_claim_sessions import ended
from tests.http.world import started
from tests.system.logs import said, select, verified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import JSON, Caller
    from tests.http.world import World

CANARY = "kanarienvogel"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """
    A world in which nothing is archived but when it is asked for, and whose streams are never at ease.
    """
    async with started(tmp_path / "jobs.db", archive_older_than_s=0, ring_events_max=10_000) as fresh:
        yield fresh


def traces(path: Path) -> list[str]:
    """
    The files beside *path* in which the canary is, and the segments, unpacked.
    """
    canary = CANARY.encode()
    found = [one.name for one in path.parent.iterdir() if one.is_file() and canary in one.read_bytes()]
    bodies = select(path, "SELECT number, body FROM segments")
    return found + [f"segment {number}" for number, body in bodies if canary in zlib.decompress(body)]


async def spied(world: World, caller: Caller, *, key: str, size: int = 0) -> JSON:
    """
    A completed job with the canary wherever a caller or a worker may put it.
    """
    job = await caller.made(
        key=f"{key}-{CANARY}",
        title=CANARY,
        input={"secret": CANARY, "filling": "x" * size},
        metadata={"tag": CANARY},
        headers={"Idempotency-Key": f"{key}-{CANARY}"},
    )
    grant = await world.worker.claim()
    await world.worker.report(grant, "progress", percent=10, message=CANARY, data={"at": CANARY})
    await world.worker.report(grant, "release")
    again = await world.worker.claim()
    await world.worker.report(grant, "complete", result={"late": CANARY})
    await world.worker.complete(again, {"said": CANARY, "filling": "y" * size})
    return job


async def erase(world: World, **fields: JSON) -> JSON:
    """
    What the verb answers.
    """
    answer = await world.operator.post("/api/operator/erase", fields)
    assert 200 == answer.status, answer.content
    return answer.body


async def test_an_owner_that_was_erased_is_found_in_no_file(world: World) -> None:
    """
    Not in the database, its write-ahead log, a segment or a page that is free; the log verifies, and so do the views.
    """
    path = world.service.settings.database_path
    owner = world.caller("user", f"u-{CANARY}")
    for number in range(30):
        await spied(world, owner, key=f"archived-{number}", size=number * 300)
        await ended(world.guest, world, key=f"other-{number}")
    await archive(world)
    for number in range(30):
        await spied(world, owner, key=f"live-{number}", size=number * 300)
        await ended(world.guest, world, key=f"another-{number}")
    before = traces(path)

    report = await erase(world, owner=owner.owner, reason="asked to be forgotten")

    assert 60 == report["jobs"]
    assert {"jobs.db"} < set(before)
    assert any(one.startswith("segment") for one in before)
    assert [] == traces(path)
    assert CANARY not in json.dumps(await world.log())
    assert [] == (await verify(world.service.store)).findings
    for view in ("active", "keys", "history"):
        await rebuild(world.service.store, view, alone=world.service.ledger.alone)
    assert [] == (await verify(world.service.store)).findings
    assert 30 == len((await world.guest.get("/api/jobs")).body["jobs"])
    assert {"jobs": 0} == await erase(world, owner=owner.owner)


async def test_an_erased_job_is_nobody_s(world: World) -> None:
    """
    Its owner may not see it any more, an operator sees that it was; its sisters and their answers stay as they were.
    """
    job = await spied(world, world.guest, key="one")
    sister = await ended(world.guest, world, key="two")

    await erase(world, job_id=job["id"], reason="no more")
    seen = await world.operator.read(job["id"])

    assert 403 == (await world.guest.get(f"/api/jobs/{job['id']}")).status
    assert ("completed", "erased", None, {}) == (seen["state"], seen["owner"], seen["result"], seen["input"])
    assert [sister["id"]] == [one["id"] for one in (await world.guest.get("/api/jobs")).body["jobs"]]
    again = await world.guest.create(key=f"one-{CANARY}", headers={"Idempotency-Key": f"one-{CANARY}"})
    assert (201, False) == (again.status, "Idempotency-Replayed" in again.headers)
    assert "job.erased" == (await world.operator.get("/api/log", job=job["id"])).body["events"][-1]["type"]


async def test_no_stream_tells_again_what_was_erased(world: World) -> None:
    """
    Whoever resumes from before, out of memory or out of the log, is told of the job without what it was.
    """
    start = (await world.head())["epoch"]
    job = await spied(world, world.guest, key="one")
    async with world.operator.stream(after=f"{start}.0") as frames:
        before = await frames.until("ready")

    await erase(world, job_id=job["id"])
    async with world.operator.stream(after=f"{start}.0") as frames:
        after = await frames.until("ready")

    assert CANARY in json.dumps([frame.data for frame in before])
    assert CANARY not in json.dumps([frame.data for frame in after])
    assert "job.erased" == [frame.data["type"] for frame in after if frame.event == "job"][-1]


async def test_what_is_active_is_not_erased(world: World) -> None:
    """
    409 with the job, for it and for its owner, and nothing was taken away; no such job is 404, and neither or both 422.
    """
    done = await ended(world.guest, world, key="ended")
    job = await world.guest.made(key="active")
    position = await world.position()

    answers = [
        await world.operator.post("/api/operator/erase", fields)
        for fields in ({"job_id": job["id"]}, {"owner": world.guest.owner}, {"job_id": "nonsense"}, {})
    ]

    assert [409, 409, 404, 422] == [answer.status for answer in answers]
    assert ["job-active", "job-active"] == [answer.code for answer in answers[:2]]
    assert position == await world.position()
    assert done["id"] in [one["id"] for one in (await world.guest.get("/api/jobs")).body["jobs"]]


async def test_the_command_line_erases_in_a_stopped_file(tmp_path: Path) -> None:
    """
    As the service would; what is active is refused with exit code 1.
    """
    path = tmp_path / "jobs.db"
    async with started(path) as world:
        owner = world.caller("user", CANARY)
        await spied(world, owner, key="one")
        active = await owner.made(key="two")
        refused = await said("erase", "--owner", owner.owner, "--database", str(path), "--set", f"secret={'s' * 40}")
        await owner.cancel(active["id"])

    result = await said("erase", "--owner", owner.owner, "--database", str(path), "-o", "json")

    assert 0 != refused.exit_code
    assert (0, {"jobs": 2}) == (result.exit_code, json.loads(result.stdout))
    assert [] == traces(path)
    assert [] == (await verified(path)).findings
