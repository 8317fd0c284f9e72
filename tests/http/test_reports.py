from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.http.client import Grant
from tests.http.world import started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.world import World

ERROR = {"code": "boom", "message": "it did"}


async def granted(world: World, **fields: JSON) -> Grant:
    """
    A new job in the hands of the worker.
    """
    await world.guest.made(**fields)
    return await world.worker.claim(lease_s=60)


async def lapsed(world: World) -> Grant:
    """
    A grant whose lease has run out and whose job waits to be tried again.
    """
    grant = await granted(world)
    world.clock.advance(61)
    await world.guest.settled(
        grant.id, lambda job: bool(job["lost_leases"] == 1 and job["state"] in {"retrying", "queued"})
    )
    return grant


async def test_a_heartbeat_renews_the_lease_and_is_no_event(world: World) -> None:
    """
    200 with the new expiry and whether the job is still wanted; the log does not grow.
    """
    grant = await granted(world, deadline_s=600)
    world.clock.advance(30)

    answer = await world.worker.report(grant, "heartbeat")

    assert 200 == answer.status
    assert {"lease_expires_at", "cancel_requested", "deadline"} == answer.body.keys()
    assert grant.lease_expires_at < answer.body["lease_expires_at"]
    assert (False, grant.job["deadline"]) == (answer.body["cancel_requested"], answer.body["deadline"])
    assert 2 == await world.position()


async def test_progress_is_shown_and_renews_the_lease(world: World) -> None:
    """
    Percent, message and data are on the job as the worker sent them.
    """
    grant = await granted(world)
    world.clock.advance(30)

    answer = await world.worker.report(grant, "progress", percent=40, message="reading", data={"n": 2**70})

    job = await world.guest.settled(grant.id, lambda each: each["progress"] is not None)
    assert (200, True) == (answer.status, grant.lease_expires_at < answer.body["lease_expires_at"])
    assert {"percent": 40.0, "message": "reading", "data": {"n": 2**70}} == job["progress"]


async def test_fast_progress_is_merged_and_the_last_one_counts(world: World) -> None:
    """
    At most two progress events a second; the last report is written before the end.
    """
    grant = await granted(world)

    for percent in range(50):
        await world.worker.report(grant, "progress", percent=percent)
    completed = await world.worker.complete(grant)

    types = await world.guest.types(grant.id)
    assert types.count("job.progressed") <= 10
    assert ["job.progressed", "job.completed"] == types[-2:]
    assert 49 == completed["progress"]["percent"]


async def test_held_progress_is_written_without_another_report(world: World) -> None:
    """
    The latest wins: it is shown within half a second even if the worker then says nothing.
    """
    grant = await granted(world)

    for percent in (1, 2):
        await world.worker.report(grant, "progress", percent=percent)
    job = await world.guest.settled(grant.id, lambda each: bool(each["progress"] and each["progress"]["percent"] == 2))

    assert "running" == job["state"]


async def test_complete_ends_the_job_with_its_result(world: World) -> None:
    """
    200 with the completed job; the result is any JSON, as sent.
    """
    grant = await granted(world)

    answer = await world.worker.report(grant, "complete", result={"n": [2**100, "\u2028"]})

    assert (200, "completed", {"n": [2**100, "\u2028"]}) == (
        answer.status, answer.job["state"], answer.job["result"],
    )  # fmt: skip
    assert (False, None) == (answer.job["active"], answer.job["lease_expires_at"])


async def test_fail_tries_again_while_attempts_are_left(world: World) -> None:
    """
    It is retrying with the error shown, then the next attempt; the last one fails the job.
    """
    grant = await granted(world, max_attempts=2)

    first = await world.worker.report(grant, "fail", error=ERROR, retry_after_s=5)
    world.clock.advance(6)
    (again,) = await world.worker.claims(wait_s=10)
    second = await world.worker.report(again, "fail", error=ERROR, retry_after_s=5)

    assert ("retrying", 1, ERROR) == (first.job["state"], first.job["attempt"], first.job["error"])
    assert (2, grant.id, None) == (again.job["attempt"], again.id, again.job["error"])
    assert ("failed", 2, ERROR, False) == (
        second.job["state"], second.job["attempt"], second.job["error"], second.job["active"],
    )  # fmt: skip


