"""
A backup is taken while the service runs, is verified and another log; a restore puts it in a database's place.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from jobsvc.http import acts
from jobsvc.store.sqlite import SqliteStore
from tests.http.client import Caller
from tests.http.world import SECRET, started
from tests.process import running_process, token
from tests.store.older import of_schema_2
from tests.system.logs import copied, fill, jobsvc, said, select, tamper, verified, write_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.client import JSON
    from tests.http.world import World


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every file of a test is in a folder of its own, which is the current one; the command line has the secret.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBSVC_SECRET", SECRET)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """
    A running service in which something has happened.
    """
    async with started(Path("jobs.db")) as fresh:
        await fill(fresh)
        yield fresh


@pytest.fixture
def log() -> Path:
    """
    A stopped log that the service wrote.
    """
    asyncio.run(write_log(Path("jobs.db")))
    return Path("jobs.db")


def names() -> list[str]:
    """
    What is in the current folder, save what belongs to the database.
    """
    return sorted(name for name in os.listdir() if not name.startswith("jobs.db"))  # noqa: PTH208  # names are enough


@asynccontextmanager
async def busy(caller: Caller) -> AsyncIterator[list[str]]:
    """
    Jobs are made all the while; the ids of those made are in the list.
    """
    made: list[str] = []

    async def make() -> None:
        while True:
            made.append((await caller.made())["id"])

    making = asyncio.create_task(make())
    try:
        yield made
    finally:
        making.cancel()
        await asyncio.wait({making})


async def test_a_backup_of_a_busy_service_is_the_log_as_of_one_moment(world: World) -> None:
    """
    Jobs go on being made meanwhile; the copy verifies, is a beginning of the log, and has an identity of its own.
    """
    async with busy(world.guest) as made:
        result = await said("backup", "copy.db", "--database", "jobs.db", "-o", "json")
        after = len(made)
        while len(made) == after:  # noqa: ASYNC110  # turns of the loop, until a state
            await asyncio.sleep(0)
    events = await world.log()
    told = json.loads(result.stdout)

    assert (0, ["copy.db"]) == (result.exit_code, names())
    assert told["chain"] == events[told["position"] - 1]["chain"]
    assert told["epoch"] != (await world.head())["epoch"]
    assert [] == (await verified(Path("copy.db"))).findings
    assert [(told["position"], told["epoch"])] == select(Path("copy.db"), "SELECT position, epoch FROM head")


async def test_a_backup_is_one_file_that_nobody_else_may_read_and_holds_no_secret() -> None:
    """
    It opens where nothing can be written beside it; who has it can read the log, and sign nothing.
    """
    async with running_process(Path("jobs.db"), environ={"JOBSVC_SECRET": ""}) as service:
        os.environ.pop("JOBSVC_SECRET")
        result = await said("backup", "copy.db", "--database", str(service.database))
        secret = _content(Path("jobs.db.secret")).strip()

    assert (0, ["copy.db"]) == (result.exit_code, names())
    assert 0o600 == _mode(Path("copy.db"))
    assert secret not in _content(Path("copy.db"))
    assert [("delete",)] == select(Path("copy.db"), "PRAGMA journal_mode")


def _content(path: Path) -> bytes:
    return path.read_bytes()


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("held", [True, False])
async def test_a_backup_leaves_alone_what_stands_there(*, held: bool) -> None:
    """
    By whomever it is made: nothing is replaced unless forced, and the database itself never is.
    """
    async with started(Path("jobs.db")) as world:
        await fill(world)
        results = await _tried() if held else []
    results = results or await _tried()

    assert [2, 2, 2, 0] == [result.exit_code for result in results], [result.output for result in results]
    assert [] == (await verified(Path("taken.db"))).findings
    assert [] == (await verified(Path("jobs.db"))).findings
    assert not any("/" in result.output for result in results[:3])


async def _tried() -> list[JSON]:
    await asyncio.to_thread(Path("taken.db").write_text, "precious")
    tried = [("taken.db",), ("jobs.db", "--force"), ("nowhere/copy.db",), ("taken.db", "--force")]
    await asyncio.to_thread(Path("nowhere").write_text, "a file, not a folder")
    return [await said("backup", *one, "--database", "jobs.db") for one in tried]


async def test_over_http_a_backup_wants_a_whole_path(world: World) -> None:
    """
    What is relative would be relative to wherever the service was started.
    """
    answers = [await world.operator.post("/api/operator/backup", body) for body in ({"file": "copy.db"}, {})]

    assert [(422, "/file")] * 2 == [(answer.status, answer.body["errors"][0]["pointer"]) for answer in answers]
    assert [] == names()


async def test_two_copies_at_once_to_one_name_are_one(log: Path) -> None:
    """
    The other is told so; what stands there afterwards is whole.
    """
    before = [asyncio.create_task(said("backup", "copy.db", "--database", str(log))) for _ in range(2)]
    codes = sorted([(await each).exit_code for each in before])

    assert [0, 2] == codes
    assert ["copy.db"] == names()
    assert [] == (await verified(Path("copy.db"))).findings


async def test_a_backup_that_does_not_verify_is_none(log: Path) -> None:
    """
    What is wrong with the log is said, exit code 1, and no file of that name is left.
    """
    tamper(log, "UPDATE events SET at = at + 1 WHERE position = 3")

    result = await said("backup", "copy.db", "--database", str(log))

    assert (1, []) == (result.exit_code, names())
    assert "position 3" in result.output


@pytest.mark.parametrize("told_every_s", [0.0, 60.0])
async def test_a_service_says_what_is_wrong_with_its_log(
    world: World, monkeypatch: pytest.MonkeyPatch, told_every_s: float
) -> None:
    """
    To the operator who asked for a backup, whether or not it had said before how far it was.
    """
    monkeypatch.setattr(acts, "TOLD_EVERY_S", told_every_s)
    tamper(Path("jobs.db"), "UPDATE events SET at = at + 1 WHERE position = 3")

    result = await said("backup", "copy.db", "--database", "jobs.db")
    answer = await world.operator.post(
        "/api/operator/backup", {"file": str(await asyncio.to_thread(Path("c").absolute))}
    )

    assert (1, []) == (result.exit_code, names())
    assert "position 3" in result.output
    assert (500, "internal") == (answer.status, answer.code)
    assert "position 3" in answer.body["detail"]


async def test_clients_of_a_restored_log_begin_anew_and_its_leases_are_void(world: World) -> None:
    """
    The list is as of the backup; cursors of before get a reset, never another log's positions; jobs at work come back.
    """
    await world.guest.made(key="at work", kind="slow")
    grant = await world.worker.claim(kinds=["slow"], lease_s=30)
    before = (await world.operator.get("/api/jobs/active")).body
    await said("backup", "copy.db", "--database", "jobs.db")
    await world.guest.made(key="later")
    cursor = (await world.operator.get("/api/jobs/active")).body["cursor"]
    await said("restore", "copy.db", "--database", "restored.db")

    async with started(Path("restored.db")) as restored:
        now = (await restored.operator.get("/api/jobs/active")).body["jobs"]
        answers = [
            (await restored.viewer.get("/api/stream", after=each, wait_s=5)).body["frames"]
            for each in (cursor, before["cursor"])
        ]
        refused = await restored.worker.report(grant, "heartbeat")

    assert _ids(before["jobs"]) == _ids(now)
    for frames in answers:
        names_of = {frame["event"]: frame["data"] for frame in frames}
        assert "other-epoch" == names_of["reset"]["reason"]
        assert "snapshot" in names_of
    assert refused.status in {403, 409, 422}


def _ids(jobs: list[JSON]) -> list[str]:
    return sorted(job["id"] for job in jobs)


async def test_a_restore_never_takes_a_database_from_a_service(world: World) -> None:
    """
    Not even by force.
    """
    await said("backup", "copy.db", "--database", "jobs.db")

    results = [await said("restore", "copy.db", "--database", "jobs.db", *more) for more in ([], ["--force"])]
    made = await world.guest.create(key="afterwards")

    assert [2, 2] == [result.exit_code for result in results]
    assert 201 == made.status


async def test_a_restore_over_a_log_is_forced_or_refused(log: Path) -> None:
    """
    Over nothing, or a database in which nothing happened, it goes by itself; over one that is damaged by force.
    """
    await said("backup", "copy.db", "--database", str(log))
    store = SqliteStore("fresh.db")
    await store.open()
    await store.close()
    await asyncio.to_thread(Path("damaged.db").write_bytes, b"no database" * 1_000)
    before = select(log, "SELECT * FROM head")

    refused = [await said("restore", "copy.db", "--database", name) for name in (str(log), "damaged.db")]
    untouched = before == select(log, "SELECT * FROM head")
    done = [
        await said("restore", "copy.db", "--database", *more)
        for more in (["fresh.db"], ["new.db"], [str(log), "--force"], ["damaged.db", "--force"])
    ]

    assert ([2, 2], True) == ([result.exit_code for result in refused], untouched)
    assert [0, 0, 0, 0] == [result.exit_code for result in done], [result.output for result in done]
    (backed_up,) = select(Path("copy.db"), "SELECT position, chain, epoch FROM head")
    for name in ("fresh.db", "new.db", str(log), "damaged.db"):
        assert [backed_up] == select(Path(name), "SELECT position, chain, epoch FROM head")
        assert [] == (await verified(Path(name))).findings


async def test_a_backup_that_an_older_version_made_is_restored(log: Path) -> None:
    """
    Over a database in which an older version had nothing happen, too; what was restored can be served.
    """
    await said("backup", "copy.db", "--database", str(log))
    backup, fresh = of_schema_2(Path("copy.db")), SqliteStore("fresh.db")
    await fresh.open()
    await fresh.close()
    of_schema_2(Path("fresh.db"))

    results = [await said("restore", str(backup), "--database", name) for name in ("fresh.db", "new.db")]
    store = SqliteStore("new.db")
    opening = await store.open()
    await store.close()

    assert [0, 0] == [result.exit_code for result in results], [result.output for result in results]
    assert [(opening.head.position, opening.head.epoch)] == select(backup, "SELECT position, epoch FROM head")
    assert [] == (await verified(Path("fresh.db"))).findings


@pytest.mark.parametrize("verb", [["verify"], ["doctor"], ["export", "out"], ["replay"], ["backup", "copy.db"]])
def test_a_log_of_an_older_version_is_read_as_it_is(log: Path, verb: list[str]) -> None:
    """
    Whoever only looks changes nothing of the file, so that the older version can still serve it.
    """
    of_schema_2(log)

    result = jobsvc(*verb, "--database", str(log))

    assert 0 == result.exit_code, result.output
    assert [(2,)] == select(log, "PRAGMA user_version")


async def test_a_restore_does_not_take_in_what_the_old_database_left_beside_it(log: Path) -> None:
    """
    The old one's write-ahead log was never copied back: it is gone with it, and is no part of the new one.
    """
    await said("backup", "copy.db", "--database", str(log))
    async with running_process(log) as service, aiohttp.ClientSession() as session:
        await Caller(session, service.url, owner="user:ada", token=token("user", "ada")).made()
        await service.kill()
    left = _content(Path("jobs.db-wal"))

    result = await said("restore", "copy.db", "--force", "--database", str(log))

    assert left
    assert 0 == result.exit_code
    assert [] == (await verified(log)).findings
    sql = "SELECT position, chain, epoch FROM head"
    assert select(Path("copy.db"), sql) == select(log, sql)


@pytest.mark.parametrize("how", ["nothing", "not ours", "tampered", "sealed"])
async def test_what_is_no_backup_is_not_restored(log: Path, how: str) -> None:
    """
    And the database is as it was.
    """
    source = Path("source.db")
    match how:
        case "not ours":
            source.write_text("no database")  # noqa: ASYNC240  # before anything runs
        case "tampered":
            tamper(copied(log, source), "UPDATE events SET at = at + 1 WHERE position = 3")
        case "sealed":
            copied(log, source)
            await said("export", "--seal", "out", "--database", str(source))
        case _:
            pass
    before = select(log, "SELECT * FROM head")

    result = await said("restore", str(source), "--force", "--database", str(log))

    assert result.exit_code == (1 if how == "tampered" else 2), result.output
    assert before == select(log, "SELECT * FROM head")
    assert [] == [name for name in os.listdir() if ".part" in name]  # noqa: PTH208  # names are enough


def test_a_backup_of_a_half_imported_log_is_refused(log: Path) -> None:
    """
    Half a log is none, and nothing can be sealed, exported or backed up of it.
    """
    jobsvc("export", "out", "--database", str(log))
    lines = Path("out").read_bytes().splitlines(keepends=True)
    Path("half").write_bytes(b"".join(lines[:7]))
    jobsvc("import", "half", "--database", "half.db")

    results = [
        jobsvc(*verb, "--database", "half.db") for verb in (["backup", "b"], ["export", "e"], ["export", "--seal", "s"])
    ]

    assert [2, 2, 2] == [result.exit_code for result in results]
