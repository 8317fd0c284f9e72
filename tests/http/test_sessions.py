from __future__ import annotations

from datetime import datetime
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.errors import SlowDown
from jobsvc.http.limits import Limits, network_of
from jobsvc.settings import Settings
from tests.http.world import MovableClock

if TYPE_CHECKING:
    from tests.http.client import Answer
    from tests.http.conftest import Starter
    from tests.http.world import World


def cookie_of(answer: Answer) -> dict[str, str]:
    """
    The Cookie header that a browser sends after *answer*.
    """
    cookie = SimpleCookie(answer.headers["Set-Cookie"])
    return {"Cookie": "; ".join(f"{name}={each.value}" for name, each in cookie.items())}


async def test_anybody_becomes_a_guest(world: World) -> None:
    """
    A session is answered 201 with owner, token and expiry, and the token works.
    """
    answer = await world.nobody.post("/api/sessions/guest")

    assert 201 == answer.status
    assert {"owner", "token", "expires_at"} == answer.body.keys()
    assert answer.body["owner"].startswith("guest:")
    assert datetime.fromisoformat(answer.body["expires_at"]).timestamp() > world.clock.now() / 1e6
    job = await world.with_token(answer.body["token"]).made()
    assert answer.body["owner"] == job["owner"]


async def test_the_cookie_is_a_session_too_and_scripts_cannot_read_it(world: World) -> None:
    """
    The HttpOnly cookie alone makes the browser the same guest.
    """
    answer = await world.nobody.post("/api/sessions/guest")

    created = await world.nobody.create(headers=cookie_of(answer))

    attributes = answer.headers["Set-Cookie"].lower()
    assert (201, answer.body["owner"]) == (created.status, created.job["owner"])
    assert "httponly" in attributes
    assert "samesite=lax" in attributes
    assert "path=/" in attributes
    assert "secure" not in attributes


async def test_the_cookie_is_secure_where_a_setting_says_so(start: Starter) -> None:
    """
    cookie_secure marks it Secure also over plain HTTP.
    """
    world = await start(cookie_secure=True)

    answer = await world.nobody.post("/api/sessions/guest")

    name, _, attributes = answer.headers["Set-Cookie"].partition("=")
    assert "__Host-jobsvc_session" == name
    assert {"httponly", "secure", "path=/", "samesite=lax"} <= set(attributes.lower().split("; "))
    assert "domain" not in attributes.lower()


async def test_only_the_cookie_s_own_name_counts(start: Starter) -> None:
    """
    Where the cookie is __Host-, which only we can set, a plain one that a neighbour planted proves nobody.
    """
    secure, plain = await start(cookie_secure=True), await start()
    planted = {"Cookie": f"jobsvc_session={secure.guest.token}"}
    ours = {"Cookie": f"jobsvc_session={secure.stranger.token}; __Host-jobsvc_session={secure.guest.token}"}

    answers = [
        await secure.nobody.get("/api/jobs", headers=planted),
        await secure.nobody.create(headers=ours | {"Origin": secure.url.replace("http:", "https:")}),
        await plain.nobody.get("/api/jobs", headers={"Cookie": f"__Host-jobsvc_session={plain.guest.token}"}),
    ]

    assert [401, 201, 401] == [answer.status for answer in answers]
    assert secure.guest.owner == answers[1].job["owner"]


async def test_a_valid_guest_gets_the_same_owner_again(world: World) -> None:
    """
    Asking again with the token or the cookie is answered 200 with the same owner.
    """
    first = await world.nobody.post("/api/sessions/guest")

    by_token = await world.with_token(first.body["token"]).post("/api/sessions/guest")
    by_cookie = await world.nobody.send("POST", "/api/sessions/guest", headers=cookie_of(first))

    assert [200, 200] == [by_token.status, by_cookie.status]
    assert {first.body["owner"]} == {by_token.body["owner"], by_cookie.body["owner"]}


