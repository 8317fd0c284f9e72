from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from jobsvc.store.sqlite import SqliteStore
from tests.http.client import Frame, until
from tests.http.world import started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import JSON, Answer, Caller, Frames
    from tests.http.conftest import Starter
    from tests.http.world import World

ACTIVE = "/api/jobs/active"


async def claim(user: Caller, guest: Caller, **fields: JSON) -> Answer:
    """
    *user* shows the token of the guest that it was.
    """
    return await user.post("/api/sessions/claim", {"guest_token": guest.token, **fields})


async def ended(caller: Caller, world: World, **fields: JSON) -> JSON:
    """
    A completed job of *caller*'s.
    """
    await caller.made(**fields)
    return await world.worker.complete(await world.worker.claim(), {"n": 1})


def told(frames: list[Frame]) -> list[tuple[str, str]]:
    """
    What happened to which job, of the frames that say so.
    """
    return [(frame.data["type"], frame.data["job"]["id"]) for frame in frames if frame.event == "job"]


async def test_what_a_guest_has_is_the_user_s(world: World) -> None:
    """
    Active and ended jobs alike, readable and changeable by the user, each counted once.
    """
    done = await ended(world.guest, world, key="done")
    waits = await world.guest.made(key="waits")
    await world.stranger.made(key="waits")

    answer = await claim(world.user, world.guest)

    assert (200, {"moved": 2, "merged": 0}) == (answer.status, answer.body)
    listed = (await world.user.get("/api/jobs")).body["jobs"]
    assert [waits["id"], done["id"]] == [job["id"] for job in listed]
    assert {world.user.owner} == {job["owner"] for job in listed}
    assert [waits["id"]] == [job["id"] for job in await world.user.active()]
    assert 200 == (await world.user.cancel(waits["id"])).status
    assert 1 == len(await world.stranger.active())


async def test_a_result_of_the_guest_s_is_fresh_for_the_user(world: World) -> None:
    """
    The user's create finds it by its key.
    """
    done = await ended(world.guest, world, key="done")
    await claim(world.user, world.guest)

    answer = await world.user.create(key="done", dedup={"on_completed": "reuse"})

    assert (200, "fresh_result", done["id"]) == (answer.status, answer.body["dedup_reason"], answer.job["id"])


async def test_an_older_result_of_the_guest_s_does_not_hide_the_user_s_newer(world: World) -> None:
    """
    Of two results for one key the newer is the fresh one, whoever's it was.
    """
    await ended(world.guest, world, key="done")
    newer = await ended(world.user, world, key="done")

    _, answer = await asyncio.gather(
        claim(world.user, world.guest), world.user.create(key="done", dedup={"on_completed": "reuse"})
    )

    again = await world.user.create(key="done", dedup={"on_completed": "reuse"})
    assert [newer["id"]] * 2 == [answer.job["id"], again.job["id"]]


@pytest.mark.parametrize("older", ["guest", "user"])
async def test_of_two_jobs_for_one_key_the_older_is_kept(world: World, older: str) -> None:
    """
    Whosever it is; the other is cancelled for it, and the user sees both.
    """
    order = [world.guest, world.user] if older == "guest" else [world.user, world.guest]
    kept, given = [await caller.made(key="one") for caller in order]
    alone = await world.guest.made(key="alone")

    answer = await claim(world.user, world.guest)

    assert {"moved": 1, "merged": 1} == answer.body
    assert {kept["id"], alone["id"]} == {job["id"] for job in await world.user.active()}
    other = await world.user.read(given["id"])
    assert ("cancelled", "superseded", kept["id"]) == (other["state"], other["reason"], other["superseded_by"])
    assert {world.user.owner} == {other["owner"], (await world.user.read(kept["id"]))["owner"]}
    assert kept["id"] == (await world.user.create(key="one")).job["id"]


