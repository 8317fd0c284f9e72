from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.client import JSON, Caller
    from tests.http.world import World


async def every_job(caller: Caller, **params: JSON) -> list[JSON]:
    """
    The jobs of all pages, in order.
    """
    jobs: list[JSON] = []
    after: dict[str, JSON] = {}
    while True:
        answer = await caller.get("/api/jobs", **params, **after)
        assert {"jobs", "next"} == answer.body.keys()
        jobs += answer.body["jobs"]
        if answer.body["next"] is None:
            return jobs
        after = {"after": answer.body["next"]}


async def test_jobs_come_newest_first_ended_ones_included(world: World) -> None:
    """
    The list is the owner's whole history, whatever state a job is in.
    """
    made = [await world.guest.made(title=f"{n}") for n in range(4)]
    await world.guest.cancel(made[1]["id"])
    await world.stranger.made()

    jobs = await every_job(world.guest)

    assert ["3", "2", "1", "0"] == [job["title"] for job in jobs]
    assert [True, True, False, True] == [job["active"] for job in jobs]


async def test_pages_join_without_gap_or_repeat(world: World) -> None:
    """
    Whatever the page's size, following next shows each job once.
    """
    made = [await world.guest.made() for _ in range(7)]

    pages = [await every_job(world.guest, limit=limit) for limit in (1, 3, 7, 8)]

    expected = [job["id"] for job in reversed(made)]
    assert [expected] * 4 == [[job["id"] for job in page] for page in pages]


async def test_a_job_made_meanwhile_does_not_shift_the_pages(world: World) -> None:
    """
    The place in the list is a job, not a count.
    """
    made = [await world.guest.made() for _ in range(4)]
    first = (await world.guest.get("/api/jobs", limit=2)).body
    await world.guest.made()

    second = (await world.guest.get("/api/jobs", limit=2, after=first["next"])).body

    assert [made[3]["id"], made[2]["id"], made[1]["id"], made[0]["id"]] == [
        job["id"] for job in first["jobs"] + second["jobs"]
    ]
    assert second["next"] is None


async def test_the_list_is_filtered_by_state_kind_and_key(world: World) -> None:
    """
    Filters narrow together; a state may be named more than once.
    """
    queued = await world.guest.made(kind="b", key="k")
    cancelled = await world.guest.made(kind="a", key="k")
    await world.guest.cancel(cancelled["id"])
    await world.guest.made(kind="a")
    running = (await world.worker.claim(kinds=["a"])).id

    async def found(**params: JSON) -> list[str]:
        return [job["id"] for job in await every_job(world.guest, **params)]

    assert [cancelled["id"]] == await found(state="cancelled")
    assert [cancelled["id"], queued["id"]] == await found(state=["cancelled", "queued"])
    assert [running] == await found(state="running", kind="a")
    assert [cancelled["id"], queued["id"]] == await found(key="k")
    assert [cancelled["id"]] == await found(key="k", kind="a")
    assert [] == await found(key="nothing")


@pytest.mark.parametrize(
    "params",
    [{"state": "done"}, {"limit": 0}, {"limit": "x"}, {"limit": 100_000}, {"limit": -1}, {"after": "nonsense"}],
)
async def test_a_query_that_makes_no_sense_is_refused(world: World, params: dict[str, JSON]) -> None:
    """
    An unknown state, a limit out of bounds and a made-up place are problems.
    """
    answer = await world.guest.get("/api/jobs", **params)

    assert (422, "invalid") == (answer.status, answer.code)


async def test_operators_viewers_and_services_list_by_owner(world: World) -> None:
    """
    Those who see all see all or one owner's; a service the one it names; a guest no other.
    """
    mine, other = await world.guest.made(), await world.stranger.made()

    everything = [[job["id"] for job in await every_job(caller)] for caller in (world.viewer, world.operator)]
    named = [
        [job["id"] for job in await every_job(caller, owner=world.guest.owner)]
        for caller in (world.viewer, world.operator, world.backend)
    ]
    refused = [await world.backend.get("/api/jobs"), await world.guest.get("/api/jobs", owner=world.stranger.owner)]

    assert [[other["id"], mine["id"]]] * 2 == everything
    assert [[mine["id"]]] * 3 == named
    assert [422, 403] == [answer.status for answer in refused]


async def test_large_results_are_left_out_and_named(world: World) -> None:
    """
    An input or result above 16 KiB is omitted from lists.
    """
    await world.guest.made(input="i" * 20_000)
    await world.worker.complete(await world.worker.claim(), "r" * 20_000)

    (job,) = await every_job(world.guest)

    assert ["input", "result"] == job["omitted"]
    assert not {"input", "result"} & job.keys()