async def test_fail_not_retryable_fails_now(world: World) -> None:
    """
    The worker knows that trying again is no use.
    """
    grant = await granted(world, max_attempts=10)

    answer = await world.worker.report(grant, "fail", error=ERROR, retryable=False)

    assert "failed" == answer.job["state"]


async def test_a_retry_that_would_come_after_the_deadline_is_not_made(world: World) -> None:
    """
    It has failed now, since a later attempt could not help.
    """
    grant = await granted(world, deadline_s=30)

    answer = await world.worker.report(grant, "fail", error=ERROR, retry_after_s=60)

    assert "failed" == answer.job["state"]


async def test_release_gives_the_job_back_unharmed(world: World) -> None:
    """
    It is queued again, the attempt given back.
    """
    grant = await granted(world)

    answer = await world.worker.report(grant, "release")
    again = await world.worker.claim()

    assert ("queued", 0, None, None) == (
        answer.job["state"], answer.job["attempt"], answer.job["worker"], answer.job["started_at"],
    )  # fmt: skip
    assert (1, 0) == (again.job["attempt"], again.job["lost_leases"])


@pytest.mark.parametrize("verb", ["complete", "fail", "release"])
async def test_the_same_report_again_gets_the_first_answer(world: World, verb: str) -> None:
    """
    Whatever happened since: a worker that lost the answer is told the same.
    """
    fields: JSON = {"complete": {"result": 1}, "fail": {"error": ERROR, "retry_after_s": 0}, "release": {}}[verb]
    grant = await granted(world)
    first = await world.worker.report(grant, verb, **fields)
    if verb != "complete":
        (again,) = await world.worker.claims(wait_s=10)
        await world.worker.complete(again, "later")
    before = await world.position()

    second = await world.worker.report(grant, verb, **fields)

    assert (200, first.job) == (second.status, second.job)
    assert before == await world.position()


async def test_the_same_report_again_gets_the_first_answer_over_a_restart(tmp_path: Path) -> None:
    """
    Restarts included: the lease token still counts, and the answer is the same.
    """
    async with started(tmp_path / "jobs.db") as world:
        grant = await granted(world)
        first = await world.worker.complete(grant, {"n": 2**80})

    async with started(tmp_path / "jobs.db") as world:
        second = await world.worker.report(grant, "complete", result={"n": 2**80})

    assert (200, first) == (second.status, second.job)


async def test_a_lease_lives_on_over_a_restart(tmp_path: Path) -> None:
    """
    The service was away, not the worker: the lease has its whole length again and the worker goes on.
    """
    async with started(tmp_path / "jobs.db") as world:
        grant = await granted(world)

    async with started(tmp_path / "jobs.db") as world:
        heartbeat = await world.worker.report(grant, "heartbeat")
        completed = await world.worker.complete(grant, 1)

    assert 200 == heartbeat.status
    assert "completed" == completed["state"]


@pytest.mark.parametrize("verb", ["heartbeat", "progress", "complete", "fail", "release"])
async def test_a_report_under_an_old_fence_is_lease_lost(world: World, verb: str) -> None:
    """
    409 with the job as it stands, for every verb, once somebody else has it.
    """
    old = await lapsed(world)
    (current,) = await world.worker.claims(wait_s=10, worker="w2")

    answer = await world.worker.report(old, verb, **({"error": ERROR} if verb == "fail" else {}))

    assert (409, "lease-lost", "running", "w2") == (
        answer.status, answer.code, answer.job["state"], answer.job["worker"],
    )  # fmt: skip
    assert not answer.body.get("may_complete")
    assert 200 == (await world.worker.report(current, "heartbeat")).status


async def test_a_late_result_is_kept_once_per_digest_and_at_most_eight(world: World) -> None:
    """
    A complete under an old fence is 409, and its result stands in the history.
    """
    old = await lapsed(world)
    await world.worker.claims(wait_s=10, worker="w2", lease_s=600)

    answers = [await world.worker.report(old, "complete", result=n) for n in (0, 0, *range(1, 12))]

    assert [(409, "lease-lost")] * 13 == [(answer.status, answer.code) for answer in answers]
    events = (await world.guest.get(f"/api/jobs/{old.id}/events")).body["events"]
    late = [event["data"]["result"] for event in events if event["type"] == "job.late_result"]
    assert list(range(8)) == late
    job = await world.guest.read(old.id)
    assert ("running", None) == (job["state"], job["result"])