async def test_a_job_that_was_given_up_is_not_kept_however_old(world: World) -> None:
    """
    One that is cancelling already ends for the younger, as it would for a create.
    """
    given_up = await world.guest.made(key="one")
    await world.worker.claim()
    await world.guest.cancel(given_up["id"])
    younger = await world.user.made(key="one")

    await claim(world.user, world.guest)

    assert [younger["id"]] == [job["id"] for job in await world.user.active()]


@pytest.mark.parametrize("older", ["guest", "user"])
async def test_what_was_to_follow_the_one_follows_the_other(world: World, older: str) -> None:
    """
    The follow-up of the job that ends is the survivor's, and the user's when it comes about.
    """
    order = [world.guest, world.user] if older == "guest" else [world.user, world.guest]
    kept, _ = [await caller.made(key="one") for caller in order]
    await order[1].create(key="one", title="next", dedup={"on_active": "run_after"})

    await claim(world.user, world.guest)

    done = await world.worker.complete(await world.worker.claim())
    follower = await world.user.read(done["followed_by"])
    assert (kept["id"], "next", world.user.owner) == (follower["follows"], follower["title"], follower["owner"])


async def test_a_job_that_a_worker_holds_goes_on_under_the_user(world: World) -> None:
    """
    Neither lease nor fence is touched.
    """
    job = await world.guest.made()
    grant = await world.worker.claim()

    await claim(world.user, world.guest)

    assert "completed" == (await world.worker.complete(grant))["state"]
    assert (grant.id, job["id"]) == (job["id"], (await world.user.read(job["id"]))["id"])


async def test_a_user_may_come_to_more_active_jobs_than_it_may_make(start: Starter) -> None:
    """
    A claim is never refused for their number; the next create is.
    """
    world = await start(active_per_owner_max=2)
    for caller in (world.guest, world.user) * 2:
        await caller.made()

    answer = await claim(world.user, world.guest)

    assert {"moved": 2, "merged": 0} == answer.body
    assert 4 == len(await world.user.active())
    assert "too-many-active" == (await world.user.create()).code


# The guest is spent


async def test_a_spent_guest_is_nobody_restart_included(tmp_path: Path) -> None:
    """
    All its tokens are 401 from then on.
    """
    async with started(tmp_path / "jobs.db") as world:
        other = world.caller("guest", "ann", ttl_s=600)
        before = await other.get(ACTIVE)
        await claim(world.user, world.guest)
        after = [await caller.get(ACTIVE) for caller in (world.guest, other)]

    async with started(tmp_path / "jobs.db") as world:
        later = [await caller.get(ACTIVE) for caller in (world.guest, world.stranger)]

    assert 200 == before.status
    assert [(401, "unauthenticated")] * 2 == [(answer.status, answer.code) for answer in after]
    assert [401, 200] == [answer.status for answer in later]


async def test_a_spent_guest_gets_a_new_owner(world: World) -> None:
    """
    By token and by cookie: a session makes another guest.
    """
    first = await world.nobody.post("/api/sessions/guest")
    token = first.body["token"]
    await claim(world.user, world.with_token(token))

    answers = [
        await world.with_token(token).post("/api/sessions/guest"),
        await world.nobody.send("POST", "/api/sessions/guest", headers={"Cookie": f"jobsvc_session={token}"}),
    ]

    assert [201, 201] == [answer.status for answer in answers]
    assert 3 == len({first.body["owner"], *(answer.body["owner"] for answer in answers)})


async def test_a_token_that_is_no_living_guest_s_is_422(world: World) -> None:
    """
    Spent, forged, run out, or of another role: nothing is written.
    """
    await claim(world.user, world.guest)
    forged = world.stranger.token
    assert forged is not None
    before = await world.position()

    answers = [
        await claim(world.user, caller)
        for caller in (
            world.guest,
            world.with_token(forged[:-2] + ("AA" if forged[-2:] != "AA" else "BB")),
            world.with_token(""),
            world.caller("guest", "late", ttl_s=-10),
            world.user,
            world.worker,
        )
    ]

    assert [(422, "invalid", "/guest_token")] * 6 == [(each.status, each.code, each.pointer) for each in answers]
    assert before == await world.position()


