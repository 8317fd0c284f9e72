"""
What was, what changed and which event made it so, from the command line: on a stopped log and beside a running service.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.moments import rfc3339
from jobsvc.operate.past import active_at
from jobsvc.operate.places import parse_place, position_of
from jobsvc.resource import encode, job_resource
from jobsvc.store.sqlite import SqliteStore
from projections.active import Active
from projections.runner import replay
from tests.http.world import started
from tests.store.histories import History, job_id
from tests.system.logs import fill, jobsvc, looking_at, said, select, write_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import JSON

UNKNOWN = "01890000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log that the service wrote; nobody may change it.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(write_log(path))
    return path


def asked(log: Path, *arguments: str) -> JSON:
    """
    What a verb with these arguments prints as JSON.
    """
    result = jobsvc(*arguments, "--database", str(log), "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def last_position(log: Path) -> int:
    """
    Of the newest event.
    """
    ((position,),) = select(log, "SELECT position FROM head")
    return int(position)


async def folded(log: Path, position: int) -> dict[str, JSON]:
    """
    The active jobs at *position* by a replay of the view, by id.
    """
    async with looking_at(log) as store:
        rows = (await replay(store, Active(), until=position)).rows
    return {job_id: json.loads(encode(job_resource(job))) for job_id, job in sorted(rows.items())}


async def test_the_active_jobs_are_those_of_a_replay_at_every_position(log: Path) -> None:
    """
    ``{position, jobs}``, by id, as folded from the log; beyond its end, as at its end.
    """
    last = last_position(log)

    answers = [
        await asyncio.to_thread(asked, log, "state-at", "--active", str(position)) for position in range(last + 2)
    ]

    assert [*range(last + 1), last] == [answer["position"] for answer in answers]
    for answer in answers:
        assert list((await folded(log, answer["position"])).values()) == answer["jobs"]


async def test_a_job_is_as_it_was_at_every_position(log: Path) -> None:
    """
    Each version of it from its event on, nothing before its birth, and its end for ever.
    """
    ((whose,),) = select(log, "SELECT job_id FROM events WHERE type = 'job.progressed'")
    positions = [row[0] for row in select(log, "SELECT position FROM events WHERE job_id = ? ORDER BY version", whose)]

    for position in range(last_position(log) + 1):
        answer = await asyncio.to_thread(asked, log, "state-at", whose, str(position))

        expected = [version for version, at in enumerate(positions, start=1) if at <= position]
        assert position == answer["position"]
        assert expected[-1:] == [job["version"] for job in answer["jobs"]]


async def test_it_reads_beside_a_running_service(tmp_path: Path) -> None:
    """
    Each of the verbs answers while a service holds the file.
    """
    path = str(tmp_path / "jobs.db")
    async with started(tmp_path / "jobs.db") as world:
        await fill(world)
        job = (await world.operator.active())[0]

        ended = [
            await said(*arguments, "--database", path)
            for arguments in (
                ("state-at", "--active", "9"),
                ("state-at", job["id"], "9"),
                ("diff", "1", "9"),
                ("bisect", "active>1"),
                ("explain", job["id"]),
                ("explain", "--url", "https://x.com/a/status/1", "--url", "https://x.com/b/status/1"),
            )
        ]

    assert [0] * 6 == [each.exit_code for each in ended], [each.output for each in ended]


async def test_a_time_means_the_last_event_that_was_not_later(log: Path) -> None:
    """
    For each event's own moment and those right before and after it, what a look at every event gives.
    """
    moments = [row[0] for row in select(log, "SELECT at FROM events ORDER BY position")]

    async with looking_at(log) as store:
        for moment in sorted({each + by for each in moments for by in (-1, 0, 1)}):
            place = parse_place(rfc3339(moment))

            assert sum(at <= moment for at in moments) == await position_of(store, place)


async def test_an_owner_s_active_jobs_follow_them_from_hand_to_hand(tmp_path: Path) -> None:
    """
    At every position those that were the owner's then, whatever happened to them later.
    """
    history = History()
    for number, owner in enumerate(["guest:g", "guest:g", "user:u"]):
        history.create(number, owner=owner)
    history.start(1)
    history.move(0, owner="user:u")
    history.complete(1)
    history.move(1, owner="user:u")
    history.create(4, owner="guest:h")
    async with AsyncExitStack() as stack:
        store = SqliteStore(tmp_path / "jobs.db")
        await store.open()
        stack.push_async_callback(store.close)
        await store.append(history.batch(), decided_at=0)

        for owner in ("guest:g", "user:u", "guest:h"):
            for position in range(history.position + 1):
                found = [job async for job in active_at(store, position, owner=owner)]

                jobs = history.jobs_at(position)
                assert [jobs[each] for each in sorted(jobs) if jobs[each].active and jobs[each].owner == owner] == found
        assert [job_id(2)] == [job.id async for job in active_at(store, 3, after=job_id(1))]


async def test_a_difference_leads_from_the_one_state_to_the_other(log: Path) -> None:
    """
    Between any two positions: what was made and what ended add up to the active jobs, and every field that is told of
    had that value before and has this one after.
    """
    last = last_position(log)
    states = [await folded(log, position) for position in range(last + 1)]

    for since, until in list(combinations_with_replacement(range(last + 1), 2))[::5]:
        found = await asyncio.to_thread(asked, log, "diff", str(until), str(since))

        made = {one["job_id"] for one in found["jobs"] if one["made"]}
        ended = {one["job_id"] for one in found["jobs"] if one["ended"]}
        assert (since, until) == (found["since"], found["until"])
        assert states[until].keys() == (states[since].keys() | made) - ended
        assert sorted(one["position"] for one in found["jobs"]) == [one["position"] for one in found["jobs"]]
        for one in found["jobs"]:
            for name, change in one["fields"].items():
                assert change["before"] == states[since].get(one["job_id"], {}).get(name)
                assert one["ended"] or change["after"] == states[until][one["job_id"]][name]


def test_a_bisect_finds_what_made_it_so(log: Path) -> None:
    """
    The first event and the last after which the comparison holds and before which it did not, among so many.
    """
    last = last_position(log)
    counts = [len(asked(log, "state-at", "--active", str(position))["jobs"]) for position in range(last + 1)]
    turns = [at for at in range(1, last + 1) if counts[at] >= 3 > counts[at - 1]]

    whole = asked(log, "bisect", "active>=3")
    part = asked(log, "bisect", "active >= 3", "--since", str(turns[0]), "--until", str(last))

    assert [turns[0], turns[-1], len(turns)] == [whole["first"]["position"], whole["last"]["position"], whole["turns"]]
    assert (2, 3) == (whole["first"]["before"], whole["first"]["after"])
    assert len(turns) - 1 == part["turns"]
    assert whole["holds"] == (counts[last] >= 3)


@pytest.mark.parametrize(
    ("predicate", "type"),
    [
        ("state=completed", "job.completed"),
        ("active=false", "job.completed"),
        ("progress.percent>=40", "job.progressed"),
        ("worker=w1", "job.started"),
        ("worker!=null", "job.started"),
        ("started_at>2020", "job.started"),
        ("key=done-0", "job.created"),
    ],
)
def test_a_bisect_of_a_job_compares_any_of_its_fields(log: Path, predicate: str, type: str) -> None:
    """
    Words, numbers, true, false, null and moments, as the job's resource shows them.
    """
    ((whose,),) = select(log, "SELECT job_id FROM events WHERE type = 'job.progressed'")

    found = asked(log, "bisect", "--job", whose, predicate)

    assert (1, type) == (found["turns"], found["first"]["type"])
    assert found["first"] == found["last"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("state-at", "5"), 2),
        (("state-at", "--active", UNKNOWN, "5"), 2),
        (("state-at", "no-id", "5"), 2),
        (("state-at", "--active", "yesterday"), 2),
        (("state-at", "--active", "2026-11-24T06:46:39"), 2),
        (("state-at", UNKNOWN, "5"), 1),
        (("diff", "1"), 2),
        (("diff", "1", "soon"), 2),
        (("bisect", "active"), 2),
        (("bisect", "active>=many"), 2),
        (("bisect", "state=failed"), 2),
        (("bisect", "--job", UNKNOWN, "__class__=x"), 2),
        (("bisect", "--job", UNKNOWN, "input=1"), 2),
        (("bisect", "--job", UNKNOWN, "state=failed"), 1),
        (("bisect", "active>=100"), 1),
        (("explain",), 2),
        (("explain", "no-id"), 2),
        (("explain", UNKNOWN), 1),
        (("explain", "--url", "https://x.com/a"), 2),
        (("explain", "--url", "https://x.com/a", "--url", "no address"), 2),
        (("explain", UNKNOWN, "--url", "https://x.com/a", "--url", "https://x.com/b"), 2),
    ],
)
def test_wrong_usage_is_told_apart_from_finding_nothing(log: Path, arguments: tuple[str, ...], code: int) -> None:
    """
    2 for what cannot be asked, 1 for what is not there or never became so.
    """
    result = jobsvc(*arguments, "--database", str(log))

    assert code == result.exit_code, result.output


def test_an_explanation_is_sentences_with_their_positions(log: Path) -> None:
    """
    ``{job_id, position, sentences}``, and as text a heading for each question.
    """
    ((whose,),) = select(log, "SELECT job_id FROM events WHERE type = 'job.progressed'")
    positions = [row[0] for row in select(log, "SELECT position FROM events WHERE job_id = ? ORDER BY version", whose)]

    found = asked(log, "explain", whose)
    then = asked(log, "explain", whose, "--as-of", str(positions[1]))
    text = jobsvc("explain", whose, "--database", str(log)).output

    assert (whose, last_position(log)) == (found["job_id"], found["position"])
    assert ["why_ended", "why_this_job", "which_rule"] == [each["question"] for each in found["sentences"]][:3]
    assert [positions[1], positions[3]] == found["sentences"][0]["positions"]
    assert ("why_active", [positions[1]]) == (then["sentences"][0]["question"], then["sentences"][0]["positions"])
    assert f"Why did it end?\n  {found['sentences'][0]['sentence']}  [{positions[1]}, {positions[3]}]\n" in text


def test_two_urls_are_explained_with_the_jobs_that_were_made_of_them(log: Path) -> None:
    """
    A rule for each profile in use, or for that of a kind, and the births of the jobs with such a key.
    """
    urls = ("--url", "https://example.org/a", "--url", "HTTPS://EXAMPLE.org:443/%61#b")
    ((birth,),) = select(log, "SELECT min(position) FROM events WHERE owner = 'user:carol'")

    every = asked(log, "explain", *urls)
    one = asked(log, "explain", *urls, "--kind", "work")

    assert ["default", "x-post"] == [rule["profile"] for rule in every["rules"]]
    assert [{"profile": "default", "rule_version": 1, "keys": ["https://example.org/a"] * 2, "same": True}] == one[
        "rules"
    ]
    assert [[birth]] == [each["positions"] for each in one["sentences"]]