async def test_after_a_lapse_that_nobody_re_claimed_complete_is_accepted(world: World) -> None:
    """
    The work is done; that the lease was over is no reason to do it again.
    """
    grant = await lapsed(world)

    completed = await world.worker.complete(grant, "done")

    assert ("completed", "done", 1) == (completed["state"], completed["result"], completed["lost_leases"])


@pytest.mark.parametrize("verb", ["heartbeat", "progress", "fail", "release"])
async def test_after_a_lapse_other_reports_say_that_complete_may_come(world: World, verb: str) -> None:
    """
    lease-lost with may_complete:true.
    """
    grant = await lapsed(world)

    answer = await world.worker.report(grant, verb, **({"error": ERROR} if verb == "fail" else {}))

    assert (409, "lease-lost", True) == (answer.status, answer.code, answer.body["may_complete"])


async def test_the_third_lost_lease_fails_the_job(world: World) -> None:
    """
    It has failed with error.code worker_lost; each lapse before gave its attempt back.
    """
    job = await world.guest.made()
    grants: list[Grant] = []
    for _ in range(3):
        grants += await world.worker.claims(lease_s=1, wait_s=10)
        world.clock.advance(2)

    ended = await world.guest.reaches(job["id"], "failed")

    assert [1, 1, 1] == [grant.job["attempt"] for grant in grants]
    assert ("worker_lost", 3) == (ended["error"]["code"], ended["lost_leases"])
    assert "lease-lost" == (await world.worker.report(grants[-1], "complete")).code


@pytest.mark.parametrize("change", ["truncated", "other fence", "other job", "nonsense", "empty"])
async def test_a_made_up_lease_token_reports_nothing(world: World, change: str) -> None:
    """
    409 lease-lost, and the job runs on.
    """
    grant = await granted(world)
    await world.guest.made(title="second")
    second = await world.worker.claim()
    token = {
        "truncated": grant.lease_token[:-1],
        "other fence": "2" + grant.lease_token[1:],
        "other job": second.lease_token,
        "nonsense": "nonsense",
        "empty": "",
    }[change]
    before = await world.position()

    answer = await world.worker.report(Grant(grant.job, token, 1, ""), "complete")

    assert (409, "lease-lost") == (answer.status, answer.code)
    assert before == await world.position()


@pytest.mark.parametrize(
    ("verb", "fields", "pointer"),
    [
        ("progress", {"percent": 101}, "/percent"),
        ("progress", {"percent": -1}, "/percent"),
        ("progress", {"percent": "half"}, "/percent"),
        ("progress", {"message": "m" * 1_001}, "/message"),
        ("progress", {"data": "d" * 4_096}, "/data"),
        ("fail", {}, "/error"),
        ("fail", {"error": {"code": ""}}, "/error/code"),
        ("fail", {"error": {"code": "x", "message": "m" * 1_001}}, "/error/message"),
        ("fail", {"error": ERROR, "retry_after_s": -1}, "/retry_after_s"),
        ("heartbeat", {"unknown": 1}, "/unknown"),
        ("complete", {"unknown": 1}, "/unknown"),
        ("release", {"unknown": 1}, "/unknown"),
    ],
)
async def test_a_report_out_of_bounds_is_refused(world: World, verb: str, fields: JSON, pointer: str) -> None:
    """
    422 that says where, and the job is as it was.
    """
    grant = await granted(world)

    answer = await world.worker.report(grant, verb, **fields)

    assert (422, "invalid", pointer) == (answer.status, answer.code, answer.pointer)
    assert 2 == await world.position()


async def test_retry_after_s_is_honoured_as_given(world: World) -> None:
    """
    The job is due exactly so much after the report.
    """
    grant = await granted(world)

    job = (await world.worker.report(grant, "fail", error=ERROR, retry_after_s=1_234.5)).job

    event = (await world.guest.get(f"/api/jobs/{grant.id}/events")).body["events"][-1]
    assert 1_234.5 == seconds_between(event["at"], job["due_at"])


