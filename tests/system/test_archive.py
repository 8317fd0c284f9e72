"""
The verb on a stopped file, in a process that may be killed at any moment, and what a tampered archive is called.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import zlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from jobsvc.operate.manifest import ManifestWalk
from jobsvc.store.sqlite import SqliteStore
from tests.http.client import until
from tests.http.world import started
from tests.store.histories import History
from tests.system.logs import copied, looking_at, said, select, tamper, verified

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.store.driver import RawConnection
    from tests.http.client import JSON

JOBS = 3_000
LIVE = "SELECT count(*) FROM events"
STORED = "SELECT (SELECT count(*) FROM events) + (SELECT coalesce(sum(events), 0) FROM segments)"
_UNGUARDED = "DROP TRIGGER segments_never_change"


def old_log(jobs: int) -> History:
    """
    So many jobs, of which every tenth goes on; all of it was long ago.
    """
    history = History()
    for number in range(jobs):
        # Of the owners 0 to 6 none has an active job.
        owner = f"user:{number % 7}" if number % 10 else "user:9"
        history.create(number, owner=owner, raw=b'{"n": %d}' % number)
        if number % 10:
            history.start(number)
            history.complete(number)
    return history


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """
    A stopped file with many old jobs.
    """
    store = SqliteStore(tmp_path / "old.db")
    await store.open()
    history = old_log(JOBS)
    await store.append(history.batch(), decided_at=0)
    await store.close()
    return tmp_path / "old.db"


async def archiving(path: Path) -> asyncio.subprocess.Process:
    """
    The verb under way in a process of its own.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobsvc", "archive", "--older-than", "1d", "--database", str(path)),
        stdout=asyncio.subprocess.DEVNULL,
    )


async def archived(path: Path) -> JSON:
    """
    What the verb says, run to its end.
    """
    result = await said("archive", "--older-than", "1d", "--database", str(path), "-o", "json")
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


async def test_a_killed_archive_is_gone_on_with_by_running_it_again(log: Path) -> None:
    """
    Killed wherever it is, every event lies in one place, the log verifies, and the next run does the rest.
    """
    chance = random.Random(17)  # when to kill
    killed_within = 0
    for _ in range(6):
        live = select(log, LIVE)[0][0]
        process = await archiving(log)
        while select(log, LIVE)[0][0] == live and process.returncode is None:  # noqa: ASYNC110  # another process's file
            await asyncio.sleep(0.002)
        await asyncio.sleep(chance.random() * 0.02)
        if process.returncode is None:
            process.kill()
        await process.wait()
        left = select(log, LIVE)[0][0]
        killed_within += left > JOBS // 10
        assert select(log, STORED)[0][0] == JOBS * 3 - JOBS // 10 * 2
        assert [] == (await verified(log)).findings

    await archived(log)

    assert killed_within
    assert select(log, LIVE)[0][0] == JOBS // 10
    assert [] == (await verified(log)).findings
    again = await archived(log)
    assert (0, 0) == (again["jobs"], again["events"])


async def test_a_killed_erasure_is_finished_by_running_it_again(log: Path) -> None:
    """
    Killed wherever it is, each job is erased or not, the log verifies; run again, nothing of the owner is in any file.
    """
    await archived(log)
    command = ("erase", "--owner", "user:3", "--database", str(log))
    erased = "SELECT count(*) FROM events WHERE type = 'job.erased'"
    for delay_s in (0.0, 0.01, 0.05, 0.1):
        before = select(log, erased)[0][0]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "jobsvc", *command)
        while select(log, erased)[0][0] == before and process.returncode is None:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.002)
        await asyncio.sleep(delay_s)
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert [] == (await verified(log)).findings

    assert 0 == (await said(*command)).exit_code
    assert [] == (await verified(log)).findings
    assert not [one.name for one in log.parent.iterdir() if one.is_file() and b"user:3" in one.read_bytes()]
    segments = select(log, "SELECT body FROM segments")
    assert not [body for (body,) in segments if b"user:3" in zlib.decompress(body)]


