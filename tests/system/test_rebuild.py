"""
A view is rebuilt beside the live one and swapped in: nothing is missed, and what no replay makes is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.errors import Corrupt
from jobsvc.operate.verify import verify
from jobsvc.operate.views import INLINE_NAMES, rebuild
from jobsvc.store.codec import encode_job
from jobsvc.store.sqlite import SqliteStore
from projections.active import Active
from projections.runner import replay
from tests.http.world import SECRET, started
from tests.system.logs import caught_up, fill, jobsvc, looking_at, said, select, tamper, verified, write_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.world import World

STALE = (
    "INSERT OR REPLACE INTO active SELECT 'zz', position, state, body FROM active LIMIT 1",
    "INSERT INTO keys VALUES ('zz', 'user:ada', 'post', 'planted')",
    "INSERT INTO history VALUES ('zz', 'user:ada', 'post', NULL, 'failed', 1, 2)",
)
WRONG = (
    "UPDATE active SET state = 'cancelling' WHERE job_id = (SELECT min(job_id) FROM active)",
    "UPDATE keys SET owner = 'guest:eve' WHERE job_id = (SELECT min(job_id) FROM keys)",
    "UPDATE history SET state = 'expired' WHERE state = 'completed'",
)
PLANTED = "SELECT (SELECT count(*) FROM {view} WHERE job_id = 'zz')"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """
    A running service in which something has happened.
    """
    async with started(tmp_path / "jobs.db") as fresh:
        await fill(fresh)
        yield fresh


@asynccontextmanager
async def busy(world: World) -> AsyncIterator[list[str]]:
    """
    Jobs are made and completed all the while; the ids of those made are in the list.
    """
    made: list[str] = []

    async def keep_on() -> None:
        while True:
            made.append((await world.guest.made(key=f"key-{len(made)}-{id(asyncio.current_task())}"))["id"])
            for grant in await world.worker.claims(max=1, lease_s=600):
                await world.worker.complete(grant, {"n": 1})

    loops = [asyncio.create_task(keep_on()) for _ in range(4)]
    try:
        yield made
    finally:
        for loop in loops:
            loop.cancel()
        ends = await asyncio.gather(*loops, return_exceptions=True)
    assert {asyncio.CancelledError} == {type(end) for end in ends}


async def rebuilt(world: World, view: str) -> JSON:
    """
    What the rebuild of *view* over HTTP answers.
    """
    answer = await world.operator.post(f"/api/projections/{view}/rebuild", {})
    assert answer.status == 200, answer.content
    return answer.body


async def test_beside_a_running_service_nothing_is_missed(world: World, tmp_path: Path) -> None:
    """
    Under a steady stream of appends, stale rows go, wrong rows are right, and every job that came meanwhile is there.
    """
    tamper(tmp_path / "jobs.db", *STALE, *WRONG)
    async with looking_at(tmp_path / "jobs.db") as store:
        spoilt = await verify(store)

        async with busy(world) as made:
            answers = [await rebuilt(world, view) for view in sorted(INLINE_NAMES) * 4]
        result = await verify(store)

    assert {finding.position for finding in spoilt.findings} == {None}
    assert [] == result.findings
    assert len(made) > 20
    positions = [answer["position"] for answer in answers]
    assert positions == sorted(positions)
    assert positions[0] < positions[-1]
    for view in INLINE_NAMES:
        assert [(0,)] == select(tmp_path / "jobs.db", PLANTED.format(view=view))


async def test_what_the_service_answers_is_the_rebuilt_view(world: World, tmp_path: Path) -> None:
    """
    After the swap, memory is what the store says: the list, the next dedup, and the worker's lease go on.
    """
    held = await world.guest.made(key="mine")
    before = await world.operator.active()
    tamper(tmp_path / "jobs.db", *STALE, *WRONG)

    for view in INLINE_NAMES:
        await rebuilt(world, view)

    attached = await world.guest.create(key="mine")
    assert (200, held["id"]) == (attached.status, attached.job["id"])
    after = await world.operator.active()
    assert [job["id"] for job in before] == [job["id"] for job in after]
    assert [job["state"] for job in before] == [job["state"] for job in after]


async def test_a_service_that_started_on_stale_rows_forgets_them(tmp_path: Path) -> None:
    """
    Jobs that have ended and still stand in active are off the list as soon as the view is rebuilt, with no restart.
    """
    path = tmp_path / "jobs.db"
    await write_log(path)
    async with looking_at(path) as store:
        at_six, now = await replay(store, Active(), until=6), await replay(store, Active())
    stale = [job for job_id, job in at_six.rows.items() if job_id not in now.rows]
    rows = [(job.id, job.position, job.state, encode_job(job)) for job in stale]
    tamper(path, *(("INSERT INTO active VALUES (?, ?, ?, ?)", row) for row in rows))

    async with started(path) as world:
        before = await world.operator.active()
        await rebuilt(world, "active")
        after = await world.operator.active()

    assert stale
    assert {job["id"] for job in before} == now.rows.keys() | {job.id for job in stale}
    assert {job["id"] for job in after} == now.rows.keys()


async def test_rebuilds_asked_for_at_once_come_one_after_the_other(world: World, tmp_path: Path) -> None:
    """
    Two rebuilds of one view share no shadow: both succeed, and no row is lost.
    """
    async with busy(world):
        answers = await asyncio.gather(*(rebuilt(world, view) for view in ("active", "active", "history", "active")))

    async with looking_at(tmp_path / "jobs.db") as store:
        result = await verify(store)
    assert ["active", "active", "history", "active"] == [answer["projection"] for answer in answers]
    assert [] == result.findings
    assert 201 == (await world.guest.create(input={"still": "writing"})).status


async def test_a_catch_up_projection_begins_anew(world: World, tmp_path: Path) -> None:
    """
    Its stale row is gone and its counts are those of the log; it was there all the while.
    """
    await caught_up(world)
    tamper(tmp_path / "jobs.db", "INSERT INTO projection_rows VALUES ('counts', 'job.planted', x'7b7d')")

    answer = await world.operator.post("/api/projections/counts/rebuild", {})
    await caught_up(world)

    assert (200, "counts", 0) == (answer.status, answer.body["projection"], answer.body["parked"])
    assert answer.body["rows"] > 0
    assert [(0,)] == select(tmp_path / "jobs.db", "SELECT count(*) FROM projection_rows WHERE key = 'job.planted'")
    async with looking_at(tmp_path / "jobs.db") as store:
        assert [] == (await verify(store)).findings


async def test_only_an_operator_may(world: World) -> None:
    """
    Everybody else is refused, and a view that there is not is 404.
    """
    path = "/api/projections/active/rebuild"
    others = (world.guest, world.user, world.backend, world.worker, world.viewer)

    statuses = [(await caller.post(path, {})).status for caller in others]
    unknown = await world.operator.post("/api/projections/none/rebuild", {})

    assert [403] * len(others) == statuses
    assert (404, "not-found") == (unknown.status, unknown.code)


# The command line


async def test_a_stopped_log_is_mended_by_the_command_line(tmp_path: Path) -> None:
    """
    Each view is right again; what was done is told, as text and as JSON.
    """
    path = tmp_path / "jobs.db"
    await write_log(path)
    tamper(path, *STALE, *WRONG, "UPDATE active SET body = x'00' WHERE job_id = (SELECT max(job_id) FROM active)")

    plain = await said("rebuild", "active", "--database", str(path))
    others = ("keys", "history", "counts")
    told = [await said("rebuild", view, "--database", str(path), "-o", "json") for view in others]

    result = await verified(path)
    assert [] == result.findings
    assert [0, 0, 0, 0] == [plain.exit_code, *(one.exit_code for one in told)]
    assert plain.output.endswith(f"rows as of position {result.position}\n")
    answers = [json.loads(one.output) for one in told]
    assert list(others) == [answer["projection"] for answer in answers]
    assert {result.position} == {answer["position"] for answer in answers}
    assert all(answer["rows"] > 0 for answer in answers)


async def test_what_a_broken_rebuild_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    """
    A shadow that was never swapped in is thrown away by the next rebuild, whichever indexes it has.
    """
    path = tmp_path / "jobs.db"
    await write_log(path)
    store = SqliteStore(path)
    await store.open()
    await store.begin_shadow("history")
    await store.close()

    exits = [(await said("rebuild", "history", "--database", str(path))).exit_code for _ in range(3)]

    assert [0, 0, 0] == exits
    assert [] == (await verified(path)).findings


@pytest.mark.process
async def test_killed_at_any_moment_a_rebuild_is_done_by_running_it_again(tmp_path: Path) -> None:
    """
    Kill -9 of a real process, ever later in what one takes: the next one finishes what was begun, or undoes it.
    """
    path = tmp_path / "jobs.db"
    await write_log(path)
    begun = time.monotonic()
    assert await _rebuilt_within(path, "history", 60)
    whole_s, killed = time.monotonic() - begun, 0

    for twentieth, view in zip(range(4, 20), itertools.cycle(("history", "active", "counts")), strict=False):
        killed += not await _rebuilt_within(path, view, whole_s * twentieth / 20)

    exits = [
        (await said("rebuild", view, "--database", str(path))).exit_code for view in ("history", "active", "counts")
    ]
    assert killed > 2
    assert [0, 0, 0] == exits
    assert [] == (await verified(path)).findings
    assert [] == select(path, "SELECT name FROM sqlite_schema WHERE name LIKE '%shadow' OR name LIKE '%before'")


async def _rebuilt_within(path: Path, view: str, patience_s: float) -> bool:
    """
    True if a process of its own made the view anew in that time; else it was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobsvc", "rebuild", view, "--database", str(path)),
        env=os.environ | {"JOBSVC_SECRET": SECRET},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(patience_s):
            assert 0 == await process.wait()
            return True
    except TimeoutError:
        process.kill()
        await process.wait()
        return False


