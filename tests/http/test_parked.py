"""
Events that a projection could not take in: seen by operators, red at /readyz, tried again or discarded by them.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from jobsvc import app
from jobsvc.operate import parked as parked_module
from jobsvc.operate import views
from projections import runner as runner_module
from projections.counts import Count, Counts
from tests.http.world import SECRET, started
from tests.system.logs import caught_up, said

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobsvc.domain.events import Event
    from tests.http.client import JSON
    from tests.http.conftest import LogLines
    from tests.http.world import World


PATIENCE_S = 10.0


class Delicate(Counts):
    """
    Counts that cannot bear a job that is started, until they are mended.
    """

    name = "delicate"
    mended = False

    def apply(self, row: Count | None, event: Event) -> Count | None:
        """
        One more, or an error.
        """
        if event.type == "job.started" and not self.mended:
            raise ZeroDivisionError("a word of the payload")
        return super().apply(row, event)


@pytest.fixture
def delicate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Delicate]:
    """
    It is one of the projections that the service runs.
    """
    projection = Delicate()
    both = (Counts(), projection)
    for module in (app, views, parked_module):
        monkeypatch.setattr(module, "CATCH_UP", both)
    monkeypatch.setattr(views, "BUILT_IN", {**views.BUILT_IN, "delicate": projection})
    monkeypatch.setenv("JOBSVC_SECRET", SECRET)
    return iter([projection])


async def poisoned(world: World) -> list[JSON]:
    """
    Two jobs whose start could not be borne, and a third that was never started.
    """
    jobs = [await world.guest.made() for _ in range(3)]
    for grant in await world.worker.claims(max=2):
        await world.worker.complete(grant, {"n": 1})
    await caught_up(world)
    return jobs


async def standing(world: World) -> JSON:
    """
    How it stands, as operators see it.
    """
    (one,) = [
        each
        for each in (await world.operator.get("/api/projections")).body["projections"]
        if each["name"] == "delicate"
    ]
    return one


async def test_it_is_shown_with_job_position_and_failure(
    delicate: Iterator[Delicate], tmp_path: Path, log_lines: LogLines
) -> None:
    """
    In /api/projections, in the metrics, in the service's log, and by the command line; /readyz is red, the rest works.
    """
    next(delicate)
    async with started(tmp_path / "jobs.db") as world:
        before = (await world.nobody.get("/readyz")).status
        first, second, _ = await poisoned(world)
        shown = await standing(world)
        ready = await world.nobody.get("/readyz")
        metrics = (await world.viewer.get("/metrics")).content.decode()
        listed = await said("parked", "delicate", "--database", str(tmp_path / "jobs.db"), "-o", "json")
        alive = (await world.nobody.get("/healthz")).status, (await world.guest.create()).status

    assert {"job_id": first["id"], "position": 4} == {name: shown["parked"][0][name] for name in ("job_id", "position")}
    assert [2, 0, second["id"]] == [shown["parked_jobs"], shown["lag"], shown["parked"][1]["job_id"]]
    assert shown["parked"][0]["failure"].startswith("ZeroDivisionError in apply, line ")
    assert (200, 503, "unavailable") == (before, ready.status, ready.code)
    assert "delicate" in ready.body["detail"]
    assert 'jobsvc_projection_parked_jobs{projection="delicate"} 2.0' in metrics
    assert (1, shown["parked"]) == (listed.exit_code, json.loads(listed.output)["projections"][0]["parked"])
    assert (200, 201) == alive
    lines = [line for line in log_lines() if line["event"] == "projection.parked"]
    assert [(first["id"], 4), (second["id"], 5)] == [(line["job_id"], line["position"]) for line in lines]


async def test_retried_once_it_is_mended_it_is_as_if_nothing_had_failed(
    delicate: Iterator[Delicate], tmp_path: Path
) -> None:
    """
    In vain while it is not; then one job, then the others; /readyz is green again.
    """
    projection = next(delicate)
    async with started(tmp_path / "jobs.db") as world:
        first, _, third = await poisoned(world)
        path = "/api/projections/delicate/parked"
        vain = await world.operator.post(path, {"act": "retry", "job_id": first["id"]})
        projection.mended = True
        one = await world.operator.post(path, {"act": "retry", "job_id": first["id"], "reason": "mended"})
        none = await world.operator.post(path, {"act": "retry", "job_id": third["id"]})
        rest = await said("parked", "delicate", "--retry", "all", "--database", str(tmp_path / "jobs.db"))
        ready = await world.nobody.get("/readyz")
        rows = await world.service.store.read_rows("delicate", ["job.started", "job.completed"])

    assert (0, 2) == (vain.body["released"], len(vain.body["parked"]))
    assert (1, 1) == (one.body["released"], len(one.body["parked"]))
    assert (404, "not-found") == (none.status, none.code)
    assert (0, "delicate: 1 jobs wait no more\nnothing is parked\n") == (rest.exit_code, rest.output)
    assert 200 == ready.status
    assert [2, 2] == [json.loads(body)["events"] for body in rows.values()]


async def test_a_discarded_event_is_left_out_for_good(delicate: Iterator[Delicate], tmp_path: Path) -> None:
    """
    The job goes on after it, in a stopped file too.
    """
    next(delicate)
    path = str(tmp_path / "jobs.db")
    async with started(tmp_path / "jobs.db") as world:
        first, second, _ = await poisoned(world)
        over_http = await world.operator.post(
            "/api/projections/delicate/parked", {"act": "discard", "job_id": first["id"]}
        )
    stopped = await said("parked", "delicate", "--discard", second["id"], "--database", path, "-o", "json")
    again = await said("parked", "delicate", "--discard", second["id"], "--database", path)
    listed = await said("parked", "--database", path)
    async with started(tmp_path / "jobs.db") as world:
        await caught_up(world)
        rows = await world.service.store.read_rows("delicate", ["job.started", "job.completed"])
        ready = (await world.nobody.get("/readyz")).status

    assert (1, 1) == (over_http.body["released"], len(over_http.body["parked"]))
    assert (0, 1) == (stopped.exit_code, json.loads(stopped.output)["projections"][0]["released"])
    assert (2, 0, "nothing is parked\n") == (again.exit_code, listed.exit_code, listed.output)
    assert {"job.completed": 2} == {key: json.loads(body)["events"] for key, body in rows.items()}
    assert 200 == ready


async def test_a_rebuild_parks_what_it_cannot_take_in(delicate: Iterator[Delicate], tmp_path: Path) -> None:
    """
    It says so; mended, a rebuild has nothing parked. The setting keeps /readyz green meanwhile.
    """
    projection = next(delicate)
    async with started(tmp_path / "jobs.db", ready_in_spite_of_findings=True) as world:
        await poisoned(world)
        ready = (await world.nobody.get("/readyz")).status
        before = await said("rebuild", "delicate", "--database", str(tmp_path / "jobs.db"))
        projection.mended = True
        after = await world.operator.post("/api/projections/delicate/rebuild")
        shown = await standing(world)

    assert (200, 1) == (ready, before.exit_code)
    assert "2 jobs are parked" in before.output
    assert (0, 0, []) == (after.body["parked"], shown["parked_jobs"], shown["parked"])


async def test_more_than_may_be_parked_hold_the_projection_instead(
    delicate: Iterator[Delicate], tmp_path: Path, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The setting bounds it: the projection stands still and says so, and others go on.
    """
    next(delicate)
    monkeypatch.setattr(runner_module, "_RETRY_S", 0.01)
    async with started(tmp_path / "jobs.db", projection_parked_max=1) as world:
        await world.guest.made()
        await world.guest.made()
        await world.worker.claims(max=2)
        async with asyncio.timeout(PATIENCE_S):
            while (held := await standing(world))["failure"] is None:
                assert held["parked_jobs"] <= 1
        ready = await world.nobody.get("/readyz")

    assert "TooManyParked" in held["failure"]
    assert (503, "the projection delicate stands still") == (ready.status, ready.body["detail"])
    assert "projection.held" in {line["event"] for line in log_lines()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none",), "there is no projection 'none'"),
        (("active",), "there is no projection 'active'"),
        (("--retry", "all"), "wants the NAME"),
        (("counts", "--retry", "all", "--discard", "all"), "not both"),
    ],
)
async def test_what_cannot_be_meant_is_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """
    Exit code 2, and the words say why.
    """
    async with started(tmp_path / "jobs.db") as world:
        await world.guest.made()

    result = await said("parked", *arguments, "--database", str(tmp_path / "jobs.db"))

    assert 2 == result.exit_code
    assert words in result.output
