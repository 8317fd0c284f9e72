from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.http.routes import ROUTES

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer, Caller
    from tests.http.world import World

CALLERS: Final = ("nobody", "guest", "user", "backend", "worker", "viewer", "operator")
WHOSE: Final = ("own", "other's", "nobody's", "malformed")
UNKNOWN: Final = "01890000-0000-7000-8000-000000000000"
MALFORMED: Final = "not-an-id"

TABLE: Final[dict[tuple[str, str], tuple[int, str]]] = {
    #                                             then nobody guest user backnd worker viewer operator
    ("GET", "/api/jobs/{id}"):                   (200, "-     own   own  own    no     any    any"),
    ("GET", "/api/jobs/{id}/events"):            (200, "-     own   own  own    no     any    any"),
    ("GET", "/api/jobs/{id}/explain"):           (200, "-     own   own  own    no     any    any"),
    ("GET", "/api/stream"):                      (200, "-     own   own  own    no     any    any"),
    ("POST", "/api/jobs/{id}/cancel"):           (200, "-     own   own  own    no     no     any"),
    ("POST", "/api/jobs/{id}/retry"):            (409, "-     own   own  own    no     no     any"),
    ("POST", "/api/jobs/cleanup/{id}"):          (409, "-     own   own  own    no     no     any"),
    ("POST", "/api/worker/reports"):             (200, "-     no    no   no     held   no     held"),
    ("POST", "/api/worker/jobs/{id}/heartbeat"): (200, "-     no    no   no     held   no     held"),
    ("POST", "/api/worker/jobs/{id}/progress"):  (200, "-     no    no   no     held   no     held"),
    ("POST", "/api/worker/jobs/{id}/complete"):  (200, "-     no    no   no     held   no     held"),
    ("POST", "/api/worker/jobs/{id}/fail"):      (200, "-     no    no   no     held   no     held"),
    ("POST", "/api/worker/jobs/{id}/release"):   (200, "-     no    no   no     held   no     held"),
}  # fmt: skip
"""
What each caller gets for a job that waits, or for workers, that runs.
"""

ELSEWHERE: Final = {("GET", "/api/stream"), ("POST", "/api/worker/reports")}
"""
Routes that name a job in query or body instead of the path.
"""


def expected(word: str, then: int) -> tuple[int, int, int, int]:
    """
    The statuses that *word* of the table stands for, in the order of WHOSE.
    """
    return {
        "-": (401, 401, 401, 401),
        "no": (403, 403, 403, 403),
        "own": (then, 403, 404, 404),
        "any": (then, then, 404, 404),
        "held": (then, 409, 404, 404),
    }[word]


CASES: Final = [
    pytest.param(method, path, name, whose, status, id=f"{method} {path} {name} {whose}")
    for (method, path), (then, row) in TABLE.items()
    for name, word in zip(CALLERS, row.split(), strict=True)
    for whose, status in zip(WHOSE, expected(word, then), strict=True)
]


def test_every_route_on_a_job_has_its_row() -> None:
    """
    A route on a job that is added says here who may call it on whose, or this fails.
    """
    on_a_job = {(route.method, route.path) for route in ROUTES if "{id}" in route.path}

    assert on_a_job | ELSEWHERE == TABLE.keys()


@pytest.mark.parametrize(("method", "path", "name", "whose", "status"), CASES)
async def test_whose_job_it_is_decides(
    world: World, method: str, path: str, name: str, whose: str, status: int
) -> None:
    """
    Another's is 403, and 404 is only for what there is not; a refusal leaves the log as it was.
    """
    caller: Caller = getattr(world, name)
    job_id, owner, lease_token = await prepared(world, caller, name, whose, works="/worker/" in path)
    before = await world.position()

    answer = await asked(caller, method, path, job_id, owner, lease_token)

    assert status == status_of(answer), answer.content
    if status in {401, 403, 404}:
        assert before == await world.position()


async def prepared(world: World, caller: Caller, name: str, whose: str, *, works: bool) -> tuple[str, str | None, str]:
    """
    The id of such a job, the owner to name, and the token of its lease, made up where the caller has none.
    """
    owner = caller if name in {"guest", "user"} else world.guest
    maker = owner if whose == "own" else world.stranger
    job = await maker.made(kind="held")
    named = owner.owner if name == "backend" else None
    lease_token = "1.made-up"
    if works:
        holder = caller if whose == "own" and name in {"worker", "operator"} else world.caller("worker", "w2")
        grant = await holder.claim(lease_s=600)
        lease_token = grant.lease_token if holder is caller else lease_token
    ids = {"nobody's": UNKNOWN, "malformed": MALFORMED}
    return ids.get(whose, job["id"]), named, lease_token


async def asked(caller: Caller, method: str, path: str, job_id: str, owner: str | None, lease_token: str) -> Answer:
    """
    The answer to a request that makes sense but for whose job it names.
    """
    named: JSON = {} if owner is None else {"owner": owner}
    if path == "/api/stream":
        return await caller.get(path, job=job_id, wait_s=1, **named)
    if method == "GET":
        return await caller.get(path.format(id=job_id), **named)
    return await caller.post(path.format(id=job_id), body_of(path, job_id, lease_token) | named)


def body_of(path: str, job_id: str, lease_token: str) -> JSON:
    """
    The body of such a request.
    """
    if path == "/api/worker/reports":
        return {"reports": [{"report": "heartbeat", "job_id": job_id, "lease_token": lease_token}]}
    if path.startswith("/api/worker/"):
        error = {"error": {"code": "x"}} if path.endswith("/fail") else {}
        return {"lease_token": lease_token} | error
    return {}


def status_of(answer: Answer) -> int:
    """
    The status, of the one report where it was one of several.
    """
    if answer.status == 200 and "results" in answer.body:
        return int(answer.body["results"][0]["status"])
    return answer.status
