from __future__ import annotations

import asyncio
import socket
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from jobsvc.domain.errors import SlowDown
from jobsvc.http.rates import LastMinute, Rate
from tests.http.client import until
from tests.http.world import MovableClock
from tests.ledger.rig import FakeClock
from tests.system.raw import RawConnection, Request

if TYPE_CHECKING:
    from tests.http.client import Caller
    from tests.http.conftest import Starter
    from tests.http.world import World
    from tests.system.raw import Answer as RawAnswer

JSON_TYPE = {"Content-Type": "application/json"}
NOTHING: Final = {"kinds": ["nothing"], "wait_s": 30}
BATCH: Final = {"jobs": [{"kind": "work"}] * 10}


async def test_a_body_above_one_mebibyte_is_413(world: World) -> None:
    """
    too-large, and nothing changes; one just below is taken.
    """
    too_large = b'{"kind":"work","input":"' + b"x" * 1_048_576 + b'"}'
    just_below = b'{"kind":"work","input":"' + b"x" * 1_048_000 + b'"}'

    refused = await world.guest.send("POST", "/api/jobs", content=too_large, headers=JSON_TYPE)
    taken = await world.guest.send("POST", "/api/jobs", content=just_below, headers=JSON_TYPE)

    assert (413, "too-large") == (refused.status, refused.code)
    assert 201 == taken.status
    assert 1 == await world.position()


async def test_what_is_just_within_bounds_is_taken(world: World) -> None:
    """
    The longest title, key, kind and URL, and the largest priority range of a guest.
    """
    longest_url = "https://example.com/" + "a" * (2_048 - 20)

    answers = [
        await world.guest.create(title="t" * 200, key="k" * 2_048, kind="a" * 64, priority=-100, max_attempts=10),
        await world.guest.create(url=longest_url),
        await world.guest.create(title="😀" * 200),
        await world.guest.create(input=[[]]),
    ]

    assert [201] * 4 == [answer.status for answer in answers]


async def test_an_owner_has_so_many_active_jobs(start: Starter) -> None:
    """
    429 too-many-active with Retry-After; attach still works, another owner is not hurt, and room is made by an end.
    """
    world = await start(active_per_owner_max=2)
    jobs = [await world.guest.made(key=f"{n}") for n in range(2)]

    refused = await world.guest.create()
    attached = await world.guest.create(key="0")
    replaced = await world.guest.create(key="1", dedup={"on_active": "replace"})
    other = await world.stranger.create()
    await world.guest.cancel(jobs[0]["id"])
    again = await world.guest.create()

    assert (429, "too-many-active", True) == (refused.status, refused.code, "Retry-After" in refused.headers)
    assert [200, 201, 201, 201] == [answer.status for answer in (attached, replaced, other, again)]


async def test_the_bound_holds_for_creates_at_once(start: Starter) -> None:
    """
    However many come in one breath, no more than that many are made.
    """
    world = await start(active_per_owner_max=5)

    answers = await asyncio.gather(*(world.guest.create() for _ in range(20)))

    assert [201] * 5 + [429] * 15 == sorted(answer.status for answer in answers)
    assert 5 == len(await world.guest.active())


async def test_all_together_have_so_many_active_jobs(start: Starter) -> None:
    """
    The total is bounded too.
    """
    world = await start(active_total_max=2)
    await world.guest.made()
    await world.stranger.made()

    answer = await world.user.create()

    assert (429, "too-many-active") == (answer.status, answer.code)


async def test_guests_may_be_held_to_a_list_of_kinds(start: Starter) -> None:
    """
    Where a list is set, guests and users ask for those kinds only; a service for any.
    """
    world = await start(guest_kinds=("x-post",))

    answers = [
        await world.guest.create(kind="x-post"),
        await world.guest.create(kind="work"),
        await world.user.create(kind="work"),
        await world.backend.create(kind="work", owner=world.guest.owner),
    ]

    assert [201, 422, 422, 201] == [answer.status for answer in answers]
    assert "/kind" == answers[1].pointer