async def test_two_claims_at_once_are_one_claim(world: World) -> None:
    """
    The jobs go to one user, and the other is told that the guest is spent.
    """
    job = await world.guest.made()
    users = [world.user, world.caller("user", "dora")]

    answers = await asyncio.gather(*(claim(user, world.guest) for user in users))

    assert [200, 422] == sorted(answer.status for answer in answers)
    winner = next(user for user, answer in zip(users, answers, strict=True) if answer.status == 200)
    assert winner.owner == (await world.operator.read(job["id"]))["owner"]


async def test_a_create_that_was_under_way_makes_nothing_for_a_spent_guest(world: World) -> None:
    """
    Proved before the claim, decided after it: 401, and no job that would be nobody's.
    """
    body = b'{"kind":"k"}'
    head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {world.guest.token}\r\n"
    head += f"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    host, _, port = world.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    assert b"100" in await reader.readuntil(b"\r\n\r\n")

    await claim(world.user, world.guest)
    writer.write(body)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert answer.startswith(b"HTTP/1.1 401")
    assert b"WWW-Authenticate: Bearer" in answer
    assert [] == await world.operator.active()


async def test_nobody_makes_a_job_for_a_spent_guest(tmp_path: Path) -> None:
    """
    A back end that still names the guest is told so, also after a restart; for another guest it may.
    """
    async with started(tmp_path / "jobs.db") as world:
        done = await ended(world.guest, world)
        await claim(world.user, world.guest)
        answers = [await world.backend.create(owner=world.guest.owner)]
        retried = await world.backend.post(f"/api/jobs/{done['id']}/retry", {"owner": world.user.owner})

    async with started(tmp_path / "jobs.db") as world:
        answers.append(await world.backend.create(owner=world.guest.owner))
        other = await world.backend.create(owner=world.stranger.owner)

    assert [(422, "/owner")] * 2 == [(answer.status, answer.pointer) for answer in answers]
    assert (201, 201) == (retried.status, other.status)


# Who may claim


async def test_only_a_user_claims_or_who_acts_for_one(world: World) -> None:
    """
    A back end and an operator name the user; a guest, a worker and a viewer may not.
    """
    refused = [await claim(caller, world.guest) for caller in (world.stranger, world.worker, world.viewer)]
    unnamed = [await claim(caller, world.guest) for caller in (world.backend, world.operator)]
    wrong = await claim(world.backend, world.guest, owner=world.stranger.owner)

    answer = await claim(world.backend, world.guest, owner=world.user.owner)

    assert [403] * 3 == [each.status for each in refused]
    assert [(422, "/owner")] * 3 == [(each.status, each.pointer) for each in (*unnamed, wrong)]
    assert 200 == answer.status


async def test_a_claim_by_cookie_needs_our_origin(world: World) -> None:
    """
    A page elsewhere cannot make a browser claim.
    """
    cookie = {"Cookie": f"jobsvc_session={world.user.token}"}
    body = {"guest_token": world.guest.token}

    foreign, own = [
        await world.nobody.post("/api/sessions/claim", body, headers=cookie | {"Origin": origin})
        for origin in ("https://evil.example", world.url)
    ]

    assert (403, "access-denied", 200) == (foreign.status, foreign.code, own.status)
    assert "Set-Cookie" not in own.headers


async def test_the_cookie_of_the_guest_goes_with_it(world: World) -> None:
    """
    The browser forgets the session that is spent.
    """
    headers = {"Cookie": f"jobsvc_session={world.guest.token}"}

    answer = await world.user.post("/api/sessions/claim", {"guest_token": world.guest.token}, headers=headers)

    assert 200 == answer.status
    assert 'jobsvc_session=""' in answer.headers["Set-Cookie"]
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


# Who is told


