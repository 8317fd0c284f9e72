from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.http.client import PATIENCE_S

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer, Caller
    from tests.http.world import World

SPELLINGS: Final = (
    "https://x.com/a/status/{id}",
    "https://twitter.com/a/status/{id}",
    "http://www.x.com/a/statuses/{id}",
    "https://m.twitter.com/other/status/{id}?s=20",
    "https://mobile.twitter.com/i/status/{id}",
    "https://x.com/i/web/status/{id}",
    "https://X.com/a/status/{id}/photo/1",
    "https://x.com:443/a/status/{id}#top",
    "https://x.com/a/b/../status/{id}?utm_source=y",
)


def spelling(place: int, post: int = 1) -> str:
    """
    One of the ways in which the same post is written.
    """
    return SPELLINGS[place % len(SPELLINGS)].format(id=1_850_000_000_000_000_000 + post)


async def create(caller: Caller, place: int, **fields: JSON) -> Answer:
    """
    A create for the post in one of its spellings.
    """
    return await caller.create(kind="x-post", url=spelling(place), **fields)


@pytest.mark.parametrize("place", range(len(SPELLINGS)))
async def test_every_spelling_of_a_post_is_the_same_work(world: World, place: int) -> None:
    """
    However the post's URL is written, the second create attaches to the first job.
    """
    first = await world.guest.made(kind="x-post", url=spelling(0))

    second = await create(world.guest, place)

    assert 200 == second.status
    assert (first, True, "active", False) == (
        second.job, second.body["deduplicated"], second.body["dedup_reason"], second.body["input_differs"],
    )  # fmt: skip
    assert "Location" not in second.headers


async def test_two_hundred_creates_at_once_make_one_job(world: World) -> None:
    """
    200 callers with mixed spellings of one post: one is answered 201, 199 are answered 200 with the same whole job.
    """
    guest = world.guest

    answers = await asyncio.gather(*(create(guest, place) for place in range(200)))

    assert [200] * 199 + [201] == sorted(answer.status for answer in answers)
    jobs = [answer.job for answer in answers]
    assert all(job == jobs[0] for job in jobs)
    assert jobs[0] == await guest.read(jobs[0]["id"])
    assert 1 == await world.position()
    assert 199 == sum(answer.body["deduplicated"] for answer in answers)


async def test_rounds_of_create_and_complete_at_full_speed_never_make_two(world: World) -> None:
    """
    While a worker completes as fast as it can, no create ever makes a second active job or shows one that is not there.
    """
    guest, rounds = world.guest, 40
    finished = asyncio.Event()
    answers: list[Answer] = []

    async def keep_creating(first: int) -> None:
        while not finished.is_set():
            answers.append(await create(guest, first + len(answers)))

    async def keep_completing() -> None:
        for _ in range(rounds):
            await world.worker.complete(await world.worker.claim(wait_s=5))
        finished.set()

    await asyncio.gather(keep_completing(), *(keep_creating(place) for place in range(16)))

    created = [answer.job["id"] for answer in answers if answer.status == 201]
    assert len(created) == len(set(created)) >= rounds
    assert {answer.job["id"] for answer in answers} == set(created)
    assert {200, 201} == {answer.status for answer in answers}
    assert_one_at_a_time(await world.log(), created)


def assert_one_at_a_time(events: list[JSON], created: list[str]) -> None:
    """
    The jobs of *events* lived one after the other, and are those that were answered 201.
    """
    born = [event["job_id"] for event in events if event["type"] == "job.created"]
    assert sorted(created) == sorted(born)
    alive: str | None = None
    for event in events:
        if event["type"] == "job.created":
            assert alive is None, event
            alive = event["job_id"]
        assert alive == event["job_id"], event
        if event["type"] == "job.completed":
            alive = None


async def test_callers_that_hang_up_leave_one_job_all_the_same(world: World) -> None:
    """
    Half of 200 callers go away in the middle of their request; the others get the one job.
    """
    guest = world.guest

    answers, _ = await asyncio.gather(
        asyncio.gather(*(create(guest, place) for place in range(100))),
        asyncio.gather(*(hang_up(guest, world.url, place) for place in range(100))),
    )

    assert {answer.job["id"] for answer in answers} == {answers[0].job["id"]}
    assert sum(answer.status == 201 for answer in answers) <= 1
    assert {answer.status for answer in answers} <= {200, 201}
    assert [answers[0].job["id"]] == [job["id"] for job in await guest.active()]
    assert 1 == await world.position()


