from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.http.test_sessions import cookie_of

if TYPE_CHECKING:
    from tests.http.conftest import Starter
    from tests.http.world import World


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:80", "localhost.evil.example"]
)
async def test_a_host_name_that_is_not_ours_is_421(world: World, host: str) -> None:
    """
    Misdirected on every path, streams and pages included: a rebinding page gets nothing.
    """
    for path in ("/api/jobs/active", "/api/stream", "/", "/healthz", "/nothing"):
        answer = await world.guest.get(path, headers={"Host": host})
        assert (421, "misdirected") == (answer.status, answer.code)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8080"])
async def test_ports_are_not_compared_and_every_name_of_loopback_is_ours(world: World, host: str) -> None:
    """
    A service on loopback is reached by any of its names through any port.
    """
    answer = await world.guest.get("/api/jobs/active", headers={"Host": host})

    assert 200 == answer.status


async def test_allowed_hosts_are_the_names_that_count(start: Starter) -> None:
    """
    Where a list is set, it is the list.
    """
    world = await start(allowed_hosts=("jobs.example",))

    answers = [
        await world.guest.get("/api/jobs/active", headers={"Host": host}) for host in ("Jobs.Example:443", "127.0.0.1")
    ]

    assert [200, 421] == [answer.status for answer in answers]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_cookie_write_from_another_origin_is_403(world: World, headers: dict[str, str]) -> None:
    """
    What another site's page causes with our cookie changes nothing.
    """
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))

    answer = await world.nobody.create(headers=cookie | headers)

    assert (403, "access-denied") == (answer.status, answer.code)
    assert 0 == await world.position()


async def test_a_cookie_write_from_our_own_page_goes_through(world: World) -> None:
    """
    Our own origin, and browsers that say same-origin, may write; so may what is no browser at all.
    """
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))

    answers = [
        await world.nobody.create(headers=cookie | headers)
        for headers in ({"Origin": world.url}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {})
    ]

    assert [201] * 4 == [answer.status for answer in answers]


@pytest.mark.parametrize(("secure", "scheme"), [(False, "https"), (True, "http"), (False, "ftp")])
async def test_the_scheme_is_part_of_an_origin(start: Starter, scheme: str, *, secure: bool) -> None:
    """
    A page that came in the clear may not write where TLS is in front, nor the other way round.
    """
    world = await start(cookie_secure=secure)
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))
    host = world.url.partition("://")[2]

    wrong = await world.nobody.create(headers=cookie | {"Origin": f"{scheme}://{host}"})
    right = await world.nobody.create(headers=cookie | {"Origin": f"{'https' if secure else 'http'}://{host}"})

    assert [403, 201] == [wrong.status, right.status]


async def test_a_page_on_another_port_of_ours_is_another_origin(world: World) -> None:
    """
    Cookies know no ports, so a neighbour's page on this host can send ours; it may not write with it.
    """
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))
    neighbour = {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}

    answers = [
        await world.nobody.create(headers=cookie | neighbour),
        await world.nobody.post("/api/sessions/guest", headers=cookie | neighbour),
    ]

    assert [403, 403] == [answer.status for answer in answers]


async def test_a_cookie_read_is_not_held_to_an_origin(world: World) -> None:
    """
    Reading is protected by the browser itself, since nothing allows another origin to see the answer.
    """
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))

    answer = await world.nobody.get("/api/jobs", headers=cookie | {"Origin": "https://evil.example"})

    assert 200 == answer.status
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_bearer_write_is_not_held_to_an_origin(world: World) -> None:
    """
    No browser sends a bearer token by itself.
    """
    answer = await world.guest.create(headers={"Origin": "https://evil.example"})

    assert 201 == answer.status


async def test_allowed_origins_may_write_with_the_cookie(start: Starter) -> None:
    """
    A front end on another origin is named in a setting.
    """
    world = await start(allowed_origins=("https://app.example",))
    cookie = cookie_of(await world.nobody.post("/api/sessions/guest"))

    answers = [
        await world.nobody.create(headers=cookie | {"Origin": origin})
        for origin in ("https://app.example", "https://evil.example")
    ]

    assert [201, 403] == [answer.status for answer in answers]


async def test_a_guest_session_is_not_made_for_another_site(world: World) -> None:
    """
    Setting our cookie is a write as well.
    """
    answer = await world.nobody.post("/api/sessions/guest", headers={"Origin": "https://evil.example"})

    assert (403, "access-denied") == (answer.status, answer.code)
    assert "Set-Cookie" not in answer.headers


async def test_only_guests_and_users_come_by_cookie(world: World) -> None:
    """
    An operator's token in a cookie is nobody's: what a browser sends by itself must not be that strong.
    """
    answer = await world.nobody.get("/api/log/head", headers={"Cookie": f"jobsvc_session={world.operator.token}"})

    assert (401, "unauthenticated") == (answer.status, answer.code)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("10.1.2.3:8080", 200),
        ("[::1]:8080", 200),
        ("localhost", 200),
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("1.2.3.4.5", 421),
        ("", 421),
    ],
)
async def test_beyond_loopback_without_a_list_addresses_are_ours_and_foreign_names_are_not(
    start: Starter, host: str, status: int
) -> None:
    """
    A page can have a name of its own lead here, but no address: what a rebinding page sends is refused unasked.
    """
    world = await start(host="0.0.0.0")  # noqa: S104  # that is what is tested

    answer = await world.guest.get("/api/jobs/active", headers={"Host": host})

    assert status == answer.status