async def test_the_guest_s_streams_are_told_of_each_job_and_then_to_go(world: World) -> None:
    """
    A ``job.owner_changed`` for each active job, then ``bye`` ``claimed``; the user's stream has the same and stays.
    """
    await world.user.made(key="c")
    jobs = [(await world.guest.made(key=key))["id"] for key in ("a", "b", "c")]

    async with world.guest.stream() as guest, world.user.stream() as user:
        await guest.until("ready")
        await user.until("ready")
        await claim(world.user, world.guest)
        seen = await guest.until("bye")
        position = await world.position()
        frames = await _until_position(user, position)

    moved = [job_id for type_, job_id in told(seen) if type_ == "job.owner_changed"]
    assert jobs == moved
    assert [("job.cancelled", jobs[2])] == [each for each in told(seen) if each[0] != "job.owner_changed"]
    assert ({"reason": "claimed"}, "bye") == (seen[-1].data, seen[-1].event)
    assert seen[-1].retry is not None
    assert [("job.owner_changed", job_id) for job_id in jobs] == told(frames)
    assert {world.user.owner} == {frame.data["job"]["owner"] for frame in frames}


async def _until_position(frames: Frames, position: int) -> list[Frame]:
    """
    The frames up to that of *position*.
    """
    found = [await frames.next()]
    while found[-1].data.get("position") != position:
        found.append(await frames.next())
    return found


async def test_a_guest_s_job_stream_and_its_long_poll_are_told_too(world: World) -> None:
    """
    The move first, then the farewell, in every form of a stream.
    """
    job = await world.guest.made()
    cursor = (await world.guest.get("/api/stream", wait_s=1)).body["cursor"]

    async with world.guest.stream(f"/api/jobs/{job['id']}/events") as frames:
        await frames.until("ready")
        polled = asyncio.create_task(world.guest.get("/api/stream", wait_s=20, after=cursor))
        await until(lambda: len(world.service.streams) == 2)
        await claim(world.user, world.guest)
        seen = await frames.until("bye")

    assert [("job.owner_changed", job["id"])] == told(seen)
    names = [frame["event"] for frame in (await polled).body["frames"]]
    assert ["job", "bye"] == [name for name in names if name not in {"hello", "ready", "hb"}]


async def _claimed_amid_opening(world: World, query: str) -> list[Frame]:
    """
    What a guest's stream is told that was proved before the claim and opened after it.
    """
    head = f"GET /api/stream{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {world.guest.token}\r\n"
    head += "Accept: application/x-ndjson\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    host, _, port = world.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    assert b"100" in await reader.readuntil(b"\r\n\r\n")
    await claim(world.user, world.guest)
    writer.write(b"?")
    told_of = (await reader.read()).decode()
    writer.close()
    lines = [json.loads(line) for line in told_of.split("\r\n") if line.startswith("{")]
    return [Frame(line["event"], line["data"], line["id"]) for line in lines]


async def test_a_stream_that_opens_while_its_guest_is_claimed_is_told_of_the_claim(world: World) -> None:
    """
    From its cursor on it is told of each job that moved, and then to go because it was claimed.
    """
    jobs = [(await world.guest.made())["id"] for _ in range(3)]
    cursor = (await world.guest.get("/api/stream", wait_s=1)).body["cursor"]

    frames = await _claimed_amid_opening(world, f"?after={cursor}")

    assert [("job.owner_changed", job_id) for job_id in jobs] == told(frames)
    assert ["hello", "job", "job", "job", "bye"] == [frame.event for frame in frames]
    assert {"reason": "claimed"} == frames[-1].data


async def test_a_stream_that_begins_after_its_guest_was_claimed_shows_nothing(world: World) -> None:
    """
    Without a cursor it would begin after the claim, where nothing is the guest's any more: only why it is to go.
    """
    await world.guest.made()

    frames = await _claimed_amid_opening(world, "")

    assert [("hello", None), ("bye", "claimed")] == [(frame.event, frame.data.get("reason")) for frame in frames]


