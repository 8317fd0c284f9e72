from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.moments import rfc3339
from jobsvc.http.revocations import Revocation
from jobsvc.tokens import issue
from tests.http.client import until
from tests.http.world import SECRET, World, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import JSON, Answer, Caller
    from tests.http.conftest import Starter


async def revoke(world: World, **fields: JSON) -> Answer:
    """
    The operator's revocation.
    """
    return await world.operator.post("/api/operator/revoke", {"reason": "left", **fields})


def with_id(world: World, token_id: str, *, subject: str = "w9") -> Caller:
    """
    A worker whose token has that id.
    """
    now = world.clock.now()
    return world.with_token(issue(SECRET, "worker", subject=subject, ttl_s=3_600, now=now, token_id=token_id))


@asynccontextmanager
async def restarted(database: Path) -> AsyncIterator[World]:
    """
    A service on a log that another has served before.
    """
    async with started(database) as world:
        yield world


async def test_a_revoked_subject_is_nobody_from_that_moment_on(world: World) -> None:
    """
    Tokens that were in use and tokens never seen before: 401 both, and nobody else is touched.
    """
    unseen = world.caller("guest", "ann", ttl_s=60)
    before = await world.guest.get("/api/jobs/active")

    answer = await revoke(world, subject="guest:ann")

    after = [await caller.get("/api/jobs/active") for caller in (world.guest, unseen, world.stranger)]
    assert (200, 200, "guest:ann") == (before.status, answer.status, answer.body["revoked"])
    assert [(401, "unauthenticated"), (401, "unauthenticated")] == [(each.status, each.code) for each in after[:2]]
    assert 200 == after[2].status


async def test_a_name_is_revoked_in_one_role_only(world: World) -> None:
    """
    A worker and a service of the same name are two; a revocation says which.
    """
    namesake = world.caller("service", "w1")

    await revoke(world, subject="worker:w1")

    assert 401 == (await world.worker.post("/api/worker/claim", {"kinds": ["x"]})).status
    assert 200 == (await namesake.get("/api/jobs/active", owner="guest:ann")).status


async def test_one_token_is_revoked_by_its_id(world: World) -> None:
    """
    The subject's other tokens go on.
    """
    lost, kept = with_id(world, "lost"), with_id(world, "kept")
    await lost.post("/api/worker/claim", {"kinds": ["x"]})

    answer = await revoke(world, token_id="lost")

    answers = [await caller.post("/api/worker/claim", {"kinds": ["x"]}) for caller in (lost, kept)]
    assert "jti:lost" == answer.body["revoked"]
    assert [401, 204] == [each.status for each in answers]


async def test_tokens_issued_after_the_moment_go_on(world: World) -> None:
    """
    With issued_before a subject's new tokens count, so that somebody whose token was lost can have another.
    """
    world.clock.advance(10)
    moment = rfc3339(world.clock.now())
    world.clock.advance(10)
    newer = world.caller("guest", "ann")

    await revoke(world, subject="guest:ann", issued_before=moment)

    assert [401, 200] == [(await caller.get("/api/jobs")).status for caller in (world.guest, newer)]


async def test_a_narrower_revocation_undoes_no_wider_one(world: World) -> None:
    """
    Who was revoked for good stays so, whatever is revoked later.
    """
    await revoke(world, subject="guest:ann")
    await revoke(world, subject="guest:ann", issued_before="2020-01-01T00:00:00Z")

    assert 401 == (await world.guest.get("/api/jobs")).status


async def test_a_revocation_survives_a_restart(tmp_path: Path) -> None:
    """
    It stands in the store: the next process refuses the same tokens, while others go on.
    """
    async with started(tmp_path / "jobs.db") as world:
        await revoke(world, subject="guest:ann")
        await revoke(world, token_id="lost")

    async with restarted(tmp_path / "jobs.db") as world:
        answers = [await caller.get("/api/jobs") for caller in (world.guest, world.stranger)]
        worker = await with_id(world, "lost").post("/api/worker/claim", {"kinds": ["x"]})

    assert [401, 200, 401] == [*(answer.status for answer in answers), worker.status]


async def test_a_revocation_is_kept_as_long_as_the_setting_says(start: Starter) -> None:
    """
    The store forgets it then: longer than that no token should live.
    """
    world = await start(revocation_ttl_s=600)
    await revoke(world, subject="guest:ann")
    earlier = await world.guest.get("/api/jobs")

    world.clock.advance(601)

    assert [401, 200] == [earlier.status, (await world.guest.get("/api/jobs")).status]


async def test_the_streams_of_the_revoked_end(world: World) -> None:
    """
    An open stream is told bye with reason expired at once, and another's stays.
    """
    async with world.guest.stream() as mine, world.stranger.stream() as other:
        await mine.until("ready")
        await other.until("ready")

        await revoke(world, subject="guest:ann")

        farewell = (await mine.rest())[-1]
        assert ("bye", {"reason": "expired"}) == (farewell.event, farewell.data)
        await world.stranger.made()
        assert "job.created" == (await other.until("job"))[-1].data["type"]


