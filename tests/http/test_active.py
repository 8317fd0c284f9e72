from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.client import JSON, Caller
    from tests.http.conftest import Starter
    from tests.http.world import World


def ids(jobs: list[dict[str, str]]) -> list[str]:
    """
    The ids of *jobs*, in order.
    """
    return [job["id"] for job in jobs]


async def test_a_caller_sees_its_own_active_jobs_and_nothing_else(world: World) -> None:
    """
    Neither another's nor ended jobs are on the list.
    """
    mine = await world.guest.made()
    ended = await world.guest.made()
    await world.stranger.made()
    await world.guest.cancel(ended["id"])

    answer = await world.guest.get("/api/jobs/active")

    assert 200 == answer.status
    assert {"jobs", "cursor"} == answer.body.keys()
    assert [mine] == answer.body["jobs"]


@pytest.mark.parametrize("ending", ["complete", "fail", "cancel", "expire", "lose"])
async def test_a_terminal_event_takes_the_job_off_with_nobody_cleaning_up(world: World, ending: str) -> None:
    """
    However a job ends, the next look at the list does not show it.
    """
    job = await world.guest.made(deadline_s=86_400)
    match ending:
        case "complete":
            await world.worker.complete(await world.worker.claim())
        case "fail":
            await world.worker.report(await world.worker.claim(), "fail", error={"code": "x"}, retryable=False)
        case "cancel":
            await world.guest.cancel(job["id"])
        case "expire":
            world.clock.advance(86_401)
            await world.guest.settled(job["id"], lambda each: not each["active"])
        case _:
            for _ in range(3):
                await world.worker.claim(lease_s=1, wait_s=5)
                world.clock.advance(2)
            await world.guest.settled(job["id"], lambda each: not each["active"])

    jobs = await world.guest.active()

    assert [] == jobs
    assert not (await world.guest.read(job["id"]))["active"]


async def test_the_cursor_is_as_of_the_list(world: World) -> None:
    """
    A stream resumed from the list's cursor shows what came after it and nothing before.
    """
    await world.guest.made()
    cursor = (await world.guest.get("/api/jobs/active")).body["cursor"]
    after = await world.guest.made()

    async with world.guest.stream(after=cursor) as frames:
        seen = await frames.until("ready")

    assert ["hello", "job", "ready"] == [frame.event for frame in seen]
    assert after["id"] == seen[1].data["job"]["id"]


async def test_the_list_is_filtered_by_key_kind_and_url(world: World) -> None:
    """
    Each filter leaves the jobs that it names.
    """
    post = await world.guest.made(kind="x-post", url="https://x.com/a/status/7")
    keyed = await world.guest.made(key="k")
    plain = await world.guest.made(url="https://example.com/a")

    async def found(**params: str) -> list[str]:
        return ids(await world.guest.active(**params))

    assert [keyed["id"]] == await found(key="k")
    assert [post["id"]] == await found(kind="x-post")
    assert [plain["id"]] == await found(url="https://EXAMPLE.com:443/a#x")
    assert [] == await found(key="k", kind="x-post")
    assert [] == await found(key="nowhere")


async def test_url_without_kind_tries_every_profile(world: World) -> None:
    """
    A post is found by any of its spellings whether or not the caller names the kind.
    """
    post = await world.guest.made(kind="x-post", url="https://x.com/a/status/7")
    spelling = "https://mobile.twitter.com/i/web/status/7?s=20"

    without = ids(await world.guest.active(url=spelling))
    with_kind = ids(await world.guest.active(url=spelling, kind="x-post"))
    other_kind = ids(await world.guest.active(url=spelling, kind="work"))

    assert ([post["id"]], [post["id"]], []) == (without, with_kind, other_kind)