async def test_a_guest_schedules_at_most_thirty_days_ahead(world: World) -> None:
    """
    29 days are taken, 31 refused.
    """
    now = datetime.fromtimestamp(world.clock.now() / 1e6).astimezone()

    answers = [await world.guest.create(run_at=(now + timedelta(days=days)).isoformat()) for days in (29, 31)]

    assert [201, 422] == [answer.status for answer in answers]


async def test_past_the_bound_of_events_progress_is_written_once_at_the_end(start: Starter) -> None:
    """
    State events are never refused; progress beyond is held in memory and stands in the log before the end.
    """
    world = await start(events_per_job_max=4)
    await world.guest.made()
    grant = await world.worker.claim(lease_s=600)
    for percent in range(10):
        world.clock.advance(1)
        await world.worker.report(grant, "progress", percent=percent)

    completed = await world.worker.complete(grant)

    types = await world.guest.types(grant.id)
    assert ["job.progressed", "job.completed"] == types[-2:]
    assert 6 == len(types)
    assert 9 == completed["progress"]["percent"]


async def test_the_bounds_are_settings(start: Starter) -> None:
    """
    A smaller body, shorter titles and fewer jobs in a batch are a matter of settings.
    """
    world = await start(body_bytes_max=1_000, title_characters_max=5, items_max=1, json_depth_max=3)

    answers = [
        await world.guest.create(input="x" * 1_000),
        await world.guest.create(title="123456"),
        await world.guest.post("/api/jobs/batch", {"jobs": [{"kind": "a"}] * 2}),
        await world.guest.create(input=[[[]]]),
    ]

    assert [413, 422, 413, 400] == [answer.status for answer in answers]


@pytest.mark.parametrize("number", ["9" * 19, "0" * 12 + "9999", "9" * 5_000])
async def test_a_number_too_long_is_refused(world: World, number: str) -> None:
    """
    However it is written, a number beyond its bound is 422 and never a fault of ours.
    """
    job = await world.guest.made()

    answer = await world.guest.get(f"/api/jobs/{job['id']}/events", limit=number)

    assert (422, "invalid", "/limit") == (answer.status, answer.code, answer.pointer)


# What is held, coming in, or done often


async def test_so_many_requests_of_one_principal_are_held(start: Starter) -> None:
    """
    429 slow-down with Retry-After for one more read or claim; a create that only prefers to wait is answered at once.
    """
    world = await start(waits_per_principal_max=2)
    job = await world.guest.made()
    waits = world.service.limits.waits
    held = [asyncio.create_task(world.guest.get(f"/api/jobs/{job['id']}", wait_s=30)) for _ in range(2)]
    held += [asyncio.create_task(world.worker.post("/api/worker/claim", NOTHING)) for _ in range(2)]
    await until(lambda: waits.total == 4)

    refused = [
        await world.guest.get(f"/api/jobs/{job['id']}", wait_s=30),
        await world.worker.post("/api/worker/claim", NOTHING),
    ]
    preferring = await world.guest.create(headers={"Prefer": "wait=30"})
    at_once = await world.guest.get(f"/api/jobs/{job['id']}", wait_s=30, since=0)
    other = asyncio.create_task(world.operator.get(f"/api/jobs/{job['id']}", wait_s=30))
    await until(lambda: waits.total == 5)

    assert [(429, "slow-down", "1")] * 2 == [(one.status, one.code, one.headers["Retry-After"]) for one in refused]
    assert (201, False) == (preferring.status, "Preference-Applied" in preferring.headers)
    assert 200 == at_once.status
    await world.guest.cancel(job["id"])
    assert [200] * 3 == [(await one).status for one in (*held[:2], other)]
    for claim in held[2:]:
        claim.cancel()
    await until(lambda: (waits.total, len(waits)) == (0, 0))


