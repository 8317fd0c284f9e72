"""
The doctor: whatever is wrong is found and told in a sentence, when asked for, and by the service itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from jobsvc.domain.job import Job
from jobsvc.operate import rounds as rounds_module
from jobsvc.operate.checks import Bounds
from jobsvc.operate.doctor import examine
from jobsvc.store.codec import encode_job
from jobsvc.store.seam import Parked
from tests.http.world import SECRET, started
from tests.system.logs import copied, fill, looking_at, said, tamper, write_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.conftest import LogLines
    from tests.http.world import World

CHECKS = {"log", "archive", "orphans", "views", "holders", "lag", "parked", "handovers", "disk", "clock", "sqlite"}
PATIENCE_S = 20.0
SOUND = Bounds(disk_free_bytes_min=0, lag_events_max=10_000)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log that the service wrote; nobody may change it.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(write_log(path))
    return path


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    """
    A copy of it, to be tampered with.
    """
    return copied(written, tmp_path / "jobs.db")


async def found(path: Path, *, now: int = 2**60, bounds: Bounds = SOUND) -> dict[str, str]:
    """
    What is wrong with the file at *path*: the sentence of each check that says so.
    """
    async with looking_at(path) as store:
        report = await examine(store, path, now=now, bounds=bounds)
    assert report.ok == all(one.ok for one in report.checks)
    assert CHECKS == {one.check for one in report.checks}
    assert all(one.says[0].isupper() or not one.ok for one in report.checks)
    return {one.check: one.says for one in report.checks if not one.ok}


async def test_a_log_that_is_well_is_told_so_a_sentence_for_each_check(log: Path) -> None:
    """
    Exit code 0; as JSON each check with its sentence.
    """
    plain = await said("doctor", "--database", str(log))
    told = await said("doctor", "--database", str(log), "-o", "json")

    report = json.loads(told.output)
    assert (0, 0, True) == (plain.exit_code, told.exit_code, report["ok"])
    assert CHECKS == {one["check"] for one in report["checks"]}
    # How much is free on the disk may change from one look to the next.
    said_twice = [f"{one['check']}: {one['says']}" for one in report["checks"] if one["check"] != "disk"]
    assert said_twice == [line for line in plain.output.splitlines() if not line.startswith("disk: ")]


@pytest.mark.parametrize(
    ("statement", "check", "words"),
    [
        ("UPDATE events SET facts = replace(facts, ':', ' :') WHERE position = 3", "log", "Position 3: the chain"),
        ("INSERT INTO history VALUES ('zz', 'user:ada', 'post', NULL, 'failed', 1, 2)", "orphans", "a row for zz"),
        ("UPDATE history SET state = 'expired' WHERE state = 'completed'", "views", "another row"),
        (
            "INSERT INTO marks VALUES ('handovers', 'guest:ann', '', '', x'61', 1 << 61)",
            "handovers",
            "1 claimed guests",
        ),
        ("INSERT INTO parked VALUES ('counts', 3, 'j', 'failed', 0)", "parked", "the first at position 3"),
    ],
)
async def test_what_is_wrong_with_a_file_is_found(log: Path, statement: str, check: str, words: str) -> None:
    """
    Exit code 1, and the check that is about it says what it is.
    """
    tamper(log, statement)

    wrong = await found(log)
    result = await said("doctor", "--database", str(log))

    assert words in wrong[check]
    assert 1 == result.exit_code
    assert words in result.output


async def test_two_holders_of_one_key_are_found(log: Path) -> None:
    """
    Both are named, also where no index of the file would tell.
    """
    async with looking_at(log) as store:
        rows = await store.read_view("active", after="", limit=99)
    first = next(job for job in rows if isinstance(job, Job) and job.key is not None)
    twin = replace(first, id="zz")
    insert = "INSERT INTO active VALUES (?, ?, ?, ?)"
    tamper(log, (insert, ("zz", twin.position, twin.state, encode_job(twin))))

    wrong = await found(log)

    assert f"{first.id} and zz" in wrong["holders"]
    assert "zz" in wrong["orphans"]


async def test_what_is_wrong_with_the_machine_is_found(log: Path) -> None:
    """
    A clock before the last event, too little disk, and a projection too far behind.
    """
    tamper(log, "UPDATE checkpoints SET version = 9")

    wrong = await found(log, now=0, bounds=Bounds(disk_free_bytes_min=2**60, lag_events_max=5))

    assert {"clock", "disk", "lag"} == wrong.keys()
    assert "times stand still" in wrong["clock"]


async def test_the_service_is_asked_where_it_holds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same report over HTTP and by the command line, which has the service do it.
    """
    monkeypatch.setenv("JOBSVC_SECRET", SECRET)
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        answer = await world.operator.post("/api/operator/doctor", {"reason": "the morning round"})
        told = await said("doctor", "--database", str(tmp_path / "jobs.db"), "-o", "json")

    assert (200, True, 0) == (answer.status, answer.body["ok"], told.exit_code)
    assert [one["check"] for one in answer.body["checks"]] == [
        one["check"] for one in json.loads(told.output)["checks"]
    ]


