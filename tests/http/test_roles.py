from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.http.routes import ROUTES

if TYPE_CHECKING:
    from tests.http.client import JSON, Caller
    from tests.http.world import World

CALLERS: Final = ("nobody", "guest", "stranger", "user", "backend", "worker", "viewer", "operator")
"""
The columns. The job is the guest's, so stranger and user are others; the back end names the guest as owner.
"""

TABLE: Final[dict[tuple[str, str], str]] = {
    #                                           nobody guest strngr user  backnd worker viewer operator
    ("POST", "/api/sessions/guest"):            "201   200   200   201   201   201   201   201",
    ("POST", "/api/sessions/claim"):            "401   403   403   200   422   403   403   422",
    ("POST", "/api/sessions/link"):             "401   401   401   401   401   401   401   401",
    ("POST", "/api/jobs"):                      "401   201   403   403   201   403   403   201",
    ("GET", "/api/jobs"):                       "401   200   403   403   200   403   200   200",
    ("POST", "/api/jobs/batch"):                "401   200   200   200   200   403   403   200",
    ("GET", "/api/jobs/active"):                "401   200   403   403   200   403   200   200",
    ("POST", "/api/jobs/cleanup/{id}"):         "401   409   403   403   409   403   403   409",
    ("GET", "/api/jobs/{id}"):                  "401   200   403   403   200   403   200   200",
    ("GET", "/api/jobs/{id}/events"):           "401   200   403   403   200   403   200   200",
    ("GET", "/api/jobs/{id}/explain"):          "401   200   403   403   200   403   200   200",
    ("POST", "/api/jobs/{id}/cancel"):          "401   202   403   403   202   403   403   202",
    ("POST", "/api/jobs/{id}/retry"):           "401   409   403   403   409   403   403   409",
    ("GET", "/api/stream"):                     "401   200   403   403   200   403   200   200",
    ("POST", "/api/stream/tickets"):            "401   201   201   201   201   403   201   201",
    ("POST", "/api/worker/claim"):              "401   403   403   403   403   204   403   204",
    ("POST", "/api/worker/reports"):            "401   403   403   403   403   200   403   200",
    ("POST", "/api/worker/jobs/{id}/heartbeat"): "401  403   403   403   403   200   403   200",
    ("POST", "/api/worker/jobs/{id}/progress"): "401   403   403   403   403   200   403   200",
    ("POST", "/api/worker/jobs/{id}/complete"): "401   403   403   403   403   200   403   200",
    ("POST", "/api/worker/jobs/{id}/fail"):     "401   403   403   403   403   200   403   200",
    ("POST", "/api/worker/jobs/{id}/release"):  "401   403   403   403   403   200   403   200",
    ("GET", "/api/log"):                        "401   403   403   403   403   403   403   200",
    ("GET", "/api/log/head"):                   "401   403   403   403   403   403   403   200",
    ("GET", "/api/operator/state-at"):          "401   403   403   403   403   403   403   200",
    ("GET", "/api/operator/diff"):              "401   403   403   403   403   403   403   200",
    ("GET", "/api/operator/bisect"):            "401   403   403   403   403   403   403   200",
    ("GET", "/api/operator/explain"):           "401   403   403   403   403   403   403   200",
    ("GET", "/api/streams"):                    "401   403   403   403   403   403   200   200",
    ("GET", "/api/workers"):                    "401   403   403   403   403   403   200   200",
    ("GET", "/api/stats"):                      "401   403   403   403   403   403   200   200",
    ("GET", "/api/projections"):                "401   403   403   403   403   403   200   200",
    ("POST", "/api/projections/{name}/rebuild"): "401  403   403   403   403   403   403   200",
    ("POST", "/api/projections/{name}/parked"): "401   403   403   403   403   403   403   200",
    ("POST", "/api/operator/doctor"):           "401   403   403   403   403   403   403   200",
    ("POST", "/api/operator/erase"):            "401   403   403   403   403   403   403   200",
    ("POST", "/api/operator/archive"):          "401   403   403   403   403   403   403   200",
    ("POST", "/api/operator/verify"):           "401   403   403   403   403   403   403   200",
    ("POST", "/api/operator/backup"):           "401   403   403   403   403   403   403   200",
    ("POST", "/api/operator/revoke"):           "401   403   403   403   403   403   403   200",
    ("GET", "/healthz"):                        "200   200   200   200   200   200   200   200",
    ("GET", "/readyz"):                         "200   200   200   200   200   200   200   200",
    ("GET", "/metrics"):                        "401   403   403   403   403   403   200   200",
    ("GET", "/"):                               "200   200   200   200   200   200   200   200",
    ("GET", "/dashboard/{name}"):               "200   200   200   200   200   200   200   200",
    ("GET", "/openapi.json"):                   "200   200   200   200   200   200   200   200",
    ("GET", "/docs"):                           "200   200   200   200   200   200   200   200",
    ("GET", "/client/v1/{name}"):               "200   200   200   200   200   200   200   200",
    ("GET", "/docs.css"):                       "200   200   200   200   200   200   200   200",
}  # fmt: skip

NAMED: Final = {
    "/client/v1/{name}": "jobsvc.js",
    "/dashboard/{name}": "app.js",
    "/api/projections/{name}/parked": "counts",
}
"""What stands in the place of a name; ``active`` where nothing else is said."""