@pytest.mark.parametrize(("bounds", "guests"), [({"waits_total_max": 3}, 3), ({"waits_guests_max": 2}, 2)])
async def test_so_many_requests_are_held_in_all_and_so_many_of_all_guests(
    start: Starter, bounds: dict[str, int], guests: int
) -> None:
    """
    Guests are free to make: whoever makes many has no more of them, and users still find room below the total.
    """
    world = await start(**bounds)
    job = await world.user.made()
    waits, held = world.service.limits.waits, []
    for number in range(guests):
        guest = world.caller("guest", f"g{number}")
        own = await guest.made()
        held.append(asyncio.create_task(guest.get(f"/api/jobs/{own['id']}", wait_s=30)))
    await until(lambda: waits.total == guests)
    late = await world.guest.made()

    refused = await world.guest.get(f"/api/jobs/{late['id']}", wait_s=30)
    users = asyncio.create_task(world.user.get(f"/api/jobs/{job['id']}", wait_s=30))

    assert (429, "slow-down") == (refused.status, refused.code)
    if "waits_guests_max" in bounds:
        await until(lambda: waits.total == guests + 1)
        await world.user.cancel(job["id"])
        assert 200 == (await users).status
    else:
        assert 429 == (await users).status
    for one in held:
        one.cancel()


async def test_all_guests_together_have_so_many_active_jobs(start: Starter) -> None:
    """
    429 for whichever guest comes next; users and back ends go on, and an end makes room again.
    """
    world = await start(active_guests_max=2)
    jobs = [await world.guest.made(), await world.stranger.made()]

    refused = await world.caller("guest", "third").create()
    others = [await world.user.create(), await world.backend.create(owner="user:x")]
    await world.guest.cancel(jobs[0]["id"])
    again = [await world.guest.create(), await world.guest.create()]

    assert (429, "too-many-active", True) == (refused.status, refused.code, "Retry-After" in refused.headers)
    assert [201, 201] == [answer.status for answer in others]
    assert [201, 429] == [answer.status for answer in again]


async def test_all_guests_together_have_so_many_streams(start: Starter) -> None:
    """
    One more is told ``bye`` overload; a user's is served.
    """
    world = await start(streams_guests_max=1)

    async with world.guest.stream() as first:
        await first.until("ready")
        async with world.stranger.stream() as second, world.user.stream() as users:
            told = await second.rest()
            await users.until("ready")

    assert ["hello", "bye"] == [frame.event for frame in told]
    assert "overload" == told[-1].data["reason"]


async def test_guests_are_made_so_often_in_all_whatever_their_addresses(start: Starter) -> None:
    """
    429 with the time to wait; a guest that there is goes on, and a minute later there are new ones again.
    """
    world = await start(guests_per_minute_total_max=2)
    made = [await world.nobody.post("/api/sessions/guest") for _ in range(2)]

    refused = await world.nobody.post("/api/sessions/guest")
    known = await world.with_token(made[0].body["token"]).post("/api/sessions/guest")
    world.clock.advance(61)
    later = await world.nobody.post("/api/sessions/guest")

    assert [201, 201, 200, 201] == [answer.status for answer in (*made, known, later)]
    assert (429, "slow-down") == (refused.status, refused.code)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "Set-Cookie" not in refused.headers


async def test_a_guest_or_user_writes_so_often_a_minute(start: Starter) -> None:
    """
    Each job of a batch counts; 429 with the time to wait, for nobody else, not for reads, and not for trusted roles.
    """
    world = await start(writes_per_minute_max=4)
    batch = {"jobs": [{"kind": "work"}] * 3}
    taken = [await world.guest.create(), await world.guest.post("/api/jobs/batch", batch)]

    refused = [await world.guest.create(), await world.guest.cancel(taken[0].job["id"])]
    others = [await world.stranger.create(), await world.guest.get("/api/jobs")]
    trusted = [await world.backend.create(owner=world.guest.owner) for _ in range(5)]
    world.clock.advance(61)
    later = await world.guest.create()

    assert [201, 200] == [answer.status for answer in taken]
    assert [(429, "slow-down")] * 2 == [(answer.status, answer.code) for answer in refused]
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert [201, 200] == [answer.status for answer in others]
    assert [201] * 6 == [answer.status for answer in (*trusted, later)]


