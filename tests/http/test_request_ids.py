from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.http.world import World

NOWHERE = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/jobs/active", 200),
        ("HEAD", "/api/jobs/active", 200),
        ("GET", "/api/stream?wait_s=0", 200),
        ("HEAD", "/api/stream", 200),
        ("POST", "/api/worker/claim", 204),
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("GET", "/", 200),
        ("GET", f"/api/jobs/{NOWHERE}", 404),
        ("DELETE", "/api/jobs", 405),
        ("GET", "/nowhere", 404),
    ],
)
async def test_every_answer_carries_the_request_id(world: World, method: str, path: str, status: int) -> None:
    """
    The caller's own, and where it sent none one of ours; refusals and empty answers too.
    """
    own = await world.operator.send(method, path, headers={"X-Request-Id": "visit-7"})
    ours = await world.operator.send(method, path)

    assert (status, "visit-7") == (own.status, own.headers["X-Request-Id"])
    assert ours.headers["X-Request-Id"] not in {"", "visit-7"}


async def test_streams_and_grants_carry_the_request_id(world: World) -> None:
    """
    Answers that a handler writes itself are no exception.
    """
    sent = {"X-Request-Id": "visit-8"}
    await world.guest.made()

    claimed = await world.worker.post("/api/worker/claim", {}, headers=sent)
    async with world.guest.stream(headers=sent) as frames:
        streamed = frames.response.headers

    assert (200, "visit-8") == (claimed.status, claimed.headers["X-Request-Id"])
    assert "visit-8" == streamed["X-Request-Id"]