CASES: Final = [
    pytest.param(method, path, caller, int(status), id=f"{method} {path} {caller}")
    for (method, path), row in TABLE.items()
    for caller, status in zip(CALLERS, row.split(), strict=True)
]

WITH_OWNER: Final = {
    "/api/jobs",
    "/api/jobs/active",
    "/api/jobs/{id}",
    "/api/jobs/{id}/events",
    "/api/jobs/{id}/explain",
}
"""
GETs that name the guest as owner, as do the bodies of the routes on jobs.
"""


def test_every_route_has_its_row() -> None:
    """
    A route that is added says here who may call it, or this fails.
    """
    routes = {(route.method, route.path) for route in ROUTES}

    assert routes == TABLE.keys()


@pytest.mark.parametrize(("method", "path", "name", "status"), CASES)
async def test_a_route_answers_each_role_as_the_table_says(
    world: World, method: str, path: str, name: str, status: int
) -> None:
    """
    Who may do what, at every door; a refusal leaves the log as it was.
    """
    caller: Caller = getattr(world, name)
    job = await world.guest.made(key="k", kind="held")
    grant = await world.worker.claim(lease_s=600)
    before = await world.position()

    answer = await caller.send(
        method,
        path.format(id=job["id"], name=NAMED.get(path, "active")),
        content=body_of(path, world, job, grant.lease_token) if method == "POST" else None,
        headers={"Content-Type": "application/json"},
        **params_of(method, path, world, job),
    )

    assert status == answer.status, answer.content
    if status >= 400:
        assert answer.code
        assert before == await world.position()


def params_of(method: str, path: str, world: World, job: JSON) -> JSON:
    """
    The query of a request that makes sense.
    """
    if path == "/api/stream":
        return {"wait_s": 1, "job": job["id"], "owner": world.guest.owner}
    if path == "/api/operator/bisect":
        return {"predicate": "active>=1"}
    if path == "/api/operator/explain":
        return {"url": ["https://x.com/a/status/1", "https://x.com/b/status/1"]}
    return {"owner": world.guest.owner} if method == "GET" and path in WITH_OWNER else {}


def body_of(path: str, world: World, job: JSON, lease_token: str) -> bytes:
    """
    The body of a request that makes sense.
    """
    from json import dumps  # noqa: PLC0415  # used here only

    owner = {"owner": world.guest.owner}
    bodies: dict[str, JSON] = {
        "/api/sessions/guest": {},
        "/api/sessions/claim": {"guest_token": world.stranger.token},
        "/api/sessions/link": {"code": "made-up"},
        "/api/jobs": {"kind": "work"} | owner,
        "/api/jobs/batch": {"jobs": [{"kind": "work"} | owner]},
        "/api/worker/claim": {"kinds": ["nothing"]},
        "/api/worker/reports": {"reports": [{"job_id": job["id"], "lease_token": lease_token, "report": "heartbeat"}]},
        "/api/projections/{name}/rebuild": {},
        "/api/projections/{name}/parked": {"act": "retry"},
        "/api/operator/doctor": {},
        "/api/operator/erase": {"owner": "user:nobody"},
        "/api/operator/archive": {},
        "/api/operator/verify": {},
        "/api/stream/tickets": {},
        "/api/operator/backup": {"file": f"{world.service.settings.database_path}.backup"},
        "/api/operator/revoke": {"subject": "guest:nobody", "reason": "a test"},
    }
    if path in bodies:
        return dumps(bodies[path]).encode()
    if path.startswith("/api/worker/"):
        error = {"error": {"code": "x"}} if path.endswith("/fail") else {}
        return dumps({"lease_token": lease_token} | error).encode()
    return dumps(owner).encode()


@pytest.mark.parametrize("verb", ["cancel", "retry", "cleanup", "read", "events", "stream", "job stream"])
@pytest.mark.parametrize("ended", [False, True])
async def test_another_s_job_is_403_on_every_route_whatever_its_state(world: World, verb: str, *, ended: bool) -> None:
    """
    Active or ended, a job is its owner's; 404 is only for what there is not.
    """
    job = await world.guest.made()
    if ended:
        await world.guest.cancel(job["id"])
    paths = {
        "cancel": ("POST", "/api/jobs/{}/cancel"),
        "retry": ("POST", "/api/jobs/{}/retry"),
        "cleanup": ("POST", "/api/jobs/cleanup/{}"),
        "read": ("GET", "/api/jobs/{}"),
        "events": ("GET", "/api/jobs/{}/events"),
        "stream": ("GET", "/api/stream?job={}"),
        "job stream": ("GET", "/api/jobs/{}/events"),
    }
    method, path = paths[verb]
    accept = {"Accept": "text/event-stream"} if verb == "job stream" else {}
    before = await world.position()

    answers = [
        await caller.send(method, path.format(job_id), headers=accept)
        for caller in (world.stranger, world.user)
        for job_id in (job["id"], "01890000-0000-7000-8000-000000000000")
    ]

    assert [(403, "access-denied"), (404, "not-found")] * 2 == [(answer.status, answer.code) for answer in answers]
    assert before == await world.position()