def seconds_between(one: str, other: str) -> float:
    """
    From *one* moment to the *other*.
    """
    from datetime import datetime  # noqa: PLC0415  # used here only

    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds()


async def test_a_report_that_arrives_before_the_sweeper_counts(world: World) -> None:
    """
    The lease is over by the clock, but nobody has said so yet: complete is taken.
    """
    grant = await granted(world)
    world.stop_sweeping()

    world.clock.advance(61)
    answer = await world.worker.report(grant, "complete", result=1)

    assert (200, "completed") == (answer.status, answer.job["state"])


# Several in one request


async def test_several_reports_are_answered_in_order(world: World) -> None:
    """
    Each report on its own: what is wrong with one does not hurt the others.
    """
    grants = [await granted(world) for _ in range(5)]
    verbs: list[JSON] = [
        {"report": "heartbeat"},
        {"report": "progress", "percent": 5},
        {"report": "complete", "result": {"n": 2**70}},
        {"report": "fail", "error": ERROR, "retryable": False},
        {"report": "release"},
    ]
    reports = [
        {"job_id": grant.id, "lease_token": grant.lease_token, **verb}
        for grant, verb in zip(grants, verbs, strict=True)
    ]
    reports += [
        {"job_id": grants[0].id, "lease_token": "nonsense", "report": "complete"},
        {"job_id": "01890000-0000-7000-8000-000000000000", "lease_token": "1.x", "report": "complete"},
        {"job_id": grants[0].id, "lease_token": grants[0].lease_token, "report": "dance"},
        {"job_id": grants[0].id, "lease_token": grants[0].lease_token, "report": "progress", "percent": 101},
    ]

    answer = await world.worker.post("/api/worker/reports", {"reports": reports})

    results = answer.body["results"]
    assert 200 == answer.status
    assert [200, 200, 200, 200, 200, 409, 404, 422, 422] == [result["status"] for result in results]
    assert "lease_expires_at" in results[0]
    assert ["completed", "failed", "queued"] == [result["job"]["state"] for result in results[2:5]]
    assert {"n": 2**70} == results[2]["job"]["result"]
    assert ["lease-lost", "not-found", "invalid", "invalid"] == [result["code"] for result in results[5:]]


async def test_the_same_reports_again_get_the_same_answers(world: World) -> None:
    """
    A worker that repeats a request of reports whose answer was lost does no harm.
    """
    grants = [await granted(world) for _ in range(3)]
    body = {
        "reports": [
            {"job_id": grant.id, "lease_token": grant.lease_token, "report": "complete", "result": n}
            for n, grant in enumerate(grants)
        ]
    }
    first = await world.worker.post("/api/worker/reports", body)
    before = await world.position()

    second = await world.worker.post("/api/worker/reports", body)

    assert first.body == second.body
    assert before == await world.position()


async def test_more_than_five_hundred_reports_are_too_many(world: World) -> None:
    """
    413 for the whole.
    """
    body = {"reports": [{"job_id": "x", "lease_token": "x", "report": "heartbeat"}] * 501}

    answer = await world.worker.post("/api/worker/reports", body)

    assert (413, "too-large") == (answer.status, answer.code)


async def test_of_two_that_complete_at_once_one_wins(world: World) -> None:
    """
    Two different results under one lease: one completes the job, the other is told so.
    """
    grant = await granted(world)

    answers = await asyncio.gather(*(world.worker.report(grant, "complete", result=n) for n in range(10)))

    job = await world.guest.read(grant.id)
    assert [200] + [409] * 9 == sorted(answer.status for answer in answers)
    (won,) = [n for n, answer in enumerate(answers) if answer.status == 200]
    assert won == job["result"]


async def test_a_heartbeat_before_the_end_in_one_request_tells_its_lease(world: World) -> None:
    """
    Each report is answered as of its own place in the request.
    """
    grant = await granted(world)
    reports = [
        {"job_id": grant.id, "lease_token": grant.lease_token, "report": "heartbeat"},
        {"job_id": grant.id, "lease_token": grant.lease_token, "report": "complete", "result": 1},
    ]

    answer = await world.worker.post("/api/worker/reports", {"reports": reports})

    heartbeat, completed = answer.body["results"]
    assert heartbeat["lease_expires_at"] is not None
    assert "completed" == completed["job"]["state"]
