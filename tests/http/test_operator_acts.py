from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.client import JSON
    from tests.http.conftest import LogLines
    from tests.http.world import World


def acts(lines: LogLines) -> list[tuple[JSON, ...]]:
    """
    What the service's log says of operators: act, reason and code.
    """
    told = [line for line in lines() if line["event"] == "operator.acted"]
    assert all(line["actor"] == "operator:olga" for line in told)
    return [(line["act"], line.get("reason"), line.get("code")) for line in told]


@pytest.mark.parametrize(
    ("path", "body", "event"),
    [
        ("/api/jobs/{id}/cancel", {}, "job.cancelled"),
        ("/api/jobs/cleanup/{id}", {"force": True}, "job.cancelled"),
    ],
)
async def test_what_an_operator_ends_says_who_and_why(
    world: World, log_lines: LogLines, path: str, body: JSON, event: str
) -> None:
    """
    The event carries actor, reason and request id, and so does the service's line.
    """
    job = await world.guest.made()

    await world.operator.post(
        path.format(id=job["id"]), body | {"reason": "stuck"}, headers={"X-Request-Id": "visit-1"}
    )

    ended = (await world.log())[-1]
    assert (event, "operator:olga", "stuck") == (ended["type"], ended["actor"], ended["data"]["reason"])
    assert "visit-1" == ended["request_id"]
    assert [(f"POST {path}", "stuck", None)] == acts(log_lines)
    assert ("visit-1", job["id"]) == _last(log_lines, "request_id", "job_id")


async def test_a_retry_says_who_and_why(world: World, log_lines: LogLines) -> None:
    """
    The new job's first event carries the reason; the job itself has none, since nothing has ended it.
    """
    job = await world.guest.made(key="k")
    await world.guest.cancel(job["id"])

    again = await world.operator.retry(job["id"], reason="the site is back")

    born = (await world.log())[-1]
    assert ("job.created", "operator:olga", "the site is back") == (born["type"], born["actor"], born["data"]["reason"])
    assert again.job["reason"] is None
    assert [("POST /api/jobs/{id}/retry", "the site is back", None)] == acts(log_lines)


async def test_a_retry_that_takes_a_given_up_holder_s_place_says_why(world: World) -> None:
    """
    The reason goes with the new job; the holder's end keeps its own.
    """
    first = await world.guest.made(key="k")
    await world.guest.cancel(first["id"])
    await world.guest.made(key="k")
    await world.worker.claim()
    (holder,) = await world.guest.active()
    await world.guest.cancel(holder["id"])

    await world.operator.retry(first["id"], reason="at once")

    ended, born = (await world.log())[-2:]
    assert ("superseded", "at once") == (ended["data"]["reason"], born["data"]["reason"])


async def test_an_operator_s_creates_and_reports_name_the_operator(world: World, log_lines: LogLines) -> None:
    """
    At the doors of others too the event says which operator it was.
    """
    await world.operator.made(owner="user:ada")
    grant = await world.operator.claim()
    await world.operator.complete(grant)

    assert ["operator:olga"] * 3 == [event["actor"] for event in await world.log()]
    doors = ["POST /api/jobs", "POST /api/worker/claim", "POST /api/worker/jobs/{id}/complete"]
    assert [(door, None, None) for door in doors] == acts(log_lines)


async def test_acts_without_an_event_are_lines(world: World, log_lines: LogLines) -> None:
    """
    A rebuild, a cleanup of what has ended, and what was refused stand in the service's log; reads do not.
    """
    job = await world.guest.made()
    await world.guest.cancel(job["id"])
    await world.operator.read(job["id"])

    await world.operator.post("/api/projections/active/rebuild")
    await world.operator.post("/api/projections/counts/rebuild", {"reason": "it lags"})
    await world.operator.clean_up(job["id"], reason="to be sure")
    await world.operator.post("/api/projections/nothing/rebuild")
    await world.operator.retry("nonsense", reason="why not")

    assert [
        ("POST /api/projections/{name}/rebuild", None, None),
        ("POST /api/projections/{name}/rebuild", "it lags", None),
        ("POST /api/jobs/cleanup/{id}", "to be sure", None),
        ("POST /api/projections/{name}/rebuild", None, "not-found"),
        ("POST /api/jobs/{id}/retry", None, "not-found"),
    ] == acts(log_lines)
    rebuilt = [line.get("projection") for line in log_lines() if line["event"] == "operator.acted"]
    assert ["active", "counts", None, None, None] == rebuilt


@pytest.mark.parametrize("who", ["guest", "user"])
async def test_owners_see_the_operator_as_a_role_only(world: World, who: str) -> None:
    """
    In the history of their job, whoever acted on it.
    """
    owner = getattr(world, who)
    job = await owner.made()
    await world.operator.cancel(job["id"], reason="stuck")

    history = (await owner.get(f"/api/jobs/{job['id']}/events")).body["events"]

    assert [who, "operator"] == [event["actor"] for event in history]
    assert "olga" not in str(history)


def _last(lines: LogLines, *names: str) -> tuple[JSON, ...]:
    line = [line for line in lines() if line["event"] == "operator.acted"][-1]
    return tuple(line[name] for name in names)
