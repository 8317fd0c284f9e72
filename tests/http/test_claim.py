from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.http.client import until

if TYPE_CHECKING:
    from tests.http.client import JSON, Grant
    from tests.http.world import World


def titles(grants: list[Grant]) -> list[str]:
    """
    The titles of what was granted, in order.
    """
    return [grant.job["title"] for grant in grants]


async def waiting_claim(world: World, **fields: JSON) -> asyncio.Task[list[Grant]]:
    """
    A claim that waits: its worker is registered.
    """
    before = len(world.service.ledger.worker_waiters)
    claiming = asyncio.create_task(world.worker.claims(wait_s=30, **fields))
    await until(lambda: len(world.service.ledger.worker_waiters) != before)
    return claiming


async def test_a_claim_gives_a_job_with_a_lease(world: World) -> None:
    """
    The job is running, held by the worker, with a token, a fence and an expiry.
    """
    made = await world.guest.made(input={"n": 2**65})

    grant = await world.worker.claim(lease_s=60, worker="w7")

    assert (made["id"], "running", "w7", 1, {"n": 2**65}) == (
        grant.id, grant.job["state"], grant.job["worker"], grant.job["attempt"], grant.job["input"],
    )  # fmt: skip
    assert (1, grant.job["lease_expires_at"]) == (grant.fence, grant.lease_expires_at)
    assert abs(datetime.fromisoformat(grant.lease_expires_at).timestamp() - world.clock.now() / 1e6 - 60) < 5


async def test_with_nothing_to_do_a_claim_is_204(world: World) -> None:
    """
    No job, no content, at once or after wait_s.
    """
    answers = [await world.worker.post("/api/worker/claim", {"wait_s": wait_s}) for wait_s in (0, 0.05)]

    assert [(204, b"")] * 2 == [(answer.status, answer.content) for answer in answers]


async def test_the_lease_is_thirty_seconds_and_the_worker_the_subject_by_default(world: World) -> None:
    """
    A claim that says nothing gets a lease of 30 s under the token's own name.
    """
    await world.guest.made()

    grant = await world.worker.claim()

    assert "w1" == grant.job["worker"]
    assert abs(datetime.fromisoformat(grant.lease_expires_at).timestamp() - world.clock.now() / 1e6 - 30) < 5


async def test_the_order_is_priority_then_round_robin_over_owners_then_time(world: World) -> None:
    """
    Larger priority first; within it the owners take turns; within an owner the oldest first.
    """
    for title in ("a1", "a2", "a3"):
        await world.guest.made(title=title)
    for title in ("b1", "b2"):
        await world.stranger.made(title=title)
    await world.guest.made(title="low", priority=-1)
    await world.backend.made(title="high", priority=5, owner=world.guest.owner)

    grants = await world.worker.claims(max=10)

    order = titles(grants)
    assert ["high"] == order[:1]
    assert ["low"] == order[-1:]
    assert {"a1", "b1"} == set(order[1:3])
    assert {"a2", "b2"} == set(order[3:5])
    assert "a3" == order[5]


async def test_a_claim_takes_the_named_kinds_only(world: World) -> None:
    """
    Kinds restricts what is given; none named means any.
    """
    await world.guest.made(kind="a", title="a")
    await world.guest.made(kind="b", title="b")

    of_b = await world.worker.claims(kinds=["b", "c"], max=10)
    rest = await world.worker.claims(max=10)

    assert (["b"], ["a"]) == (titles(of_b), titles(rest))


async def test_a_token_with_kinds_gives_those_only(world: World) -> None:
    """
    A worker whose token names kinds gets no other, and may not ask for one or report on one.
    """
    limited = world.caller("worker", "w2", kinds=["a"])
    await world.guest.made(kind="b", title="b")
    await world.guest.made(kind="a", title="a")

    granted = await limited.claims(max=10)
    asked = await limited.post("/api/worker/claim", {"kinds": ["a", "b"]})
    foreign = await world.worker.claim(kinds=["b"])
    reported = await limited.report(foreign, "heartbeat")

    assert ["a"] == titles(granted)
    assert [(403, "access-denied")] * 2 == [(answer.status, answer.code) for answer in (asked, reported)]


async def test_no_job_is_given_twice(world: World) -> None:
    """
    However many claim at once, each job goes to one of them.
    """
    made = {(await world.guest.made())["id"] for _ in range(30)}

    granted = await asyncio.gather(*(world.worker.claims(max=2, worker=f"w{n}") for n in range(40)))

    ids = [grant.id for grants in granted for grant in grants]
    assert made == set(ids)
    assert len(made) == len(ids)


async def test_a_waiting_claim_is_given_the_job_that_comes(world: World) -> None:
    """
    A long-poll answers with the create, not at its end.
    """
    claiming = await waiting_claim(world)

    made = await world.guest.made()
    (grant,) = await claiming

    assert made["id"] == grant.id