async def test_whoever_is_no_guest_gets_a_new_one(world: World) -> None:
    """
    A token that has expired or is nonsense, and a user's, prove no guest.
    """
    expired = world.caller("guest", "late", ttl_s=-10)

    answers = [
        await caller.post("/api/sessions/guest") for caller in (expired, world.with_token("nonsense"), world.user)
    ]

    assert [201, 201, 201] == [answer.status for answer in answers]
    assert 3 == len({answer.body["owner"] for answer in answers})


async def test_where_cookie_and_authorization_both_come_authorization_wins(world: World) -> None:
    """
    A request that proves two owners is the bearer token's.
    """
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))

    right = await world.user.create(headers=cookie)
    wrong = await world.with_token("nonsense").create(headers=cookie)

    assert world.user.owner == right.job["owner"]
    assert (401, "unauthenticated") == (wrong.status, wrong.code)


async def test_an_expired_token_is_nobodys(world: World) -> None:
    """
    A token counts until it runs out, with at most five seconds of leeway.
    """
    short = world.caller("guest", "short", ttl_s=60)

    before = await short.get("/api/jobs/active")
    world.clock.advance(66)
    after = await short.get("/api/jobs/active")

    assert (200, 401) == (before.status, after.status)
    assert "Bearer" in after.headers["WWW-Authenticate"]


async def test_a_token_within_the_leeway_still_counts(world: World) -> None:
    """
    Clocks may differ by a little: a token that ran out two seconds ago is taken.
    """
    late = world.caller("guest", "late", ttl_s=-2)

    answer = await late.get("/api/jobs/active")

    assert 200 == answer.status


async def test_an_address_makes_only_so_many_guests_a_minute(start: Starter) -> None:
    """
    More are told to slow down, those who are guests already are not, and a minute later it goes on.
    """
    world = await start(guests_per_minute_max=3)
    made = [await world.nobody.post("/api/sessions/guest") for _ in range(4)]

    again = await world.with_token(made[0].body["token"]).post("/api/sessions/guest")
    world.clock.advance(61)
    later = await world.nobody.post("/api/sessions/guest")

    assert [201, 201, 201, 429] == [answer.status for answer in made]
    assert ("slow-down", True) == (made[3].code, "Retry-After" in made[3].headers)
    assert (200, 201) == (again.status, later.status)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2", False),
        ("64:ff9b::192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        (None, "", True),
    ],
)
def test_whoever_has_a_network_of_ipv6_is_one(one: str | None, other: str, *, together: bool) -> None:
    """
    A customer has 2^64 addresses of it and may take each once; of IPv4 every address is somebody else.
    """
    limits = Limits(Settings(guests_per_minute_max=1), MovableClock())
    limits.guests_of_network.count(network_of(one))

    if not together:
        limits.guests_of_network.count(network_of(other))
        return
    with pytest.raises(SlowDown, match="this address or network"):
        limits.guests_of_network.count(network_of(other))


async def test_a_dashboard_link_opens_once(world: World) -> None:
    """
    The code of a link is worth an operator's token once; a spent and a made-up one are worth nothing.
    """
    from jobsvc.domain.words import Principal  # noqa: PLC0415  # only this test makes a code
    from jobsvc.tokens import Bearer  # noqa: PLC0415  # as above

    code, _ = world.service.identity.links.make(Bearer(Principal("operator", "dashboard"), expires_at=0))

    answers = [await world.nobody.post("/api/sessions/link", {"code": each}) for each in (code, code, "made-up")]

    assert [201, 401, 401] == [answer.status for answer in answers]
    assert 200 == (await world.with_token(answers[0].body["token"]).get("/api/log/head")).status


async def test_a_dashboard_link_runs_out(world: World) -> None:
    """
    After ten minutes the code is worth nothing.
    """
    from jobsvc.domain.words import Principal  # noqa: PLC0415  # only this test makes a code
    from jobsvc.tokens import Bearer  # noqa: PLC0415  # as above

    code, _ = world.service.identity.links.make(Bearer(Principal("operator", "dashboard"), expires_at=0))

    world.clock.advance(601)
    answer = await world.nobody.post("/api/sessions/link", {"code": code})

    assert (401, "unauthenticated") == (answer.status, answer.code)