async def test_only_the_streams_of_a_revoked_token_end(world: World) -> None:
    """
    Another token of the same subject keeps its stream.
    """
    now = world.clock.now()
    tokens = [issue(SECRET, "user", subject="carol", ttl_s=600, now=now, token_id=name) for name in ("a", "b")]
    lost, kept = (world.with_token(token) for token in tokens)
    async with lost.stream() as ends, kept.stream() as stays:
        await ends.until("ready")
        await stays.until("ready")

        await revoke(world, token_id="a")

        assert "bye" == (await ends.rest())[-1].event
        await kept.made()
        assert "job" == (await stays.until("job"))[-1].event


async def test_who_is_revoked_between_proof_and_stream_gets_a_farewell(world: World) -> None:
    """
    A stream that was being opened while its owner was revoked does not stay.
    """
    await world.guest.get("/api/jobs")
    world.service.revocations.on_revoked.clear()  # so that the proof stands, as if it had been a moment before
    world.service.revocations.take_effect(Revocation("guest:ann", "left"))

    async with world.guest.stream() as frames:
        told = await frames.rest()

    assert ["hello", "bye"] == [frame.event for frame in told]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/subject"),
        ({"subject": "guest:ann", "token_id": "t"}, "/subject"),
        ({"subject": "ann"}, "/subject"),
        ({"subject": "guest:ann\n"}, "/subject"),
        ({"subject": "system:sweeper"}, "/subject"),
        ({"subject": "guest:ann", "reason": ""}, "/reason"),
        ({"subject": "guest:ann", "reason": "r" * 1_001}, "/reason"),
        ({"subject": "guest:ann", "issued_before": "yesterday"}, "/issued_before"),
        ({"token_id": ""}, "/token_id"),
    ],
)
async def test_a_revocation_that_makes_no_sense_is_422(world: World, fields: JSON, pointer: str) -> None:
    """
    The problem points at what is wrong, and nobody is revoked.
    """
    answer = await revoke(world, **fields)

    assert (422, "invalid", pointer) == (answer.status, answer.code, answer.pointer)
    assert 200 == (await world.guest.get("/api/jobs")).status


async def test_a_revocation_is_logged_with_who_and_why(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    One line names the operator, whose tokens they were, and the reason; never a token.
    """
    caplog.set_level(logging.INFO, logger="jobsvc")

    await revoke(world, subject="guest:ann", reason="laptop stolen")

    (record,) = [record for record in caplog.records if record.getMessage() == "token.revoked"]
    assert {"actor": "operator:olga", "whose": "guest:ann", "reason": "laptop stolen"} == vars(record)["fields"]
    assert "eyJ" not in json.dumps(vars(record)["fields"])


async def test_a_worker_that_is_revoked_while_it_waits_gets_no_job(world: World) -> None:
    """
    A claim that was held is 401, and the job waits for another worker, its attempts untouched.
    """
    waiting = asyncio.create_task(world.worker.post("/api/worker/claim", {"kinds": ["work"], "wait_s": 20}))
    await _until_held(world)

    await revoke(world, subject="worker:w1")
    job = await world.guest.made()
    answer = await waiting

    other = await world.caller("worker", "w2").claim()
    assert (401, "unauthenticated") == (answer.status, answer.code)
    assert (job["id"], 1) == (other.id, other.job["attempt"])


async def test_a_job_for_which_a_revoked_worker_was_woken_goes_to_the_next(world: World) -> None:
    """
    The one behind it is given the job at once, and does not wait until something else happens.
    """
    asked = {"kinds": ["work"], "wait_s": 20}
    waiters = world.service.ledger.worker_waiters
    first = asyncio.create_task(world.worker.post("/api/worker/claim", asked))
    await until(lambda: len(waiters) == 1)
    second = asyncio.create_task(world.caller("worker", "w2").post("/api/worker/claim", asked))
    await until(lambda: len(waiters) == 2)

    await revoke(world, subject="worker:w1")
    job = await world.guest.made()
    async with asyncio.timeout(10):
        refused, given = await first, await second

    assert (401, 200) == (refused.status, given.status)
    assert [job["id"]] == [grant["job"]["id"] for grant in given.body["jobs"]]


async def test_whoever_is_revoked_while_a_create_is_held_is_told_of_the_birth_only(world: World) -> None:
    """
    What the job became after the revocation is not for them; that it was made is.
    """
    held = asyncio.create_task(world.guest.create(headers={"Prefer": "wait=20"}))
    await _until_held(world)

    await revoke(world, subject="guest:ann")
    await world.worker.complete(await world.worker.claim(), {"secret": 1})
    answer = await held

    assert (201, "queued", None) == (answer.status, answer.job["state"], answer.job["result"])
    assert "Preference-Applied" not in answer.headers


async def test_whoever_is_revoked_while_a_read_is_held_is_told_nothing(world: World) -> None:
    """
    What the job became after the revocation is not for them.
    """
    job = await world.guest.made()
    held = asyncio.create_task(world.guest.get(f"/api/jobs/{job['id']}", wait_s=20))
    await _until_held(world)

    await revoke(world, subject="guest:ann")
    await world.worker.claim()
    answer = await held

    assert (401, "unauthenticated") == (answer.status, answer.code)


async def _until_held(world: World) -> None:
    """
    A request is held for something to happen.
    """
    async with asyncio.timeout(10):
        while not (len(world.service.ledger.worker_waiters) or len(world.service.ledger.job_waiters)):
            await world.operator.get("/healthz")