async def test_a_waiting_claim_is_not_woken_by_another_kind(world: World) -> None:
    """
    A worker of other kinds sleeps on while the job goes to whom it concerns.
    """
    other = await waiting_claim(world, kinds=["other"])
    mine = await waiting_claim(world, kinds=["work"])

    made = await world.guest.made()
    (grant,) = await mine

    assert (made["id"], False) == (grant.id, other.done())
    await world.guest.made(kind="other")
    assert ["other"] == [each.job["kind"] for each in await other]


async def test_a_waiting_claim_is_given_a_job_when_it_comes_due(world: World) -> None:
    """
    A retry that comes due wakes who waits.
    """
    await world.guest.made()
    await world.worker.report(await world.worker.claim(), "fail", error={"code": "x"}, retry_after_s=60)
    claiming = await waiting_claim(world)

    world.clock.advance(61)
    (grant,) = await claiming

    assert 2 == grant.job["attempt"]


async def test_a_waiting_claim_whose_connection_closes_is_removed_at_once(world: World) -> None:
    """
    The next job goes to a worker that is still there.
    """
    gone = await waiting_claim(world)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await until(lambda: len(world.service.ledger.worker_waiters) == 0)

    made = await world.guest.made()
    grant = await world.worker.claim()

    assert (made["id"], 1, 1) == (grant.id, grant.job["attempt"], grant.fence)


async def test_a_grant_whose_worker_hangs_up_is_undone(world: World) -> None:
    """
    A job granted to a connection that closes at that moment waits again, attempt and losses unchanged.
    """
    jobs = [await world.guest.made() for _ in range(20)]

    for _ in jobs:
        claiming = asyncio.create_task(world.worker.claims(lease_s=600, worker="gone"))
        await asyncio.sleep(0.002)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)

    # What was written before the connection closed is held, everything else is there to be claimed.
    for job in jobs:
        settled = await world.guest.settled(job["id"], lambda each: each["worker"] in (None, "gone"))
        assert 0 == settled["lost_leases"]
        assert settled["attempt"] == (settled["state"] == "running")


async def test_the_same_claim_id_gives_the_same_grants(world: World) -> None:
    """
    A claim that is repeated because its answer was lost gets the same jobs while the leases live.
    """
    for _ in range(3):
        await world.guest.made()
    first = await world.worker.claims(max=2, claim_id="c1", lease_s=60)

    second = await world.worker.claims(max=2, claim_id="c1", lease_s=60)
    other = await world.worker.claims(max=2, claim_id="c2", lease_s=60)

    assert {(grant.id, grant.lease_token, grant.fence) for grant in first} == {
        (grant.id, grant.lease_token, grant.fence) for grant in second
    }
    assert (2, 1) == (len(second), len(other))
    assert not {grant.id for grant in first} & {grant.id for grant in other}


async def test_a_claim_id_counts_per_token_and_worker_name(world: World) -> None:
    """
    Another worker that happens on the same claim_id gets jobs of its own.
    """
    for _ in range(3):
        await world.guest.made()
    second_worker = world.caller("worker", "w2")

    grants = [
        await world.worker.claim(claim_id="c"),
        await world.worker.claim(claim_id="c", worker="another"),
        await second_worker.claim(claim_id="c"),
    ]

    assert 3 == len({grant.id for grant in grants})


async def test_a_claim_id_whose_leases_are_over_gives_new_grants(world: World) -> None:
    """
    Once the lease has lapsed, the same claim_id is a new claim.
    """
    await world.guest.made()
    first = await world.worker.claim(claim_id="c", lease_s=1)

    world.clock.advance(2)
    (second,) = await world.worker.claims(claim_id="c", wait_s=10)

    assert first.id == second.id
    assert first.fence < second.fence


async def test_the_fence_grows_with_every_grant(world: World) -> None:
    """
    Each grant of a job has a larger fence, so that an old lease is told from the current one.
    """
    await world.guest.made(max_attempts=10)
    fences = []

    for verb, fields in (("release", {}), ("fail", {"error": {"code": "x"}, "retry_after_s": 0}), ("release", {})):
        grant = (await world.worker.claims(wait_s=10))[0]
        fences.append(grant.fence)
        await world.worker.report(grant, verb, **fields)

    assert sorted(set(fences)) == fences


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"lease_s": 0.5}, "/lease_s"),
        ({"lease_s": 3_601}, "/lease_s"),
        ({"wait_s": 31}, "/wait_s"),
        ({"wait_s": -1}, "/wait_s"),
        ({"max": 0}, "/max"),
        ({"max": 501}, "/max"),
        ({"kinds": ["NO"]}, "/kinds/"),
        ({"worker": "w" * 201}, "/worker"),
        ({"claim_id": ""}, "/claim_id"),
        ({"unknown": 1}, ""),
    ],
)
async def test_a_claim_out_of_bounds_is_refused(world: World, fields: JSON, pointer: str) -> None:
    """
    422 that says where, and no job is granted.
    """
    job = await world.guest.made()

    answer = await world.worker.post("/api/worker/claim", fields)

    assert (422, "invalid") == (answer.status, answer.code)
    assert answer.pointer.startswith(pointer)
    assert job == await world.guest.read(job["id"])
