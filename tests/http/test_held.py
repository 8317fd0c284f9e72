"""
A verb is done by the service that holds the file, which is found and asked by the command line alone.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from jobsvc.operate.owner import announcement, owner_of
from tests.http.world import SECRET, started
from tests.process import running_process
from tests.system.logs import fill, said

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.conftest import LogLines


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The command line has the service's secret.
    """
    monkeypatch.setenv("JOBSVC_SECRET", SECRET)


async def test_the_command_line_asks_the_service_that_holds_the_file(tmp_path: Path, log_lines: LogLines) -> None:
    """
    The service does it, and says in its log who asked for what.
    """
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        result = await said("verify", "--database", str(tmp_path / "jobs.db"), "-o", "json")
        position = await world.position()

    assert (0, True, position) == (result.exit_code, *(json.loads(result.stdout)[name] for name in ("ok", "position")))
    (act,) = [line for line in log_lines() if line["event"] == "operator.acted"]
    assert "POST /api/operator/verify" == act["act"]
    assert act["actor"].startswith("operator:")


async def test_who_only_looks_needs_no_secret(
    tmp_path: Path, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With another secret than the service's, or none, the command line looks at the file itself.
    """
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        codes = []
        for wrong in ("", "another secret of forty characters, sure"):
            monkeypatch.setenv("JOBSVC_SECRET", wrong)
            codes.append((await said("verify", "--database", str(tmp_path / "jobs.db"))).exit_code)

    assert [0, 0] == codes
    assert [] == [line for line in log_lines() if line["event"] == "operator.acted"]


async def test_who_waits_as_lines_is_told_the_result_last(tmp_path: Path) -> None:
    """
    As JSON it is the answer, as NDJSON the last of the lines.
    """
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        plain = await world.operator.post("/api/operator/verify")
        lines = await world.operator.post("/api/operator/verify", headers={"Accept": "application/x-ndjson"})

    *told, last = [json.loads(line) for line in lines.content.splitlines()]
    assert plain.body == last["result"]
    assert all({"verb", "done", "of"} == line.keys() for line in told)


async def test_a_verb_runs_once_at_a_time_and_a_bad_body_is_refused(tmp_path: Path) -> None:
    """
    A second of the same verb is told to come again; what cannot be meant is 422.
    """
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        answers = await asyncio.gather(*(world.operator.post("/api/operator/verify") for _ in range(2)))
        refused = await world.operator.post("/api/operator/verify", {"against": "nonsense"})

    assert [(200, None), (429, "slow-down")] == sorted((one.status, one.body.get("code")) for one in answers)
    assert (422, "/against") == (refused.status, refused.body["errors"][0]["pointer"])


@pytest.mark.process
async def test_an_owner_that_was_killed_is_none(tmp_path: Path) -> None:
    """
    What it left in the lock file does not count; the verb is done on the file itself.
    """
    async with running_process(tmp_path / "jobs.db") as service:
        held = owner_of(service.database)
        await service.kill()
    after = owner_of(tmp_path / "jobs.db")
    result = await said("verify", "--database", str(tmp_path / "jobs.db"))

    assert (service.url, None) == (held and held.url, after)
    assert 0 == result.exit_code


@pytest.mark.parametrize(
    ("url", "hosts", "expected"),
    [
        ("http://0.0.0.0:80", (), {"url": "http://127.0.0.1:80", "host": None}),
        ("http://[::]:80", (), {"url": "http://[::1]:80", "host": None}),
        ("http://10.0.0.5:80", ("jobs.example",), {"url": "http://10.0.0.5:80", "host": "jobs.example"}),
    ],
)
def test_a_service_says_how_it_is_reached_from_here(url: str, hosts: tuple[str, ...], expected: object) -> None:
    """
    One that listens everywhere is asked on loopback, one that takes some names only is asked by the first.
    """
    announced = json.loads(announcement(url, hosts))

    assert expected == announced
