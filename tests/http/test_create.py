from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from tests.http.client import JSON
    from tests.http.world import World

FIELDS = {
    "id", "kind", "state", "active", "version", "position", "owner", "key", "url", "title", "input", "metadata",
    "priority", "progress", "attempt", "max_attempts", "lost_leases", "cancel_requested", "result", "error", "reason",
    "retry_of", "superseded_by", "followed_by", "follows", "created_at", "run_at", "started_at", "finished_at",
    "due_at", "deadline", "lease_expires_at", "worker",
}  # fmt: skip


async def test_a_new_job_is_answered_201_whole_and_with_its_location(world: World) -> None:
    """
    A create of new work answers 201, where the job is, and the whole job.
    """
    guest = world.guest

    answer = await guest.create(kind="x-post", url="https://x.com/a/status/1?s=20", title="A post", input={"a": 1})

    assert 201 == answer.status
    job = answer.job
    assert f"/api/jobs/{job['id']}" == answer.headers["Location"]
    assert FIELDS == job.keys()
    assert 7 == UUID(job["id"]).version
    assert ("queued", True, 1, 1, guest.owner) == (
        job["state"], job["active"], job["version"], job["position"], job["owner"],
    )  # fmt: skip
    assert ("x:post:1", "https://x.com/a/status/1?s=20", "A post") == (job["key"], job["url"], job["title"])
    assert ({"a": 1}, {}, 0, 0, 3) == (
        job["input"], job["metadata"], job["priority"], job["attempt"], job["max_attempts"],
    )  # fmt: skip


async def test_the_answer_beside_the_job_says_how_to_follow_it(world: World) -> None:
    """
    The body has the cursor to resume from and links to the job, its events and its stream.
    """
    guest = world.guest

    body = (await guest.create()).body

    job_id = body["job"]["id"]
    assert {"job", "deduplicated", "dedup_reason", "input_differs", "cursor", "links"} == body.keys()
    assert (False, None, False) == (body["deduplicated"], body["dedup_reason"], body["input_differs"])
    assert f"{(await world.head())['epoch']}.1" == body["cursor"]
    assert {"self", "events", "stream"} == body["links"].keys()
    assert 200 == (await guest.get(body["links"]["self"])).status
    assert 200 == (await guest.get(body["links"]["events"])).status
    async with guest.stream(body["links"]["stream"].partition("?")[0], job=job_id) as frames:
        assert "hello" == (await frames.next()).event


async def test_times_are_utc_with_microseconds(world: World) -> None:
    """
    Every moment is RFC 3339 in UTC with six digits.
    """
    guest = world.guest

    job = await guest.made(deadline_s=60.5)

    created_at, deadline = datetime.fromisoformat(job["created_at"]), datetime.fromisoformat(job["deadline"])
    assert timedelta(seconds=60.5) == deadline - created_at
    for text in (job["created_at"], job["deadline"]):
        assert len("2026-11-24T06:46:39.000000Z") == len(text)
        assert text.endswith("Z")


async def test_a_job_with_run_at_is_scheduled_until_then(world: World) -> None:
    """
    A job for later waits as scheduled, is not claimable, and is queued when its time comes.
    """
    later = datetime.fromtimestamp(world.clock.now() / 1e6).astimezone() + timedelta(hours=1)
    job = await world.guest.made(run_at=later.isoformat(), deadline_s=60)

    grants_before = await world.worker.claims()
    world.clock.advance(3_601)
    queued = await world.guest.reaches(job["id"], "queued")

    assert "scheduled" == job["state"]
    assert later == datetime.fromisoformat(job["run_at"]) == datetime.fromisoformat(job["due_at"])
    assert later + timedelta(seconds=60) == datetime.fromisoformat(job["deadline"])
    assert [] == grants_before
    assert queued["due_at"] is None


async def test_a_run_at_in_the_past_starts_at_once(world: World) -> None:
    """
    A moment that has passed does not hold a job back.
    """
    run_at = "2020-01-01T00:00:00Z"

    job = await world.guest.made(run_at=run_at)

    assert "queued" == job["state"]
    assert "2020-01-01T00:00:00.000000Z" == job["run_at"]