async def test_callers_that_hang_up_between_rounds_leave_one_at_a_time(world: World) -> None:
    """
    Also while jobs end, those who hang up never leave a second active job.
    """
    for number in range(10):
        answers, _ = await asyncio.gather(
            asyncio.gather(*(create(world.guest, place + number) for place in range(10))),
            asyncio.gather(*(hang_up(world.guest, world.url, place) for place in range(10))),
        )
        for grant in await world.worker.claims(max=100):
            await world.worker.complete(grant)
        assert 1 == len({answer.job["id"] for answer in answers})

    events = await world.log()

    assert_one_at_a_time(events, [event["job_id"] for event in events if event["type"] == "job.created"])


async def hang_up(caller: Caller, url: str, place: int) -> None:
    """
    A create whose caller is gone before the answer: after all of it, some of it, or its head.
    """
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps({"kind": "x-post", "url": spelling(place)}).encode()
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: {caller.headers['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()
    async with asyncio.timeout(PATIENCE_S):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + content[: (len(content), len(content) // 2, 0)[place % 3]])
        await writer.drain()
        writer.transport.abort()


async def test_attaching_writes_nothing(world: World) -> None:
    """
    A create that attaches leaves the log and the job's version as they were.
    """
    first = await world.guest.made(key="k")
    before = await world.head()

    answers = [await world.guest.create(key="k") for _ in range(3)]

    assert [200] * 3 == [answer.status for answer in answers]
    assert before == await world.head()
    assert first == answers[-1].job


async def test_attaching_with_another_input_says_so(world: World) -> None:
    """
    input_differs tells a caller that the job it got was asked for with another input.
    """
    await world.guest.made(key="k", input={"a": 1})

    same, other = await world.guest.create(key="k", input={"a": 1}), await world.guest.create(key="k", input={"a": 2})

    assert (False, True) == (same.body["input_differs"], other.body["input_differs"])
    assert {"a": 1} == other.job["input"]


async def test_a_key_is_unique_over_owner_kind_and_key(world: World) -> None:
    """
    Another owner, another kind or another key is other work.
    """
    first = await world.guest.made(key="k")

    others = [
        await world.stranger.made(key="k"),
        await world.guest.made(key="k", kind="other"),
        await world.guest.made(key="K"),
    ]

    assert 4 == len({first["id"], *(job["id"] for job in others)})


async def test_a_key_made_from_a_url_and_the_same_key_given_meet(world: World) -> None:
    """
    A key is text: who made it does not matter.
    """
    first = await world.guest.made(kind="x-post", url=spelling(0))

    second = await world.guest.create(kind="x-post", key=first["key"])

    assert (200, first["id"]) == (second.status, second.job["id"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTPS://Example.COM:443/a/./b/../c#part", "https://example.com/a/c"),
        ("https://example.com/%7euser", "https://example.com/~user"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ("https://example.com/a%2fb", "https://example.com/a%2Fb"),
    ],
)
async def test_the_default_profile_takes_two_spellings_for_one(world: World, one: str, other: str) -> None:
    """
    Case, default port, fragment, dot segments, escapes and IDNA make no other work.
    """
    first = await world.guest.made(url=one)

    second = await world.guest.create(url=other)

    assert (200, first["id"], one) == (second.status, second.job["id"], second.job["url"])


async def test_the_default_profile_keeps_what_may_matter(world: World) -> None:
    """
    Query, path case and scheme stay part of the key.
    """
    urls = ["https://example.com/a", "https://example.com/A", "https://example.com/a?b", "http://example.com/a"]

    jobs = [await world.guest.made(url=url) for url in urls]

    assert 4 == len({job["key"] for job in jobs})


async def test_what_x_post_does_not_recognise_gets_the_default_key(world: World) -> None:
    """
    A profile page is no post; it is deduplicated all the same.
    """
    first = await world.guest.made(kind="x-post", url="https://x.com/jack#top")

    second = await world.guest.create(kind="x-post", url="https://x.com/jack")

    assert (200, first["id"]) == (second.status, second.job["id"])
    assert not first["key"].startswith("x:post:")


# While it is active


async def test_reject_answers_409_with_the_job_in_the_way(world: World) -> None:
    """
    on_active reject: duplicate-job, the holder shown, nothing written.
    """
    first = await world.guest.made(key="k")

    answer = await world.guest.create(key="k", dedup={"on_active": "reject"})

    assert (409, "duplicate-job", first) == (answer.status, answer.code, answer.job)
    assert 1 == await world.position()


async def test_replace_ends_the_holder_and_makes_a_new_one_at_once(world: World) -> None:
    """
    on_active replace: the holder is cancelled as superseded and the new job stands right behind it in the log.
    """
    first = await world.guest.made(key="k")
    grant = await world.worker.claim()

    answer = await world.guest.create(key="k", dedup={"on_active": "replace"})

    replaced = await world.guest.read(first["id"])
    assert (201, False) == (answer.status, answer.body["deduplicated"])
    assert ("cancelled", "superseded", answer.job["id"]) == (
        replaced["state"], replaced["reason"], replaced["superseded_by"],
    )  # fmt: skip
    assert replaced["position"] + 1 == answer.job["position"]
    assert [answer.job["id"]] == [job["id"] for job in await world.guest.active()]
    assert "lease-lost" == (await world.worker.report(grant, "heartbeat")).code


async def test_a_holder_that_is_cancelling_gives_way_to_any_create(world: World) -> None:
    """
    A job that was given up does not hold its key: a create ends it in the same transaction and is answered 201.
    """
    first = await world.guest.made(key="k")
    await world.worker.claim()
    await world.guest.cancel(first["id"])

    answer = await world.guest.create(key="k", dedup={"on_active": "reject"})

    given_up = await world.guest.read(first["id"])
    assert 201 == answer.status
    assert ("cancelled", "superseded") == (given_up["state"], given_up["reason"])
    assert given_up["position"] + 1 == answer.job["position"]


@pytest.mark.parametrize("ending", ["completed", "failed", "expired"])
async def test_run_after_makes_the_job_when_the_holder_ends_by_itself(world: World, ending: str) -> None:
    """
    The whole last request becomes a job in the transaction in which the holder ends.
    """
    first = await world.guest.made(key="k", deadline_s=60)
    asked = [
        await world.guest.create(key="k", input=n, title=f"n{n}", priority=-n, dedup={"on_active": "run_after"})
        for n in range(3)
    ]
    grant = await world.worker.claim(lease_s=100)
    match ending:
        case "completed":
            await world.worker.complete(grant)
        case "failed":
            await world.worker.report(grant, "fail", error={"code": "x"}, retryable=False)
        case _:
            world.clock.advance(61)

    ended = await world.guest.reaches(first["id"], ending)

    follower = await world.guest.read(ended["followed_by"])
    assert [(200, first["id"], "active")] * 3 == [
        (answer.status, answer.job["id"], answer.body["dedup_reason"]) for answer in asked
    ]
    assert (first["id"], 2, "n2", -2, "k") == (
        follower["follows"], follower["input"], follower["title"], follower["priority"], follower["key"],
    )  # fmt: skip
    assert ended["position"] + 1 == follower["position"]
    assert [follower["id"]] == [job["id"] for job in await world.guest.active()]


@pytest.mark.parametrize("ending", ["cancel", "force", "cleanup", "replace", "cancelling"])
async def test_giving_up_the_holder_drops_what_was_to_follow_it(world: World, ending: str) -> None:
    """
    Cancel, force, cleanup and replace mean that the work is not wanted: no follower comes.
    """
    first = await world.guest.made(key="k")
    await world.guest.create(key="k", input=1, dedup={"on_active": "run_after"})
    grant = await world.worker.claim() if ending in {"force", "cancelling"} else None
    match ending:
        case "cancel":
            await world.guest.cancel(first["id"])
        case "force":
            await world.guest.cancel(first["id"], force=True)
        case "cleanup":
            await world.guest.clean_up(first["id"], force=True)
        case "replace":
            await world.guest.made(key="k", input=2, dedup={"on_active": "replace"})
        case _:
            await world.guest.cancel(first["id"])
            assert grant is not None
            await world.worker.complete(grant)

    ended = await world.guest.read(first["id"])

    assert (False, None) == (ended["active"], ended["followed_by"])
    assert [2] * (ending == "replace") == [job["input"] for job in await world.guest.active()]


async def test_a_follow_up_may_be_replaced_a_hundred_times(world: World) -> None:
    """
    The 101st run_after on one holder is told to slow down, and the 100th still counts.
    """
    await world.guest.made(key="k")

    answers = [await world.guest.create(key="k", input=n, dedup={"on_active": "run_after"}) for n in range(101)]

    assert [200] * 100 + [429] == [answer.status for answer in answers]
    assert ("slow-down", True) == (answers[-1].code, "Retry-After" in answers[-1].headers)
    await world.worker.complete(await world.worker.claim())
    assert [99] == [job["input"] for job in await world.guest.active()]


# After it completed


async def test_rerun_is_what_happens_unless_said_otherwise(world: World) -> None:
    """
    A completed job does not stand in the way.
    """
    first = await world.guest.made(key="k")
    await world.worker.complete(await world.worker.claim())

    second = await world.guest.create(key="k")

    assert 201 == second.status
    assert first["id"] != second.job["id"]


async def test_reuse_gives_the_fresh_result(world: World) -> None:
    """
    on_completed reuse answers the completed job, whole, and writes nothing.
    """
    await world.guest.made(key="k")
    completed = await world.worker.complete(await world.worker.claim(), {"n": 10**30})
    before = await world.position()

    answer = await world.guest.create(key="k", dedup={"on_completed": "reuse", "max_age_s": 60})

    assert (200, True, "fresh_result") == (answer.status, answer.body["deduplicated"], answer.body["dedup_reason"])
    assert completed == answer.job
    assert {"n": 10**30} == answer.job["result"]
    assert before == await world.position()


async def test_a_result_older_than_max_age_s_is_not_reused(world: World) -> None:
    """
    max_age_s bounds how old the result may be; without it any age will do.
    """
    first = await world.guest.made(key="k")
    await world.worker.complete(await world.worker.claim())
    world.clock.advance(61)

    unbounded = await world.guest.create(key="k", dedup={"on_completed": "reuse"})
    bounded = await world.guest.create(key="k", dedup={"on_completed": "reuse", "max_age_s": 60})

    assert (200, first["id"]) == (unbounded.status, unbounded.job["id"])
    assert 201 == bounded.status


async def test_reject_on_completed_answers_409_with_the_completed_job(world: World) -> None:
    """
    on_completed reject: duplicate-job, the completed job shown.
    """
    await world.guest.made(key="k")
    completed = await world.worker.complete(await world.worker.claim(), 1)

    answer = await world.guest.create(key="k", dedup={"on_completed": "reject"})

    assert (409, "duplicate-job", completed) == (answer.status, answer.code, answer.job)


@pytest.mark.parametrize("ending", ["failed", "cancelled", "expired"])
@pytest.mark.parametrize("policy", ["reuse", "reject"])
async def test_a_job_that_did_not_complete_never_blocks_a_new_one(world: World, ending: str, policy: str) -> None:
    """
    Failed, cancelled and expired work may be asked for again whatever the policy.
    """
    first = await world.guest.made(key="k", deadline_s=60)
    match ending:
        case "failed":
            await world.worker.report(await world.worker.claim(), "fail", error={"code": "x"}, retryable=False)
        case "cancelled":
            await world.guest.cancel(first["id"])
        case _:
            world.clock.advance(61)
    await world.guest.reaches(first["id"], ending)

    second = await world.guest.create(key="k", dedup={"on_completed": policy, "on_active": "reject"})

    assert 201 == second.status


async def test_reuse_attaches_to_the_active_job_first(world: World) -> None:
    """
    An active job for the key is the answer even where an older result is fresh.
    """
    await world.guest.made(key="k")
    await world.worker.complete(await world.worker.claim())
    second = await world.guest.made(key="k")

    answer = await world.guest.create(key="k", dedup={"on_completed": "reuse"})

    assert (200, second["id"], "active") == (answer.status, answer.job["id"], answer.body["dedup_reason"])
