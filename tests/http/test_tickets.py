from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.words import Principal
from jobsvc.tokens import Bearer
from tests.http.test_sessions import cookie_of
from tests.http.world import started

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import Caller
    from tests.http.conftest import Starter
    from tests.http.world import World


async def ticket_of(caller: Caller) -> str:
    """
    A ticket for the caller's stream.
    """
    answer = await caller.post("/api/stream/tickets")
    assert answer.status == 201, answer.content
    return str(answer.body["ticket"])


async def test_a_ticket_opens_its_owner_s_stream_without_a_header(world: World) -> None:
    """
    An EventSource, which can send none, sees what the ticket's principal may see.
    """
    mine, other = await world.guest.made(), await world.stranger.made()
    answer = await world.guest.post("/api/stream/tickets")

    async with world.nobody.stream(ticket=answer.body["ticket"]) as frames:
        (snapshot,) = [frame for frame in await frames.until("ready") if frame.event == "snapshot"]

    until = datetime.fromisoformat(answer.body["expires_at"]).timestamp()
    assert {"ticket", "expires_at"} == answer.body.keys()
    assert 55 < until - world.clock.now() / 1e6 <= 60
    assert [mine["id"]] == [job["id"] for job in snapshot.data["jobs"]]
    assert other["owner"] != mine["owner"]


@pytest.mark.parametrize("caller", ["backend", "viewer", "operator"])
@pytest.mark.parametrize("place", ["body", "query"])
async def test_a_ticket_for_an_owner_shows_what_that_owner_may_see(world: World, caller: str, place: str) -> None:
    """
    A back end hands it to a browser, which must not see everybody's jobs with it, nor say that it is another.
    """
    mine, _ = await world.guest.made(), await world.stranger.made()
    asker, owner = getattr(world, caller), world.guest.owner
    path, body = ("/api/stream/tickets", {"owner": owner})
    if place == "query":
        path, body = f"{path}?owner={owner}", {}
    tickets = [(await asker.post(path, body)).body["ticket"] for _ in range(3)]

    async with world.nobody.stream(ticket=tickets[0]) as frames:
        (snapshot,) = [frame for frame in await frames.until("ready") if frame.event == "snapshot"]
    other = await world.nobody.get("/api/stream", ticket=tickets[1], owner=world.stranger.owner, wait_s=0)
    await world.operator.post("/api/operator/revoke", {"subject": owner, "reason": "gone"})
    revoked = await world.nobody.get("/api/stream", ticket=tickets[2])

    assert [mine["id"]] == [job["id"] for job in snapshot.data["jobs"]]
    assert (403, "access-denied") == (other.status, other.code)
    assert (401, "unauthenticated") == (revoked.status, revoked.code)


async def test_a_ticket_for_another_is_refused(world: World) -> None:
    """
    Guests and users name themselves or nobody; an owner looks like one.
    """
    others = await world.guest.post("/api/stream/tickets", {"owner": world.stranger.owner})
    own = await world.guest.post("/api/stream/tickets", {"owner": world.guest.owner})
    none = await world.backend.post("/api/stream/tickets", {"owner": "worker:w1"})

    assert [(403, "access-denied"), (422, "invalid")] == [(answer.status, answer.code) for answer in (others, none)]
    assert 201 == own.status


async def test_a_ticket_works_once(world: World) -> None:
    """
    The second use is answered 204, at which an EventSource stops asking.
    """
    ticket = await ticket_of(world.guest)
    async with world.nobody.stream(ticket=ticket) as frames:
        await frames.until("ready")

    again = await world.nobody.get("/api/stream", ticket=ticket)

    assert (204, b"") == (again.status, again.content)


async def test_a_ticket_runs_out(world: World) -> None:
    """
    After 60 seconds it is worth nothing, and says so as a used one does.
    """
    ticket = await ticket_of(world.guest)

    world.clock.advance(61)

    assert 204 == (await world.nobody.get("/api/stream", ticket=ticket)).status


async def test_how_long_a_ticket_may_wait_is_a_setting(start: Starter) -> None:
    """
    With ticket_ttl_s it lasts as long as is said.
    """
    world = await start(ticket_ttl_s=300)
    ticket = await ticket_of(world.guest)

    world.clock.advance(61)

    async with world.nobody.stream(ticket=ticket) as frames:
        assert "hello" == (await frames.next()).event


@pytest.mark.parametrize(
    "ticket", ["made-up", "", "a.b", "ü.ü", "%00", "x" * 5_000, "AAAAAAAAAAAAAAAAAAAAAAAA." + "0" * 36]
)
async def test_a_made_up_ticket_is_401(world: World, ticket: str) -> None:
    """
    What this service never gave out is nobody's.
    """
    answer = await world.nobody.get("/api/stream", ticket=ticket)

    assert (401, "unauthenticated") == (answer.status, answer.code)


async def test_a_ticket_from_before_a_restart_is_a_used_one(tmp_path: Path) -> None:
    """
    It was ours, so it is 204 and not 401: the page that holds it fetches another.
    """
    async with started(tmp_path / "jobs.db") as world:
        ticket = await ticket_of(world.guest)

    async with started(tmp_path / "jobs.db") as world:
        answer = await world.nobody.get("/api/stream", ticket=ticket)

    assert 204 == answer.status