async def test_a_job_past_its_deadline_expires(world: World) -> None:
    """
    Work that nobody wants any more ends by itself as expired.
    """
    job = await world.guest.made(deadline_s=5)

    world.clock.advance(6)
    ended = await world.guest.reaches(job["id"], "expired")

    assert (False, "deadline") == (ended["active"], ended["reason"])


async def test_a_job_not_started_in_time_expires(world: World) -> None:
    """
    start_within_s bounds the first start.
    """
    job = await world.guest.made(start_within_s=5)

    world.clock.advance(6)
    ended = await world.guest.reaches(job["id"], "expired")

    assert "not_started" == ended["reason"]


async def test_start_within_s_bounds_the_first_start_only(world: World) -> None:
    """
    A job that was started in time does not expire when it is tried again later.
    """
    job = await world.guest.made(start_within_s=5)
    grant = await world.worker.claim(lease_s=100)
    await world.worker.report(grant, "fail", error={"code": "x"}, retry_after_s=20)

    world.clock.advance(21)
    again = await world.guest.reaches(job["id"], "queued")

    assert again["active"]


async def test_a_job_that_nobody_ever_claims_does_not_stay(world: World) -> None:
    """
    After active_max_s a job expires whoever forgot it.
    """
    job = await world.guest.made()

    world.clock.advance(7 * 86_400 + 1)
    ended = await world.guest.reaches(job["id"], "expired")

    assert not ended["active"]
    assert [] == await world.guest.active()


async def test_input_comes_back_exactly_as_it_was_sent(world: World) -> None:
    """
    Integers beyond 64 bits, long decimals and the order of fields survive the way in and out.
    """
    sent = b'"input":{"z":123456789012345678901234567890,"a":0.1000000000000000055511151231257827,"n":-0,"e":1E400}'
    content = b'{"kind":"work",' + sent + b"}"

    created = await world.guest.send("POST", "/api/jobs", content=content, headers={"Content-Type": "application/json"})
    read = await world.guest.get(f"/api/jobs/{created.job['id']}")

    assert sent in created.content
    assert sent in read.content


async def test_input_may_be_any_json(world: World) -> None:
    """
    Input is the caller's own: a list, a number or null as well as an object.
    """
    inputs: list[JSON] = [[1, "two"], 3, "four", None, True, {}]

    jobs = [await world.guest.made(input=given) for given in inputs]

    assert inputs == [job["input"] for job in jobs]


async def test_metadata_comes_back_and_is_an_object(world: World) -> None:
    """
    Metadata is kept as sent, and anything but an object is refused.
    """
    kept = await world.guest.made(metadata={"origin": "share sheet"})
    refused = await world.guest.create(metadata=["no"])

    assert {"origin": "share sheet"} == kept["metadata"]
    assert (422, "invalid", "/metadata") == (refused.status, refused.code, refused.pointer)


async def test_with_neither_url_nor_key_nothing_is_deduplicated(world: World) -> None:
    """
    Work that names nothing is new every time.
    """
    first = await world.guest.made()

    second = await world.guest.made()

    assert first["id"] != second["id"]
    assert (None, None) == (first["key"], second["url"])


