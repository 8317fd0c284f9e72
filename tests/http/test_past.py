"""
What was, over HTTP: ``as_of`` on the reads of jobs, explanations, and what operators ask of the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobsvc.domain.moments import rfc3339
from jobsvc.http.problems import STATUS_OF_CODE
from tests.system.logs import fill, without_lease

if TYPE_CHECKING:
    from tests.http.client import JSON
    from tests.http.conftest import Starter
    from tests.http.world import World


async def test_a_job_is_read_as_it_was(world: World) -> None:
    """
    By position and by time: each version with its own ETag and no lease, and before its birth 404.
    """
    job = await world.guest.made(key="k")
    (grant,) = await world.worker.claims(max=1)
    await world.worker.complete(grant, {"pages": 3})
    path, events = f"/api/jobs/{job['id']}", await world.log()

    by_position = [await world.guest.get(path, as_of=event["position"]) for event in events]
    by_time = [await world.guest.get(path, as_of=event["at"]) for event in events]
    before = await world.guest.get(path, as_of=0)
    known = await world.guest.get(path, as_of=1, headers={"If-None-Match": 'W/"1"'})

    assert ["queued", "running", "completed"] == [answer.body["job"]["state"] for answer in by_position]
    assert ['W/"1"', 'W/"2"', 'W/"3"'] == [answer.headers["ETag"] for answer in by_time]
    assert {None} == {answer.body["job"]["lease_expires_at"] for answer in by_position}
    assert (404, "not-found") == (before.status, before.code)
    assert 304 == known.status


async def test_the_active_jobs_are_read_as_they_were(world: World) -> None:
    """
    At each position those that were the caller's then and no other; operators see all, by kind, key and page; the
    cursor is that of then.
    """
    await fill(world)
    last = await world.position()
    for position in range(last + 1):
        state = (await world.operator.get("/api/operator/state-at", at=position)).body

        everybody = (await world.viewer.get("/api/jobs/active", as_of=position)).body
        guest_s = (await world.guest.get("/api/jobs/active", as_of=position)).body

        assert (position, None) == (state["position"], state["next"])
        assert state["jobs"] == everybody["jobs"]
        assert [job for job in state["jobs"] if job["owner"] == world.guest.owner] == guest_s["jobs"]
        assert guest_s["cursor"].endswith(f".{position}")
        assert "next" not in guest_s
    now, listed = (await world.guest.get("/api/jobs/active", as_of=last)).body, await world.guest.active()
    assert without_lease(listed) == without_lease(now["jobs"])
    held = (await world.operator.get("/api/jobs/active", as_of=last - 1, key="held")).body
    assert ["held"] == [job["key"] for job in held["jobs"]]


async def test_all_that_was_active_is_read_in_pages(world: World) -> None:
    """
    ``next`` leads from page to page, and nothing is missing or doubled.
    """
    made = sorted([(await world.guest.made())["id"] for _ in range(5)])
    for path, place in (("/api/jobs/active", "as_of"), ("/api/operator/state-at", "at")):
        seen: list[str] = []
        page: JSON = {"next": None}
        while page["next"] is not None or not seen:
            query: dict[str, Any] = {place: 4} | ({"after": page["next"]} if page["next"] else {})
            page = (await world.operator.get(path, limit=2, **query)).body
            seen += [job["id"] for job in page["jobs"]]

        assert made[:4] == seen


async def test_what_was_another_s_then_stays_the_other_s(world: World) -> None:
    """
    A claimed job is the user's from the claim on: as of before it, it is neither read nor listed by the user.
    """
    guest = world.with_token((await world.nobody.post("/api/sessions/guest")).body["token"])
    job = await guest.made(key="k")
    await world.user.post("/api/sessions/claim", {"guest_token": guest.token})
    path, last = f"/api/jobs/{job['id']}", await world.position()

    then, now = await world.user.get(path, as_of=last - 1), await world.user.get(path, as_of=last)
    listed_then = await world.user.get("/api/jobs/active", as_of=last - 1)
    listed_now = await world.user.get("/api/jobs/active", as_of=last)
    why = await world.user.get(f"{path}/explain", as_of=last - 1)

    assert (403, "access-denied", 200) == (then.status, then.code, now.status)
    assert ([], [job["id"]]) == (listed_then.body["jobs"], [each["id"] for each in listed_now.body["jobs"]])
    assert (403, "access-denied") == (why.status, why.code)


async def test_owners_are_told_why_by_role_and_operators_by_name(world: World) -> None:
    """
    Who cancelled it, and with which events behind the sentence.
    """
    job = await world.guest.made(key="k")
    await world.operator.cancel(job["id"])
    path = f"/api/jobs/{job['id']}/explain"

    to_owner, to_operator = await world.guest.get(path), await world.operator.get(path)
    then = await world.guest.get(path, as_of=1)

    told = {each["question"]: each for each in to_owner.body["sentences"]}
    assert (job["id"], 2) == (to_owner.body["job_id"], to_owner.body["position"])
    assert "It ended because an operator cancelled it." == told["why_ended"]["sentence"]
    assert [2] == told["who_cancelled"]["positions"]
    assert "olga" not in str(to_owner.body)
    assert "It ended because operator olga cancelled it." == to_operator.body["sentences"][0]["sentence"]
    assert "why_active" == then.body["sentences"][0]["question"]


async def test_what_changed_comes_in_pages(world: World) -> None:
    """
    The jobs in the order of their first events in between, each once, with what was and what is.
    """
    await fill(world)
    last = await world.position()
    whole = (await world.operator.get("/api/operator/diff", since=3)).body

    paged: list[JSON] = []
    page: JSON = {"next": 3}
    while page["next"] is not None:
        page = (await world.operator.get("/api/operator/diff", since=3, limit=2, after=page["next"])).body
        paged += page["jobs"]

    assert (3, last, None) == (whole["since"], whole["until"], whole["next"])
    assert whole["jobs"] == paged
    assert len(paged) == len({one["job_id"] for one in paged})
    assert {"before": "queued", "after": "completed"} in [one["fields"].get("state") for one in paged]


async def test_which_event_made_it_so(world: World) -> None:
    """
    Of a job's field and of the count of active jobs.
    """
    await fill(world)
    failed = next(event for event in await world.log() if event["type"] == "job.failed")

    of_job = await world.operator.get("/api/operator/bisect", predicate="state=failed", job=failed["job_id"])
    of_log = await world.operator.get("/api/operator/bisect", predicate="active>=3", until=3)
    never = await world.operator.get("/api/operator/bisect", predicate="active>1000")

    assert (failed["position"], failed["at"]) == (of_job.body["first"]["position"], of_job.body["first"]["at"])
    assert (3, 2, 3) == tuple(of_log.body["first"][name] for name in ("position", "before", "after"))
    assert (0, None, False) == tuple(never.body[name] for name in ("turns", "first", "holds"))


async def test_two_urls_are_compared_under_each_profile_in_use(start: Starter) -> None:
    """
    Those of the settings too, or the one of a kind; active jobs with the key are behind the sentence.
    """
    world = await start(profiles={"page": "strip-tracking"})
    await world.guest.made(kind="x-post", url="https://x.com/a/status/1")
    both = ["https://x.com/a/status/1", "https://twitter.com/i/web/status/1"]

    every = (await world.operator.get("/api/operator/explain", url=both)).body
    one = (await world.operator.get("/api/operator/explain", url=both, kind="x-post")).body

    assert {"default": False, "strip-tracking": False, "x-post": True} == {
        rule["profile"]: rule["same"] for rule in every["rules"]
    }
    assert ["x-post"] == [rule["profile"] for rule in one["rules"]]
    assert [[1]] == [each["positions"] for each in one["sentences"]]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/jobs/active", {"as_of": "yesterday"}),
        ("/api/jobs/active", {"as_of": "2026-11-24T06:46:39"}),
        ("/api/jobs/active", {"as_of": "-1"}),
        ("/api/jobs/active", {"as_of": "9" * 19}),
        ("/api/jobs", {"as_of": "1"}),
        ("/api/operator/state-at", {"at": "soon"}),
        ("/api/operator/state-at", {"job": "none"}),
        ("/api/operator/diff", {"since": "soon"}),
        ("/api/operator/diff", {"after": "soon"}),
        ("/api/operator/bisect", {}),
        ("/api/operator/bisect", {"predicate": "state=failed"}),
        ("/api/operator/bisect", {"predicate": "active>=many"}),
        ("/api/operator/explain", {"url": "https://x.com/a"}),
        ("/api/operator/explain", {"url": ["https://x.com/a", "no address"]}),
    ],
)
async def test_a_place_or_question_that_is_none_is_422(world: World, path: str, query: JSON) -> None:
    """
    With a pointer to what is wrong.
    """
    answer = await world.operator.get(path, **query)

    assert (422, "invalid") == (answer.status, answer.code)
    assert answer.body["errors"][0]["pointer"].removeprefix("/") in {*query, "predicate"}


@pytest.mark.parametrize("path", ["/api/operator/state-at", "/api/operator/bisect"])
async def test_a_job_that_never_was_is_404(world: World, path: str) -> None:
    """
    Whatever is asked about it.
    """
    query: dict[str, Any] = {"predicate": "state=failed"} if path.endswith("bisect") else {}

    answer = await world.operator.get(path, job="01890000-0000-7000-8000-000000000000", **query)

    assert STATUS_OF_CODE["not-found"] == answer.status


async def test_a_time_that_has_not_come_is_now(world: World) -> None:
    """
    What lies beyond the end of the log is its end, and what lies before its beginning is nothing.
    """
    job = await world.guest.made()
    later = rfc3339(world.clock.now() + 10**12)

    now = (await world.operator.get("/api/operator/state-at", at=later)).body
    far = (await world.operator.get("/api/operator/state-at", at=10**17)).body
    never = (await world.operator.get("/api/operator/state-at", at="1999-01-01T00:00:00Z")).body

    assert [1, 1, 0] == [answer["position"] for answer in (now, far, never)]
    assert [[job["id"]], [job["id"]], []] == [[each["id"] for each in one["jobs"]] for one in (now, far, never)]


@pytest.mark.parametrize(
    ("bounds", "refused"), [({"looks_total_max": 1}, "operator"), ({"looks_guests_max": 1}, "guest")]
)
async def test_so_many_looks_at_the_whole_log_are_under_way(start: Starter, bounds: JSON, refused: str) -> None:
    """
    One more than may be is told to slow down, and is answered once another has ended.
    """
    world = await start(**bounds)
    path = "/api/jobs/active"
    caller = getattr(world, refused)

    with world.service.limits.looks.held(world.stranger.owner, "held by the test"):
        put_off = await caller.get(path, as_of=0)
    answered = await caller.get(path, as_of=0)

    assert (429, "slow-down") == (put_off.status, put_off.code)
    assert "Retry-After" in put_off.headers
    assert 200 == answered.status


async def test_one_principal_has_one_look_at_a_time(world: World) -> None:
    """
    Who asks twice at once is told to slow down, and others are not.
    """
    with world.service.limits.looks.held("operator:olga", "held by the test"):
        second = await world.operator.get("/api/operator/diff")
        other = await world.viewer.get("/api/jobs/active", as_of=0)

    assert (429, 200) == (second.status, other.status)
