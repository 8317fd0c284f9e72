"""
The bounds of what a request may hold: at the bound it is taken, one more is refused and says where.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer
    from tests.http.conftest import Starter
    from tests.http.world import World

URL: Final = "https://example.com/"


def nested(depth: int) -> JSON:
    """
    A body's input with which the body is that deep.
    """
    value: JSON = []
    for _ in range(depth - 2):
        value = [value]
    return value


CREATES: Final[dict[str, tuple[JSON, JSON, int, str]]] = {
    "title": ({"title": "😀" * 200}, {"title": "😀" * 201}, 422, "/title"),
    "key": ({"key": "k" * 2_048}, {"key": "k" * 2_049}, 422, "/key"),
    "key, least": ({"key": "k"}, {"key": ""}, 422, "/key"),
    "url": ({"url": URL + "a" * (2_048 - len(URL))}, {"url": URL + "a" * (2_049 - len(URL))}, 422, "/url"),
    "kind": ({"kind": "k" * 64}, {"kind": "k" * 65}, 422, "/kind"),
    "kind, characters": ({"kind": "a.b_c-9"}, {"kind": "a.b_c-9\n"}, 422, "/kind"),
    "metadata": ({"metadata": {"m": "x" * 16_375}}, {"metadata": {"m": "x" * 16_376}}, 422, "/metadata"),
    "depth": ({"input": nested(64)}, {"input": nested(65)}, 400, ""),
    "priority": ({"priority": 0}, {"priority": 1}, 422, "/priority"),
    "priority, least": ({"priority": -100}, {"priority": -101}, 422, "/priority"),
    "max_attempts": ({"max_attempts": 10}, {"max_attempts": 11}, 422, "/max_attempts"),
    "max_attempts, least": ({"max_attempts": 1}, {"max_attempts": 0}, 422, "/max_attempts"),
    "deadline_s": ({"deadline_s": 315_360_000}, {"deadline_s": 315_360_001}, 422, "/deadline_s"),
}


@pytest.mark.parametrize("name", CREATES)
async def test_a_create_at_the_bound_is_taken_and_one_more_refused(world: World, name: str) -> None:
    """
    To the one, characters counted as characters and bytes as bytes.
    """
    most, more, status, pointer = CREATES[name]

    taken = await world.guest.create(**most)
    refused = await world.guest.create(**more)

    assert 201 == taken.status, taken.content
    assert status == refused.status
    assert status == 400 or pointer == refused.pointer
    assert 1 == await world.position()


async def test_trusted_roles_ask_for_more_than_guests_may(world: World) -> None:
    """
    Priority to 100, attempts and run_at beyond a guest's: a back end's to decide.
    """
    later = (datetime.fromtimestamp(world.clock.now() / 1e6).astimezone() + timedelta(days=31)).isoformat()

    taken = [
        await world.backend.create(owner="user:x", priority=100, max_attempts=11),
        await world.backend.create(owner="user:x", run_at=later),
    ]
    refused = await world.backend.create(owner="user:x", priority=101)

    assert [201, 201, 422] == [answer.status for answer in (*taken, refused)]


@pytest.mark.parametrize(
    ("verb", "most", "more", "pointer"),
    [
        ("progress", {"message": "m" * 1_000}, {"message": "m" * 1_001}, "/message"),
        ("progress", {"data": "d" * 4_094}, {"data": "d" * 4_095}, "/data"),
        ("progress", {"percent": 100}, {"percent": 100.1}, "/percent"),
        (
            "fail",
            {"error": {"code": "c" * 200, "message": "m" * 1_000}},
            {"error": {"code": "c", "message": "m" * 1_001}},
            "/error/message",
        ),
        ("fail", {"error": {"code": "c" * 200}}, {"error": {"code": "c" * 201}}, "/error/code"),
    ],
)
async def test_a_report_at_the_bound_is_taken_and_one_more_refused(
    world: World, verb: str, most: JSON, more: JSON, pointer: str
) -> None:
    """
    Messages, data, codes and percent of a worker.
    """
    await world.guest.made()
    grant = await world.worker.claim()

    refused = await world.worker.report(grant, verb, **more)
    taken = await world.worker.report(grant, verb, **most)

    assert (422, pointer) == (refused.status, refused.pointer)
    assert 200 == taken.status, taken.content


@pytest.mark.parametrize(
    ("most", "more", "pointer"),
    [
        ({"worker": "w" * 200}, {"worker": "w" * 201}, "/worker"),
        ({"claim_id": "c" * 255}, {"claim_id": "c" * 256}, "/claim_id"),
        ({"max": 500}, {"max": 501}, "/max"),
        ({"lease_s": 3_600}, {"lease_s": 3_600.1}, "/lease_s"),
        ({"lease_s": 1}, {"lease_s": 0.9}, "/lease_s"),
        ({"wait_s": 0}, {"wait_s": 30.1}, "/wait_s"),
    ],
)
async def test_a_claim_at_the_bound_is_taken_and_one_more_refused(
    world: World, most: JSON, more: JSON, pointer: str
) -> None:
    """
    Names, lengths of time and how many.
    """
    await world.guest.made()

    refused = await world.worker.post("/api/worker/claim", more)
    taken = await world.worker.post("/api/worker/claim", most)

    assert (422, pointer) == (refused.status, refused.pointer)
    assert 200 == taken.status, taken.content


async def test_reasons_keys_of_requests_and_many_in_one_have_their_bounds(world: World) -> None:
    """
    1,000 characters of a reason, 255 of an Idempotency-Key, 500 jobs or reports in one request, 100 jobs in a stream.
    """
    job = await world.guest.made()
    batch = [{"jobs": [{"kind": "work"}] * count} for count in (500, 501)]
    reports: list[JSON] = [{"reports": [{}] * count} for count in (500, 501)]
    same = [job["id"]] * 101

    pairs: list[tuple[Answer, Answer]] = [
        (await world.guest.post("/api/jobs/batch", batch[0]), await world.guest.post("/api/jobs/batch", batch[1])),
        (
            await world.worker.post("/api/worker/reports", reports[0]),
            await world.worker.post("/api/worker/reports", reports[1]),
        ),
        (
            await world.guest.get("/api/stream", job=same[:100], wait_s=0),
            await world.guest.get("/api/stream", job=same, wait_s=0),
        ),
        (
            await world.guest.create(headers={"Idempotency-Key": "k" * 255}),
            await world.guest.create(headers={"Idempotency-Key": "k" * 256}),
        ),
        (
            await world.guest.cancel(job["id"], reason="r" * 1_000),
            await world.guest.cancel(job["id"], reason="r" * 1_001),
        ),
    ]

    assert [200, 200, 200, 201, 200] == [taken.status for taken, _ in pairs]
    assert [413, 413, 422, 422, 422] == [refused.status for _, refused in pairs]


async def test_streams_are_eight_a_principal_and_so_many_in_all(start: Starter) -> None:
    """
    The ninth sends the oldest away; one above the total is told to come back later.
    """
    world = await start(streams_total_max=9)
    opened = []
    for _ in range(9):
        stream = world.guest.stream()
        frames = await stream.__aenter__()
        await frames.until("ready")
        opened.append((stream, frames))

    told = await opened[0][1].until("bye")
    async with world.user.stream() as users:
        await users.until("ready")
        async with world.viewer.stream() as one_more:
            turned_away = await one_more.rest()
    for stream, _ in opened:
        await stream.__aexit__(None, None, None)

    assert "superseded" == told[-1].data["reason"]
    assert ("bye", "overload") == (turned_away[-1].event, turned_away[-1].data["reason"])


async def test_guests_are_sixty_a_minute_and_address(start: Starter) -> None:
    """
    The sixty-first is told when to come again.
    """
    world = await start(guests_per_minute_max=60)

    answers = [await world.nobody.post("/api/sessions/guest") for _ in range(61)]

    assert [201] * 60 + [429] == [answer.status for answer in answers]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