async def test_a_tampered_archive_is_found(log: Path, tmp_path: Path) -> None:
    """
    A byte of a body, a row of the manifest, a segment that is gone, a job that is not found by its id any more.
    """
    await archived(log)
    wrongs = {
        "UPDATE segments SET body = CAST(substr(body, 1, 99) || x'00' AS BLOB) WHERE number = 3": "segment 3",
        "UPDATE segments SET content = zeroblob(32) WHERE number = 2": "chain of the manifest",
        "UPDATE segments SET chain = zeroblob(32) WHERE number = 2": "chain of the manifest",
        "DELETE FROM archived_jobs WHERE segment = 4": "not found by its id",
    }
    for number, (statement, what) in enumerate(wrongs.items()):
        path = copied(log, tmp_path / f"tampered{number}.db")
        tamper(path, "PRAGMA foreign_keys = OFF", _UNGUARDED, statement)
        finding = (await verified(path)).findings[0]
        assert what in finding.what
        assert finding.position is not None


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE segments SET chain = zeroblob(32) WHERE number = 2", "segment 2: the chain of the manifest breaks"),
        ("DELETE FROM archived_jobs WHERE segment = 4", "is not found by its id"),
    ],
)
async def test_a_service_finds_by_itself_that_its_archive_was_tampered_with(
    log: Path, statement: str, what: str
) -> None:
    """
    What no walk along the log or the streams would meet, since they read what the segments hold.
    """
    await archived(log)
    tamper(log, "PRAGMA foreign_keys = OFF", _UNGUARDED, statement)

    async with started(log, doctor_pause_s=0.0001, doctor_rest_s=0.001) as world:
        rounds = world.service.rounds
        await until(lambda: rounds.completed > 0)
        found = {one.check: one.says for one in rounds.findings}

    assert {"archive"} == set(found)
    assert what in found["archive"]


async def test_what_is_wrong_with_a_view_is_found_beside_a_tampered_archive(log: Path) -> None:
    """
    The service goes on looking at the views; whoever cannot look at them says that, and not that they are well.
    """
    await archived(log)
    tamper(
        log,
        _UNGUARDED,
        "UPDATE segments SET chain = zeroblob(32) WHERE number = 2",
        "INSERT INTO history VALUES ('zz', 'user:ada', 'post', NULL, 'failed', 1, 2)",
    )

    async with started(log, doctor_pause_s=0.0001, doctor_rest_s=0.001) as world:
        rounds = world.service.rounds
        await until(lambda: rounds.completed > 0)
        found = {one.check: one.says for one in rounds.findings}
    told = json.loads((await said("doctor", "--database", str(log), "-o", "json")).stdout)
    says = {one["check"]: one["says"] for one in told["checks"] if not one["ok"]}

    assert {"archive", "orphans"} == set(found)
    assert "a row for zz" in found["orphans"]
    assert {"archive", "orphans", "views"} == set(says)
    assert says["views"] == "The views were not looked at, since the archive is not whole."


async def test_a_walk_along_the_manifest_takes_a_segment_a_step(log: Path) -> None:
    """
    So that whoever shares the loop waits for no more than one.
    """
    await archived(log)
    ((segments,),) = select(log, "SELECT count(*) FROM segments")

    async with looking_at(log) as store:
        walk, steps = ManifestWalk(store), 0
        while await walk.step():
            steps += 1

    assert segments == steps > 3
    assert walk.finding is None


async def test_segments_are_guarded(log: Path) -> None:
    """
    Whoever comes with SQL and no door open can neither change nor remove one.
    """
    await archived(log)
    store = SqliteStore(log)
    await store.open()
    try:
        for statement in ("UPDATE segments SET archived_at = 1", "DELETE FROM segments"):
            with pytest.raises(Exception, match="never"):
                await store._writer.run(partial(_execute, sql=statement))  # type: ignore[union-attr] # noqa: SLF001
    finally:
        await store.close()


def _execute(raw: RawConnection, *, sql: str) -> None:
    raw.execute(sql)


async def test_a_view_is_made_anew_though_the_end_of_the_log_is_archived(log: Path) -> None:
    """
    Each of them, where the newest events are those of a job that ended: what is live is folded, and verify agrees.
    """
    await archived(log)
    views = ("active", "keys", "history", "counts")

    exits = [(await said("rebuild", view, "--database", str(log))).exit_code for view in views]

    assert [0, 0, 0, 0] == exits
    assert [] == (await verified(log)).findings
