"""
A log is replayed from the command line: any view, any projection of a user's own, up to any place.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.events import Event, Payload, Started
from jobsvc.domain.moments import rfc3339
from jobsvc.store.seam import Batch
from jobsvc.store.sqlite import SqliteStore
from projections.active import Active
from projections.runner import replay
from tests.http.world import started
from tests.system.logs import copied, fill, jobsvc, looking_at, said, select, without_lease, write_log

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from tests.http.client import JSON

OWN = "tests.system.own_projection"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log that the service wrote; nobody may change it.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(write_log(path))
    return path


def replayed(log: Path, *arguments: str) -> JSON:
    """
    What a replay with these arguments prints as JSON.
    """
    result = jobsvc("replay", "--database", str(log), "-o", "json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def last_position(log: Path) -> int:
    """
    Of the newest event.
    """
    ((position,),) = select(log, "SELECT position FROM head")
    return int(position)


async def test_active_is_replayed_while_the_service_runs(tmp_path: Path) -> None:
    """
    ``{projection, position, rows}``, and the rows of active are the jobs that the service lists.
    """
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        listed, head = await world.operator.active(), await world.head()

        printed: Result = await said("replay", "--database", str(tmp_path / "jobs.db"), "-o", "json")

    answer = json.loads(printed.output)
    assert {"projection", "position", "rows"} == answer.keys()
    assert ("active", head["position"]) == (answer["projection"], answer["position"])
    assert without_lease(listed) == without_lease(answer["rows"])
    assert {None} == {job["lease_expires_at"] for job in answer["rows"]}


async def test_until_a_position_it_is_as_it_was_then(log: Path) -> None:
    """
    At every position of the log, the rows are those of a fold up to there; beyond its end, those of its end.
    """
    last = last_position(log)
    async with looking_at(log) as store:
        expected = [(await replay(store, Active(), until=position)).rows.keys() for position in range(last + 1)]

    answers = [await said("replay", "--database", str(log), "-o", "json", "--until", str(n)) for n in range(last + 1)]
    beyond = await said("replay", "--database", str(log), "-o", "json", "--until", "9" * 30)

    told = [json.loads(answer.output) for answer in answers]
    assert list(range(last + 1)) == [answer["position"] for answer in told]
    assert expected == [{job["id"]: None for job in answer["rows"]}.keys() for answer in told]
    assert told[-1] == json.loads(beyond.output)


def test_until_a_time_it_is_as_it_was_then(log: Path) -> None:
    """
    What happened at that very moment is in it; a moment before the first event there is nothing.
    """
    ((at, upto),) = select(
        log,
        "SELECT at, (SELECT max(position) FROM events WHERE at <= e.at) FROM events AS e WHERE position = 6",
    )
    ((first,),) = select(log, "SELECT at FROM events WHERE position = 1")

    then = replayed(log, "--until", rfc3339(at))
    before = replayed(log, "--until", rfc3339(first - 1))

    assert then == replayed(log, "--until", str(upto))
    assert (0, []) == (before["position"], before["rows"])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("keys", {"job_id", "owner", "kind", "key"}),
        ("history", {"job_id", "owner", "kind", "key", "state", "created_at", "finished_at"}),
        ("counts", {"key", "row"}),
    ],
)
def test_each_view_is_replayed_by_its_name(log: Path, name: str, fields: set[str]) -> None:
    """
    The projections that ship with the service are known by name.
    """
    answer = replayed(log, "--projection", name)

    assert (name, last_position(log)) == (answer["projection"], answer["position"])
    assert answer["rows"]
    assert all(fields == row.keys() for row in answer["rows"])


def test_a_projection_of_ones_own_is_replayed(log: Path) -> None:
    """
    A class of fifteen lines, named package.module:Class, is all that it takes.
    """
    ((completed,),) = select(log, "SELECT count(*) FROM events WHERE type = 'job.completed'")

    answer = replayed(log, "--projection", f"{OWN}:FinishedByDay")
    nameless = replayed(log, "--projection", f"{OWN}:Nameless", "--until", "3")

    assert "finished" == answer["projection"]
    assert completed == sum(row["row"] for row in answer["rows"])
    assert ("Nameless", [1, 2, 3]) == (nameless["projection"], [row["row"] for row in nameless["rows"]])


def test_as_text_each_row_is_a_line(log: Path) -> None:
    """
    Rows go to standard output, one a line; how many there are, and as of which position, goes beside it.
    """
    result = jobsvc("replay", "--database", str(log), "--projection", "counts")

    lines = result.stdout.splitlines()
    assert 0 == result.exit_code
    assert all(json.loads(line)["key"].startswith("job.") for line in lines)
    assert f"counts as of position {last_position(log)}: {len(lines)} rows\n" == result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--projection", "none"), "there are active, keys, history, counts, or package.module:Class"),
        (("--projection", "no.such.module:Class"), "cannot be loaded"),
        (("--projection", f"{OWN}:Missing"), "cannot be loaded"),
        (("--projection", f"{OWN}:NoProjection"), "has no apply"),
        (("--until", "yesterday"), "a position or a time"),
        (("--until", "2026-11-24T06:46:39"), "a position or a time"),
        (("--until", "-1"), "a position or a time"),
    ],
)
def test_what_cannot_be_replayed_is_wrong_usage(log: Path, arguments: tuple[str, ...], words: str) -> None:
    """
    Exit code 2, and the words say what would do.
    """
    result = jobsvc("replay", "--database", str(log), *arguments)

    assert 2 == result.exit_code, result.output
    assert words in result.output


def test_a_log_that_there_is_not_is_wrong_usage(tmp_path: Path) -> None:
    """
    Exit code 2; nothing is made.
    """
    result = jobsvc("replay", "--database", str(tmp_path / "none.db"))

    assert 2 == result.exit_code
    assert [] == list(tmp_path.iterdir())


# Against today's machine


def test_what_the_service_wrote_its_machine_would_write_again(log: Path) -> None:
    """
    Exit code 0 and nothing listed.
    """
    plain = jobsvc("replay", "--database", str(log), "--check-machine")
    told = jobsvc("replay", "--database", str(log), "--check-machine", "-o", "json")

    assert (0, 0) == (plain.exit_code, told.exit_code)
    assert "today's state machine would record the same log\n" == plain.output
    assert {"refused": []} == json.loads(told.output)


async def test_an_event_that_todays_machine_would_refuse_is_listed(log: Path, tmp_path: Path) -> None:
    """
    A log may hold what another version allowed: the position, type, job and state are told, and the exit code is 1.
    """
    copy = copied(log, tmp_path / "jobs.db")
    ((job_id, version),) = select(
        copy,
        "SELECT h.job_id, max(e.version) FROM history AS h JOIN events AS e USING (job_id) WHERE h.state = 'failed'",
    )
    store = SqliteStore(copy)
    head = (await store.open()).head
    facts = Started(fence=9, attempt=9, lease_us=1, worker="w1")
    event = Event(head.position + 1, job_id, version + 1, head.at, facts, Payload(actor="worker:w1"))
    await store.append(Batch([event], ["guest:ann"]), decided_at=head.position)
    await store.close()

    plain = await said("replay", "--database", str(copy), "--check-machine")
    told = await said("replay", "--database", str(copy), "--check-machine", "-o", "json")

    assert (1, 1) == (plain.exit_code, told.exit_code)
    assert f"{head.position + 1}: job.started of {job_id}, which was failed" in plain.output
    assert [{"position": head.position + 1, "job_id": job_id, "type": "job.started", "state": "failed"}] == json.loads(
        told.stdout
    )["refused"]