@pytest.mark.parametrize("url", ["nonsense", "ftp://example.com/", "https://user:pw@example.com/"])
async def test_a_url_that_makes_no_key_is_refused(world: World, url: str) -> None:
    """
    What a create would refuse, a search refuses too.
    """
    answer = await world.guest.get("/api/jobs/active", url=url)

    assert (422, "invalid", "/url") == (answer.status, answer.code, answer.pointer)


async def test_viewer_and_operator_see_all_in_pages(world: World) -> None:
    """
    Whoever sees all gets every owner's jobs, a page at a time, each once.
    """
    made = [await caller.made() for caller in (world.guest, world.stranger, world.user) for _ in range(2)]

    for caller in (world.viewer, world.operator):
        pages = await every_page(caller, limit=4)
        assert [4, 2] == [len(page) for page in pages]
        assert sorted(ids(made)) == sorted(job_id for page in pages for job_id in page)


async def every_page(caller: Caller, *, limit: int) -> list[list[str]]:
    """
    The ids of each page of the active list.
    """
    pages: list[list[str]] = []
    after: dict[str, JSON] = {}
    while True:
        body = (await caller.get("/api/jobs/active", limit=limit, **after)).body
        pages.append(ids(body["jobs"]))
        if body["next"] is None:
            return pages
        after = {"after": body["next"]}


async def test_viewer_and_operator_may_name_an_owner(world: World) -> None:
    """
    Owner narrows the list of those who see all to one owner's jobs.
    """
    mine = await world.guest.made()
    await world.stranger.made()

    lists = [ids(await caller.active(owner=world.guest.owner)) for caller in (world.viewer, world.operator)]

    assert [[mine["id"]]] * 2 == lists


async def test_a_service_names_the_owner_whose_list_it_wants(world: World) -> None:
    """
    With owner it sees that owner's, without it is refused.
    """
    mine = await world.guest.made()
    await world.stranger.made()

    seen = ids(await world.backend.active(owner=world.guest.owner))
    without = await world.backend.get("/api/jobs/active")

    assert [mine["id"]] == seen
    assert (422, "invalid") == (without.status, without.code)


async def test_a_guest_may_not_name_another_owner(world: World) -> None:
    """
    Asking for another's list is refused, not answered with an empty one.
    """
    await world.stranger.made()

    answer = await world.guest.get("/api/jobs/active", owner=world.stranger.owner)

    assert (403, "access-denied") == (answer.status, answer.code)


async def test_the_lease_is_laid_over_when_read(world: World) -> None:
    """
    A running job shows until when its lease runs; a heartbeat moves that and changes no version.
    """
    job = await world.guest.made()
    grant = await world.worker.claim(lease_s=60)
    (before,) = await world.guest.active()

    world.clock.advance(30)
    await world.worker.report(grant, "heartbeat")
    (after,) = await world.guest.active()

    assert job["lease_expires_at"] is None
    assert before["lease_expires_at"] < after["lease_expires_at"]
    assert before["version"] == after["version"] == 2


async def test_large_input_is_left_out_and_named(world: World) -> None:
    """
    In the list an input above 16 KiB is omitted and said to be; the job itself has it.
    """
    large = {"text": "x" * 20_000}
    job = await world.guest.made(input=large)

    (shown,) = await world.guest.active()

    assert "input" not in shown
    assert ["input"] == shown["omitted"]
    assert large == (await world.guest.read(job["id"]))["input"]


async def test_url_without_kind_tries_the_profiles_that_settings_name(start: Starter) -> None:
    """
    A kind whose links lose their tracking parameters is found by a link that has some.
    """
    world = await start(profiles={"article": "strip-tracking"})
    job = await world.guest.made(kind="article", url="https://example.com/a?id=1")
    link = "http://www.example.com/a?utm_source=mail&id=1"

    found = [ids(await world.guest.active(url=link, **kind)) for kind in ({}, {"kind": "article"}, {"kind": "work"})]

    assert [[job["id"]], [job["id"]], []] == found
    assert 200 == (await world.guest.create(kind="article", url=link)).status