async def test_a_batch_above_the_bound_on_writes_is_taken_once_a_minute(start: Starter) -> None:
    """
    Told to come back in a minute, it would be told so for ever: the first of the minute is taken whole.
    """
    world = await start(writes_per_minute_max=4)
    batch = {"jobs": [{"kind": "work"}] * 10}

    taken = await world.guest.post("/api/jobs/batch", batch)
    refused = [await world.guest.post("/api/jobs/batch", batch), await world.guest.create()]
    world.clock.advance(61)
    later = await world.guest.create(), await world.guest.post("/api/jobs/batch", batch)

    assert (200, 10) == (taken.status, len(taken.body["results"]))
    assert [429, 429] == [answer.status for answer in refused]
    assert [201, 429] == [answer.status for answer in later]


async def test_the_bound_on_writes_can_be_off(start: Starter) -> None:
    """
    0 stands for no bound.
    """
    world = await start(writes_per_minute_max=0, guests_per_minute_total_max=0)

    answers = [await world.guest.create() for _ in range(5)]
    made = await world.nobody.post("/api/sessions/guest")

    assert [201] * 6 == [answer.status for answer in (*answers, made)]


def test_counts_of_a_minute_are_bounded_whoever_comes() -> None:
    """
    However many names there are, so many are told apart, and the others share one count.
    """
    clock = MovableClock()
    rate = Rate(clock, per_minute_max=2, message="too often")
    for number in range(100_000):
        rate.count(f"guest:{number}")
    rate.count("late")
    rate.count("later")

    with pytest.raises(SlowDown):
        rate.count("latest")
    rate.count("guest:7")
    clock.advance(61)
    rate.count("latest")


def test_a_step_of_the_wall_clock_shuts_no_address_out() -> None:
    """
    A minute is one that passed, however the clock was set in it.
    """
    clock = FakeClock()
    rate = LastMinute(clock, per_minute_max=1, message="too often")
    rate.count("192.0.2.1")

    clock.step(-86_400_000_000)
    with pytest.raises(SlowDown):
        rate.count("192.0.2.1")
    clock.advance(60_000_000)

    rate.count("192.0.2.1")


async def test_so_many_bodies_come_in_at_a_time(start: Starter) -> None:
    """
    One more is told to slow down, of one guest, of all guests, and of all; who sends its body whole is never held.
    """
    world = await start(bodies_per_principal_max=1, bodies_guests_max=2, bodies_total_max=3)
    bodies = world.service.limits.bodies
    slow = [await Slow.begun(world, caller) for caller in (world.guest, world.stranger, world.user)]
    await until(lambda: bodies.total == 3)

    one_more = [await Slow.begun(world, caller) for caller in (world.guest, world.backend)]
    refused = [await connection.status() for connection in one_more]
    whole = await world.guest.create()
    finished = [await connection.finished() for connection in slow]

    assert [429, 429] == refused
    assert 201 == whole.status
    assert [201] * 3 == finished
    await until(lambda: (bodies.total, len(bodies)) == (0, 0))


async def test_a_body_has_so_long_to_come_in(start: Starter) -> None:
    """
    400 where it stops half way; the connection closes.
    """
    world = await start(body_wait_s=0.05)
    slow = await Slow.begun(world, world.guest)

    assert 400 == await slow.status()
    assert 0 == await world.position()