async def test_a_log_whose_head_is_wrong_is_left_as_it_is(tmp_path: Path) -> None:
    """
    No view can be made of a log that does not end where it says: exit code 1, and verify is named.
    """
    path = tmp_path / "jobs.db"
    await write_log(path)
    tamper(path, "UPDATE head SET position = position + 5")

    result = await said("rebuild", "active", "--database", str(path))
    store = SqliteStore(path)
    await store.open_as_is()
    with pytest.raises(Corrupt):
        await rebuild(store, "keys")
    await store.close()

    assert 1 == result.exit_code
    assert "verify" in result.output


async def test_a_log_that_a_service_holds_is_rebuilt_by_the_service(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The command line asks it; without its secret nothing is touched, exit code 2.
    """
    path = tmp_path / "jobs.db"
    tamper(path, *STALE)
    monkeypatch.setenv("JOBSVC_SECRET", SECRET)
    told = [await said("rebuild", view, "--database", str(path), "-o", "json") for view in ("history", "counts")]
    monkeypatch.setenv("JOBSVC_SECRET", "another secret of forty characters, sure")
    refused = await said("rebuild", "active", "--database", str(path))

    assert [(0, "history"), (0, "counts")] == [(one.exit_code, json.loads(one.output)["projection"]) for one in told]
    assert [(0,)] == select(path, PLANTED.format(view="history"))
    assert [(1,)] == select(path, PLANTED.format(view="active"))
    assert 2 == refused.exit_code
    assert "JOBSVC_SECRET" in refused.output


def test_a_view_that_there_is_not_is_wrong_usage(tmp_path: Path) -> None:
    """
    Exit code 2, with the names that there are.
    """
    result = jobsvc("rebuild", "none", "--database", str(tmp_path / "jobs.db"))

    assert 2 == result.exit_code
    assert "active, keys, history, counts" in result.output
