from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.moments import rfc3339

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer, Caller
    from tests.http.world import World


async def batch(caller: Caller, jobs: list[JSON], **headers: str) -> Answer:
    """
    A batch create.
    """
    return await caller.post("/api/jobs/batch", {"jobs": jobs}, headers=headers)


async def test_results_come_in_order_each_with_its_own_status(world: World) -> None:
    """
    New, attached and refused stand where they were asked for; one refusal leaves its neighbours alone.
    """
    jobs: list[JSON] = [
        {"kind": "work", "key": "a", "title": "first"},
        {"kind": "work", "key": "a"},
        {"kind": "NO"},
        {"kind": "work", "url": "ftp://example.com/"},
        "not an object",
        {"kind": "work", "key": "a", "dedup": {"on_active": "reject"}},
        {"kind": "work", "key": "b"},
    ]

    answer = await batch(world.guest, jobs)

    results = answer.body["results"]
    assert 200 == answer.status
    assert [201, 200, 422, 422, 422, 409, 201] == [result["status"] for result in results]
    assert results[0]["job"] == results[1]["job"] == results[5]["job"]
    assert (False, True) == (results[0]["deduplicated"], results[1]["deduplicated"])
    assert ["invalid", "invalid", "invalid", "duplicate-job"] == [results[n]["code"] for n in (2, 3, 4, 5)]
    assert {"job", "deduplicated", "dedup_reason", "input_differs", "cursor", "links", "status"} == results[6].keys()
    assert 2 == await world.position()


async def test_a_batch_of_five_hundred_is_one_request(world: World) -> None:
    """
    Up to 500 creates; the jobs are those of 500 single ones.
    """
    jobs = [{"kind": "work", "key": f"{n % 400}"} for n in range(500)]

    answer = await batch(world.guest, jobs)

    statuses = [result["status"] for result in answer.body["results"]]
    assert [201] * 400 + [200] * 100 == statuses
    assert 400 == len(await world.guest.active())


async def test_more_than_five_hundred_are_too_many(world: World) -> None:
    """
    413 for the whole, and nothing is made.
    """
    answer = await batch(world.guest, [{"kind": "work"}] * 501)

    assert (413, "too-large") == (answer.status, answer.code)
    assert 0 == await world.position()


async def test_an_empty_batch_has_no_results(world: World) -> None:
    """
    Nothing asked, nothing answered.
    """
    answer = await batch(world.guest, [])

    assert (200, {"results": []}) == (answer.status, answer.body)


async def test_a_service_names_an_owner_for_each(world: World) -> None:
    """
    Each job of a batch may be another owner's; one without an owner is refused alone.
    """
    jobs = [{"kind": "work", "owner": owner} for owner in (world.guest.owner, world.user.owner)] + [{"kind": "work"}]

    results = (await batch(world.backend, jobs)).body["results"]

    assert [201, 201, 422] == [result["status"] for result in results]
    assert [world.guest.owner, world.user.owner] == [result["job"]["owner"] for result in results[:2]]


async def test_a_guest_cannot_slip_another_owner_in(world: World) -> None:
    """
    403 in its place, and no job.
    """
    answer = await batch(world.guest, [{"kind": "work", "owner": world.stranger.owner}])

    assert (200, [403]) == (answer.status, [result["status"] for result in answer.body["results"]])
    assert 0 == await world.position()


async def test_a_batch_is_replayed_whole(world: World) -> None:
    """
    The same batch under the same Idempotency-Key gets the same results, refusals of the domain included.
    """
    jobs: list[JSON] = [
        {"kind": "work", "key": "a"},
        {"kind": "NO"},
        {"kind": "work", "key": "a", "dedup": {"on_active": "reject"}},
        {"kind": "work"},
    ]
    first = await batch(world.guest, jobs, **{"Idempotency-Key": "once"})
    await world.worker.claims(max=10)

    second = await batch(world.guest, jobs, **{"Idempotency-Key": "once"})

    assert "Idempotency-Replayed" not in first.headers
    assert "true" == second.headers["Idempotency-Replayed"]
    assert without_request_ids(first) == without_request_ids(second)
    assert 4 == await world.position()


def without_request_ids(answer: Answer) -> list[JSON]:
    """
    The results without what names the request.
    """
    return [
        {name: value for name, value in result.items() if name != "request_id"} for result in answer.body["results"]
    ]


async def test_a_replayed_batch_has_every_result_in_its_place(world: World) -> None:
    """
    A job refused the first time is refused again in its place, even where it would be allowed by now.
    """
    late = rfc3339(world.clock.now() + 30 * 86_400 * 1_000_000 + 20 * 1_000_000)
    jobs = [{"kind": "work", "run_at": late}, {"kind": "work"}]
    headers = {"Idempotency-Key": "once"}
    first = await world.guest.post("/api/jobs/batch", {"jobs": jobs}, headers=headers)
    world.clock.advance(60)

    again = await world.guest.post("/api/jobs/batch", {"jobs": jobs}, headers=headers)

    assert [422, 201] == [result["status"] for result in first.body["results"]]
    assert [422, 201] == [result["status"] for result in again.body["results"]]
    assert first.body["results"][0]["errors"] == again.body["results"][0]["errors"]
    assert first.body["results"][1]["job"]["id"] == again.body["results"][1]["job"]["id"]