async def test_with_both_key_decides_and_url_is_kept(world: World) -> None:
    """
    A key given by the caller wins over the one that its URL would make.
    """
    job = await world.guest.made(url="https://example.com/a", key="mine")

    assert ("mine", "https://example.com/a") == (job["key"], job["url"])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"unknown": 1}, "/unknown"),
        ({"dedup": {"unknown": 1}}, "/dedup/unknown"),
        ({"kind": "UPPER"}, "/kind"),
        ({"kind": ""}, "/kind"),
        ({"kind": "a" * 65}, "/kind"),
        ({"kind": None}, "/kind"),
        ({"url": "ftp://example.com/"}, "/url"),
        ({"url": "https://user:pass@example.com/"}, "/url"),
        ({"url": "nonsense"}, "/url"),
        ({"url": "https://example.com/" + "a" * 2_048}, "/url"),
        ({"key": ""}, "/key"),
        ({"key": "k" * 2_049}, "/key"),
        ({"title": "t" * 201}, "/title"),
        ({"title": 1}, "/title"),
        ({"metadata": {"m": "m" * 16_384}}, "/metadata"),
        ({"priority": 1.5}, "/priority"),
        ({"priority": -101}, "/priority"),
        ({"priority": 1}, "/priority"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": "2026-01-01T00:00:00"}, "/run_at"),
        ({"run_at": "2126-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "0001-01-01T00:00:00+23:59"}, "/run_at"),
        ({"run_at": "9999-12-31T23:59:59-23:59"}, "/run_at"),
        ({"deadline_s": 0}, "/deadline_s"),
        ({"deadline_s": 1e308}, "/deadline_s"),
        ({"deadline_s": -1}, "/deadline_s"),
        ({"deadline_s": "60"}, "/deadline_s"),
        ({"start_within_s": 0}, "/start_within_s"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"max_attempts": 11}, "/max_attempts"),
        ({"dedup": {"on_active": "ignore"}}, "/dedup/on_active"),
        ({"dedup": {"on_completed": "attach"}}, "/dedup/on_completed"),
        ({"dedup": {"on_completed": "reuse", "max_age_s": -1}}, "/dedup/max_age_s"),
        ({"owner": "guest:bob"}, None),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    world: World, fields: JSON, pointer: str | None
) -> None:
    """
    A body out of bounds is a problem that says where, and the log stays as it was.
    """
    guest = world.guest

    answer = await guest.create(**fields)

    if pointer is None:
        assert (403, "access-denied") == (answer.status, answer.code)
    else:
        assert (422, "invalid", pointer) == (answer.status, answer.code, answer.pointer)
    assert 0 == await world.position()


async def test_kind_is_required(world: World) -> None:
    """
    A job without a kind is no job.
    """
    answer = await world.guest.post("/api/jobs", {})

    assert (422, "invalid") == (answer.status, answer.code)
    assert "kind" in answer.body["detail"]


async def test_a_trusted_role_may_ask_for_more_than_a_guest(world: World) -> None:
    """
    Bounds on priority, attempts and schedule are a guest's and a user's; a service and an operator go further.
    """
    fields: dict[str, JSON] = {
        "priority": 100,
        "max_attempts": 11,
        "run_at": "2126-01-01T00:00:00Z",
        "owner": "user:carol",
    }

    answers = [await caller.create(**fields) for caller in (world.backend, world.operator)]

    assert [201, 201] == [answer.status for answer in answers]
    assert {"user:carol"} == {answer.job["owner"] for answer in answers}


async def test_the_farthest_moment_can_be_shown_everywhere(world: World) -> None:
    """
    A trusted caller's schedule at the end of time breaks no list, history or log; beyond it is refused.
    """
    farthest = {"run_at": "9899-12-31T23:59:59Z", "deadline_s": 315_360_000, "start_within_s": 315_360_000}
    job = await world.operator.made(owner=world.guest.owner, **farthest)

    beyond = await world.operator.create(owner=world.guest.owner, run_at="9900-01-01T00:00:00Z")
    shown = [
        await world.operator.get(path)
        for path in (
            f"/api/jobs/{job['id']}",
            f"/api/jobs/{job['id']}/events",
            "/api/jobs",
            "/api/jobs/active",
            "/api/log",
        )
    ]

    assert (422, "/run_at") == (beyond.status, beyond.pointer)
    assert [200] * 5 == [answer.status for answer in shown]


async def test_a_service_names_the_owner_it_acts_for(world: World) -> None:
    """
    A service without an owner is refused, and with one it makes that owner's job.
    """
    without = await world.backend.create()
    nonsense = await world.backend.create(owner="worker:w1")
    job = await world.backend.made(owner=world.guest.owner)

    assert (422, "invalid", "/owner") == (without.status, without.code, without.pointer)
    assert (422, "/owner") == (nonsense.status, nonsense.pointer)
    assert [job["id"]] == [each["id"] for each in await world.guest.active()]