async def test_a_connection_without_a_request_is_closed(start: Starter) -> None:
    """
    One that says nothing, or never ends its head, is gone after the idle time.
    """
    world = await start(connection_idle_s=0.05)
    parts = urlsplit(world.url)

    for head in (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:"):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head)
        async with asyncio.timeout(10):
            assert b"" == await reader.read()
        writer.close()


async def test_so_many_connections_are_open(start: Starter) -> None:
    """
    One more is told 503 with Retry-After and closed; the others go on, and one that closes makes room.

    What every answer tells browsers stands on that one too.
    """
    world = await start(connections_max=2, cookie_secure=True)
    first, second = [await RawConnection.open(world.url) for _ in range(2)]
    request = Request("read", "GET", "/api/jobs", world.guest.token or "")
    answers = [await first.ask(request), await second.ask(request)]

    third = await RawConnection.open(world.url)
    told = await third.ask(Request("listen", "GET", "/healthz", ""))
    still = await first.ask(request)
    await second.close()
    fourth = await _answered(world.url, request)

    assert [200, 200, 200, 200] == [answer.status for answer in (*answers, still, fourth)]
    assert (503, "unavailable", "1") == (told.status, told.body["code"], told.headers["retry-after"])
    assert told.body["request_id"] == told.headers["x-request-id"]
    of_browsers = {"strict-transport-security", "x-content-type-options", "content-security-policy", "server"}
    assert of_browsers <= told.headers.keys() & still.headers.keys()
    await first.close()
    await third.close()


async def _answered(url: str, request: Request) -> RawAnswer:
    """
    The answer on a connection of its own, as soon as there is room for one.
    """
    async with asyncio.timeout(10):
        while True:
            connection = await RawConnection.open(url)
            answer = await connection.ask(request)
            await connection.close()
            if answer.status != 503:
                return answer


class Slow:
    """
    A create of which the last byte has not been sent.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begun(cls, world: World, caller: Caller) -> Slow:
        """
        The head has been sent, and all of the body but its end.
        """
        parts = urlsplit(world.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        owner = b',"owner":"user:x"' if caller is world.backend else b""
        body = b'{"kind":"work"' + owner
        writer.write(
            f"POST /api/jobs HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {caller.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body) + 1}\r\n\r\n".encode()
            + body
        )
        return cls(reader, writer)

    async def status(self) -> int:
        """
        What is answered.
        """
        async with asyncio.timeout(10):
            line = await self._reader.readline()
        self._writer.close()
        return int(line.split(b" ")[1])

    async def finished(self) -> int:
        """
        What is answered once the last byte is there.
        """
        self._writer.write(b"}")
        return await self.status()


# One owner and the others


async def test_one_owner_stands_in_the_queue_only_so_often(start: Starter) -> None:
    """
    429 slow-down for what is more, while another owner's create is taken, and 503 for nobody.
    """
    world = await start(queue_commands_per_owner_max=20, commit_batch_max=10)

    batches = [asyncio.create_task(world.guest.post("/api/jobs/batch", BATCH)) for _ in range(20)]
    other = await world.stranger.create()
    statuses = sorted([(await batch).status for batch in batches])

    assert 201 == other.status
    assert {200, 429} == set(statuses)
    assert await world.guest.create() is not None


async def test_an_owner_with_a_thousand_jobs_does_not_keep_others_from_the_workers(start: Starter) -> None:
    """
    Claims go round the owners: of the first two jobs one is the other owner's, though it came last of all.
    """
    world = await start()
    for _ in range(2):
        await world.guest.post("/api/jobs/batch", {"jobs": [{"kind": "work"}] * 500})
    late = await world.stranger.made()

    grants = await world.worker.claims(max=2)

    assert late["id"] in {grant.id for grant in grants}


async def test_an_answer_that_nobody_reads_is_not_kept(start: Starter) -> None:
    """
    A caller that asks for much and takes none of it is cut; until then the answer lies in our memory.
    """
    world = await start(stream_stall_s=0.2, active_per_owner_max=2_000)
    for _ in range(8):
        await world.guest.post("/api/jobs/batch", {"jobs": [{"kind": "work", "input": "x" * 15_000}] * 65})
    parts, loop = urlsplit(world.url), asyncio.get_running_loop()
    before = connections_open(world)
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    asking.setblocking(False)  # noqa: FBT003  # as the socket module has it
    await loop.sock_connect(asking, (parts.hostname, parts.port))
    request = (
        f"GET /api/jobs?limit=500 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {world.guest.token}\r\n\r\n"
    )

    await loop.sock_sendall(asking, request.encode())
    await until(lambda: connections_open(world) == before + 1)
    await until(lambda: connections_open(world) == before)

    asking.close()
    assert 200 == (await world.guest.get("/api/jobs", limit=1)).status


def connections_open(world: World) -> float:
    """
    How many there are.
    """
    return world.service.metrics.registry.get_sample_value("jobsvc_connections_open") or 0.0