# By itself


async def until(world: World, condition: Callable[[JSON], bool]) -> JSON:
    """
    What /readyz answers as soon as *condition* holds of it.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await world.nobody.get("/readyz")
            if condition(answer):
                return answer


async def test_the_service_finds_by_itself_what_is_wrong_and_that_it_is_right_again(
    log: Path, log_lines: LogLines
) -> None:
    """
    /readyz and the metrics say so, and a line of the log, once; after a rebuild all is green again.
    """
    tamper(log, "INSERT INTO history VALUES ('zz', 'user:ada', 'post', NULL, 'failed', 1, 2)")
    async with started(log, doctor_pause_s=0.0001, doctor_rest_s=0.001, doctor_slice_events_max=3) as world:
        red = await until(world, lambda answer: answer.status == 503)
        metrics = (await world.viewer.get("/metrics")).content.decode()
        wrong = (await world.viewer.get("/api/stats")).body["wrong"]
        await world.operator.post("/api/projections/history/rebuild")
        await until(world, lambda answer: answer.status == 200)
        right = (await world.viewer.get("/api/stats")).body["wrong"]
        rounds = world.service.rounds.completed

    assert ("unavailable", True) == (red.code, "orphans" in red.body["detail"])
    assert 'jobsvc_doctor_findings{check="orphans"} 1.0' in metrics
    assert 'jobsvc_doctor_findings{check="log"} 0.0' in metrics
    assert rounds >= 2
    assert (1, []) == (len(wrong), right)
    lines = [line for line in log_lines() if line["event"] == "doctor.found"]
    assert ["orphans"] == [line["code"] for line in lines]


async def test_what_may_pass_by_itself_is_no_finding_at_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A projection that is behind, or a hand-over under way, turns nothing red before it was so for a minute of looks.
    """
    monkeypatch.setattr(rounds_module, "_QUICK_EVERY_S", 3_600)
    async with started(log, doctor_lag_events_max=0, doctor_disk_free_bytes_min=0) as world:
        for standing in (await world.service.store.read_checkpoints()).values():
            assert standing.rows
        await world.service.runner.stop()
        await world.guest.made()
        counts = []
        for _ in range(7):
            await world.service.rounds.look()
            counts.append([one.check for one in world.service.rounds.findings])

    assert [[]] * 4 == counts[:4]
    assert ["lag"] == counts[-1]


async def test_parked_sequences_are_a_finding_at_once(log: Path) -> None:
    """
    Nothing that passes by itself.
    """
    async with started(log) as world:
        await world.service.runner.stop()
        store = world.service.store
        standing = (await store.read_checkpoints())["counts"]
        await store.write_rows(
            "counts",
            {},
            version=standing.version,
            checkpoint=standing.position,
            resumed_from=standing.position,
            parked=[Parked("counts", 3, "j", "failed")],
        )
        await world.service.rounds.look()
        checks = [one.check for one in world.service.rounds.findings]

    assert "parked" in checks