async def test_a_dashboard_s_code_is_no_ticket(world: World) -> None:
    """
    A code is good for its one purpose.
    """
    ticket = await ticket_of(world.operator)
    code, _ = world.service.identity.links.make(Bearer(Principal("operator", "dashboard"), expires_at=2**52))

    answers = [
        await world.nobody.post("/api/sessions/link", {"code": ticket}),
        await world.nobody.get("/api/stream", ticket=code),
    ]

    assert [(401, "unauthenticated")] * 2 == [(answer.status, answer.code) for answer in answers]


async def test_a_ticket_s_stream_ends_with_the_token_it_was_made_for(world: World) -> None:
    """
    It stands for the principal with the token's own expiry.
    """
    short = world.caller("guest", "short", ttl_s=2)
    ticket = await ticket_of(short)

    async with world.nobody.stream(ticket=ticket) as frames:
        await frames.until("ready")
        farewell = (await frames.rest())[-1]

    assert ("bye", {"reason": "expired"}) == (farewell.event, farewell.data)


async def test_a_ticket_outlives_its_token_in_no_way(world: World) -> None:
    """
    Once the token has run out the ticket has too; once it was revoked the ticket is nobody's.
    """
    expired = await ticket_of(world.caller("guest", "short", ttl_s=30))
    revoked = await ticket_of(world.guest)

    await world.operator.post("/api/operator/revoke", {"subject": "guest:ann", "reason": "left"})
    world.clock.advance(31)

    answers = [await world.nobody.get("/api/stream", ticket=ticket) for ticket in (expired, revoked)]
    assert [204, 401] == [answer.status for answer in answers]


async def test_a_stream_opened_by_a_ticket_ends_with_the_revocation_of_its_token(world: World) -> None:
    """
    The ticket is no way round a revocation, also once it was used.
    """
    async with world.nobody.stream(ticket=await ticket_of(world.guest)) as frames:
        await frames.until("ready")

        await world.operator.post("/api/operator/revoke", {"subject": "guest:ann", "reason": "left"})

        assert {"reason": "expired"} == (await frames.rest())[-1].data


async def test_a_ticket_works_in_every_form_of_the_stream(world: World) -> None:
    """
    A long poll and lines of JSON take it as well.
    """
    await world.guest.made()

    polled = await world.nobody.get("/api/stream", ticket=await ticket_of(world.guest), wait_s=0)
    headers = {"Accept": "application/x-ndjson"}
    async with world.nobody.stream(ticket=await ticket_of(world.guest), headers=headers) as frames:
        line = json.loads(await frames.response.content.readline())

    assert "snapshot" in [frame["event"] for frame in polled.body["frames"]]
    assert ("hello", "application/x-ndjson") == (line["event"], frames.response.content_type)


async def test_a_ticket_opens_nothing_but_the_stream(world: World) -> None:
    """
    On every other path it is no credential.
    """
    job = await world.guest.made()

    answers = [
        await world.nobody.get(path, ticket=await ticket_of(world.guest))
        for path in ("/api/jobs", "/api/jobs/active", f"/api/jobs/{job['id']}", f"/api/jobs/{job['id']}/events")
    ]

    assert [401] * 4 == [answer.status for answer in answers]


@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "bearer", "jobsvc_session", "ticket"])
async def test_no_other_credential_in_a_url_is_ever_accepted(world: World, name: str) -> None:
    """
    A token in a URL stands in logs and histories; it proves nobody, on the stream and elsewhere.
    """
    values = (f"{world.operator.token}", f"Bearer {world.operator.token}")

    answers = [
        await world.nobody.get(path, headers=None, **{name: value})
        for path in ("/api/stream", "/api/jobs")
        for value in values
    ]

    assert [(401, "unauthenticated")] * 4 == [(answer.status, answer.code) for answer in answers]


async def test_one_ticket_too_many_takes_the_place_of_the_principal_s_oldest(start: Starter) -> None:
    """
    Unused tickets are bounded for each principal; another's stay.
    """
    world = await start(tickets_per_principal_max=2)
    theirs = await ticket_of(world.stranger)
    mine = [await ticket_of(world.guest) for _ in range(3)]

    answers = [await world.nobody.get("/api/stream", ticket=each, wait_s=0) for each in (*mine, theirs)]

    assert [204, 200, 200, 200] == [answer.status for answer in answers]


async def test_tickets_are_bounded_in_all(start: Starter) -> None:
    """
    One too many takes the place of the oldest of all; tickets that ran out take no place.
    """
    world = await start(tickets_total_max=2)
    callers = [world.guest, world.stranger, world.user]
    tickets = [await ticket_of(caller) for caller in callers]
    answers = [await world.nobody.get("/api/stream", ticket=each, wait_s=0) for each in tickets]
    await ticket_of(world.guest)

    world.clock.advance(61)
    await ticket_of(world.guest)

    assert [204, 200, 200] == [answer.status for answer in answers]
    assert 1 == len(world.service.identity.tickets)


async def test_a_ticket_is_not_made_for_another_site_s_page(world: World) -> None:
    """
    With the cookie it is a write: a page of another origin gets none.
    """
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))

    own = await world.nobody.post("/api/stream/tickets", headers=cookie)
    other = await world.nobody.post("/api/stream/tickets", headers=cookie | {"Origin": "https://evil.example"})

    assert (201, 403) == (own.status, other.status)