async def test_a_guest_that_is_far_behind_misses_nothing_before_it_is_told_to_go(start: Starter) -> None:
    """
    With a ring that holds a single event all comes from the store, the moves among it.
    """
    world = await start(ring_events_max=1)
    async with world.guest.stream() as frames:
        await frames.until("ready")
        jobs = [(await world.guest.made())["id"] for _ in range(5)]
        await claim(world.user, world.guest)
        seen = await frames.until("bye")

    assert [("job.created", job_id) for job_id in jobs] == told(seen)[:5]
    assert [("job.owner_changed", job_id) for job_id in jobs] == told(seen)[5:10]


async def test_a_former_owner_s_page_of_the_log_has_the_move(start: Starter) -> None:
    """
    A reader of all that a guest saw, below the ring, sees the job go, and nothing after that.
    """
    world = await start(ring_events_max=1)
    job = await world.guest.made()
    epoch = (await world.head())["epoch"]
    await claim(world.user, world.guest)
    await world.user.cancel(job["id"])

    async with (
        world.backend.stream(owner=world.guest.owner, after=f"{epoch}.0") as former,
        world.user.stream(after=f"{epoch}.0") as present,
    ):
        before, after = await former.until("ready"), await present.until("ready")

    assert [("job.created", job["id"]), ("job.owner_changed", job["id"])] == told(before)
    assert [("job.owner_changed", job["id"]), ("job.cancelled", job["id"])] == told(after)


# The ended jobs


async def test_ended_jobs_move_in_bounded_transactions(start: Starter) -> None:
    """
    However many there are: all of them before the answer, where that takes no longer than it may.
    """
    world = await start(handover_jobs_max=2)
    jobs = [(await ended(world.guest, world))["id"] for _ in range(5)]

    answer = await claim(world.user, world.guest)

    assert {"moved": 5, "merged": 0} == answer.body
    assert {world.user.owner} == {(await world.user.read(job_id))["owner"] for job_id in jobs}
    assert 0 == len(world.service.handovers)


async def test_the_answer_does_not_wait_for_ever_for_ended_jobs(start: Starter) -> None:
    """
    Those that have not moved in time follow at once, and are not counted.
    """
    world = await start(handover_jobs_max=1, handover_wait_max_s=0.0)
    jobs = [(await ended(world.guest, world))["id"] for _ in range(5)]
    waits = await world.guest.made()

    answer = await claim(world.user, world.guest)

    assert {"moved": 1, "merged": 0} == answer.body
    assert [waits["id"]] == [job["id"] for job in await world.user.active()]
    await until(lambda: len(world.service.handovers) == 0)
    assert {world.user.owner} == {(await world.user.read(job_id))["owner"] for job_id in jobs}


@asynccontextmanager
async def _left_undone(path: Path) -> AsyncIterator[list[str]]:
    """
    The ended jobs of a guest that was claimed by a service which ended before it had moved them.
    """
    async with started(path, handover_wait_max_s=0.0) as world:
        jobs = [(await ended(world.guest, world))["id"] for _ in range(3)]
        await world.service.handovers.stop()
        await claim(world.user, world.guest)
        assert 403 == (await world.user.get(f"/api/jobs/{jobs[0]}")).status
    yield jobs


async def test_what_a_service_left_undone_the_next_one_does(tmp_path: Path) -> None:
    """
    The store knows whose ended jobs are still to move, until they have.
    """
    path = tmp_path / "jobs.db"
    async with _left_undone(path) as jobs, started(path) as world:
        await until(lambda: len(world.service.handovers) == 0)

        owners = {(await world.user.read(job_id))["owner"] for job_id in jobs}

    store = SqliteStore(path, read_only=True)
    await store.open()
    left = await store.read_marks("handovers", now=world.clock.now())
    await store.close()
    assert {world.user.owner} == owners
    assert [] == left
