from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.conftest import Starter
    from tests.http.world import World

JSON_TYPE = {"Content-Type": "application/json"}


async def test_a_body_above_one_mebibyte_is_413(world: World) -> None:
    """
    too-large, and nothing changes; one just below is taken.
    """
    too_large = b'{"kind":"work","input":"' + b"x" * 1_048_576 + b'"}'
    just_below = b'{"kind":"work","input":"' + b"x" * 1_048_000 + b'"}'

    refused = await world.guest.send("POST", "/api/jobs", content=too_large, headers=JSON_TYPE)
    taken = await world.guest.send("POST", "/api/jobs", content=just_below, headers=JSON_TYPE)

    assert (413, "too-large") == (refused.status, refused.code)
    assert 201 == taken.status
    assert 1 == await world.position()


async def test_what_is_just_within_bounds_is_taken(world: World) -> None:
    """
    The longest title, key, kind and URL, and the largest priority range of a guest.
    """
    longest_url = "https://example.com/" + "a" * (2_048 - 20)

    answers = [
        await world.guest.create(title="t" * 200, key="k" * 2_048, kind="a" * 64, priority=-100, max_attempts=10),
        await world.guest.create(url=longest_url),
        await world.guest.create(title="😀" * 200),
        await world.guest.create(input=[[]]),
    ]

    assert [201] * 4 == [answer.status for answer in answers]


async def test_an_owner_has_so_many_active_jobs(start: Starter) -> None:
    """
    429 too-many-active with Retry-After; attach still works, another owner is not hurt, and room is made by an end.
    """
    world = await start(active_per_owner_max=2)
    jobs = [await world.guest.made(key=f"{n}") for n in range(2)]

    refused = await world.guest.create()
    attached = await world.guest.create(key="0")
    replaced = await world.guest.create(key="1", dedup={"on_active": "replace"})
    other = await world.stranger.create()
    await world.guest.cancel(jobs[0]["id"])
    again = await world.guest.create()

    assert (429, "too-many-active", True) == (refused.status, refused.code, "Retry-After" in refused.headers)
    assert [200, 201, 201, 201] == [answer.status for answer in (attached, replaced, other, again)]


async def test_the_bound_holds_for_creates_at_once(start: Starter) -> None:
    """
    However many come in one breath, no more than that many are made.
    """
    world = await start(active_per_owner_max=5)

    answers = await asyncio.gather(*(world.guest.create() for _ in range(20)))

    assert [201] * 5 + [429] * 15 == sorted(answer.status for answer in answers)
    assert 5 == len(await world.guest.active())


async def test_all_together_have_so_many_active_jobs(start: Starter) -> None:
    """
    The total is bounded too.
    """
    world = await start(active_total_max=2)
    await world.guest.made()
    await world.stranger.made()

    answer = await world.user.create()

    assert (429, "too-many-active") == (answer.status, answer.code)


async def test_guests_may_be_held_to_a_list_of_kinds(start: Starter) -> None:
    """
    Where a list is set, guests and users ask for those kinds only; a service for any.
    """
    world = await start(guest_kinds=("x-post",))

    answers = [
        await world.guest.create(kind="x-post"),
        await world.guest.create(kind="work"),
        await world.user.create(kind="work"),
        await world.backend.create(kind="work", owner=world.guest.owner),
    ]

    assert [201, 422, 422, 201] == [answer.status for answer in answers]
    assert "/kind" == answers[1].pointer


async def test_a_guest_schedules_at_most_thirty_days_ahead(world: World) -> None:
    """
    29 days are taken, 31 refused.
    """
    now = datetime.fromtimestamp(world.clock.now() / 1e6).astimezone()

    answers = [await world.guest.create(run_at=(now + timedelta(days=days)).isoformat()) for days in (29, 31)]

    assert [201, 422] == [answer.status for answer in answers]


async def test_past_the_bound_of_events_progress_is_written_once_at_the_end(start: Starter) -> None:
    """
    State events are never refused; progress beyond is held in memory and stands in the log before the end.
    """
    world = await start(events_per_job_max=4)
    await world.guest.made()
    grant = await world.worker.claim(lease_s=600)
    for percent in range(10):
        world.clock.advance(1)
        await world.worker.report(grant, "progress", percent=percent)

    completed = await world.worker.complete(grant)

    types = await world.guest.types(grant.id)
    assert ["job.progressed", "job.completed"] == types[-2:]
    assert 6 == len(types)
    assert 9 == completed["progress"]["percent"]


async def test_the_bounds_are_settings(start: Starter) -> None:
    """
    A smaller body, shorter titles and fewer jobs in a batch are a matter of settings.
    """
    world = await start(body_bytes_max=1_000, title_characters_max=5, items_max=1, json_depth_max=3)

    answers = [
        await world.guest.create(input="x" * 1_000),
        await world.guest.create(title="123456"),
        await world.guest.post("/api/jobs/batch", {"jobs": [{"kind": "a"}] * 2}),
        await world.guest.create(input=[[[]]]),
    ]

    assert [413, 422, 413, 400] == [answer.status for answer in answers]


@pytest.mark.parametrize("number", ["9" * 19, "0" * 12 + "9999", "9" * 5_000])
async def test_a_number_too_long_is_refused(world: World, number: str) -> None:
    """
    However it is written, a number beyond its bound is 422 and never a fault of ours.
    """
    job = await world.guest.made()

    answer = await world.guest.get(f"/api/jobs/{job['id']}/events", limit=number)

    assert (422, "invalid", "/limit") == (answer.status, answer.code, answer.pointer)
