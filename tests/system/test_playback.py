"""
A recorded log is played through the real stream endpoints: a front end watches again what happened.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from jobsvc.app import running, serving
from jobsvc.http.routes import ROUTES
from jobsvc.playback import Recording, play, read_only
from jobsvc.settings import Settings
from jobsvc.tokens import issue
from tests.http.client import Caller
from tests.http.world import SECRET, TOKEN_TTL_S, MovableClock
from tests.process import running_process, token
from tests.system.logs import jobsvc, looking_at, said, select, without_lease, write_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from jobsvc.http.service import Service
    from tests.http.client import JSON


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log that the service wrote; nobody may change it.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(write_log(path))
    return path


class Playback:
    """
    A recording that is served, and an operator who watches it.
    """

    def __init__(self, service: Service, recording: Recording, operator: Caller) -> None:
        self.service = service
        self.recording = recording
        self.operator = operator

    async def play(self, speed: float) -> int:
        """
        Where it ended.
        """
        return await play(self.service.ledger, self.recording, speed=speed)


@asynccontextmanager
async def served(log: Path, *, begin: int = 0, until: int | None = None) -> AsyncIterator[Playback]:
    """
    The recording in *log*, served, and not yet playing.
    """
    recording = Recording(log, begin=begin, until=last_of(log) if until is None else until)
    settings = Settings(port=0, database=str(log), secret=SECRET, drain_s=0.5)
    async with (
        running(settings, store=recording, by_itself=False) as service,
        serving(service, routes=read_only(ROUTES)) as url,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        bearer = issue(SECRET, "operator", subject="olga", ttl_s=TOKEN_TTL_S, now=MovableClock().now())
        yield Playback(service, recording, Caller(session, url, owner="olga", token=bearer))


def last_of(log: Path) -> int:
    """
    The position of its last event.
    """
    ((position,),) = select(log, "SELECT position FROM head")
    return int(position)


async def test_the_stream_shows_every_event_as_it_was_recorded(log: Path) -> None:
    """
    From an empty list on, all but progress that a later event supersedes; at the end the list is that of the log.
    """
    recorded = select(log, "SELECT position, type FROM events WHERE type <> 'job.progressed' ORDER BY position")

    async with served(log) as playback:
        before = await playback.operator.active()
        first = (await playback.operator.get("/api/stream", wait_s=0)).body
        ended = await playback.play(speed=1e9)
        page = (await playback.operator.get("/api/stream", wait_s=1, after=first["cursor"])).body
        after = await playback.operator.active()
        printed = await said("replay", "--database", str(log), "-o", "json")

    shown = [(frame["data"]["position"], frame["data"]["type"]) for frame in page["frames"] if frame["event"] == "job"]
    assert [] == before
    assert recorded == shown
    assert recorded[-1][0] == ended
    assert without_lease(after) == without_lease(_rows(printed.output))


def _rows(output: str) -> list[JSON]:
    import json  # noqa: PLC0415  # here only

    return list(json.loads(output)["rows"])


async def test_it_keeps_the_pace_of_the_recording(log: Path) -> None:
    """
    A thousandth as fast, what took milliseconds takes seconds: after the first event there is a while of nothing.
    """
    async with served(log) as playback:
        playing = asyncio.create_task(playback.play(speed=1e-6))
        position = 0
        while position == 0:
            position = (await playback.operator.get("/api/log/head")).body["position"]
        still = (await playback.operator.get("/api/log/head")).body["position"]
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)

    assert (1, 1) == (position, still)


async def test_no_read_shows_what_has_not_happened_yet(log: Path) -> None:
    """
    Half way through, lists, single jobs, histories and the log are as they were then; bounds are kept.
    """
    half = last_of(log) // 2
    async with looking_at(log) as store:
        whole = await store.read_events(after=0, limit=2_000)

    async with served(log, until=half) as playback:
        ended = await playback.play(speed=1e9)
        events = (await playback.operator.get("/api/log", limit=2_000)).body["events"]
        jobs = (await playback.operator.get("/api/jobs", limit=500)).body["jobs"]
        first = (await playback.operator.get(f"/api/jobs/{whole[0].job_id}")).body["job"]
        history = (await playback.operator.get(f"/api/jobs/{whole[0].job_id}/events")).body["events"]

    assert half == ended
    assert list(range(1, half + 1)) == [event["position"] for event in events]
    born = {event.job_id for event in whole[:half] if event.type == "job.created"}
    assert born == {job["id"] for job in jobs}
    assert first["version"] == max(event.version for event in whole[:half] if event.job_id == whole[0].job_id)
    assert len(history) == first["version"]


async def test_it_may_begin_in_the_middle(log: Path) -> None:
    """
    The list is as it was there, and what follows is shown as it followed.
    """
    half = last_of(log) // 2

    async with served(log, begin=half) as playback:
        begun = await playback.operator.active()
        await playback.play(speed=1e9)
        ended = await playback.operator.active()

    for jobs, until in ((begun, half), (ended, last_of(log))):
        printed = await said("replay", "--database", str(log), "-o", "json", "--until", str(until))
        assert without_lease(jobs) == without_lease(_rows(printed.output))


async def test_nothing_can_be_written_and_the_recording_stays_as_it_is(log: Path) -> None:
    """
    Every write is refused with words that say why; a guest and a ticket leave no trace and are given.
    """
    before = await asyncio.to_thread(log.read_bytes)

    async with served(log) as playback:
        await playback.play(speed=1e9)
        refused = [
            await playback.operator.post(route.path.format(id="x", name="active"), {})
            for route in ROUTES
            if route.method == "POST" and not route.path.startswith(("/api/sessions", "/api/stream"))
        ]
        guest = await playback.operator.post("/api/sessions/guest", {})
        ticket = await playback.operator.post("/api/stream/tickets", {})

    assert {(405, "method-not-allowed")} == {(answer.status, answer.code) for answer in refused}
    assert all("a recording is played here" in answer.body["detail"] for answer in refused)
    assert (201, 201) == (guest.status, ticket.status)
    assert before == await asyncio.to_thread(log.read_bytes)


async def test_a_cursor_of_the_log_gets_a_reset(log: Path) -> None:
    """
    A playback is a log of its own: whoever followed the other one begins anew.
    """
    ((epoch,),) = select(log, "SELECT epoch FROM head")

    async with served(log) as playback:
        await playback.play(speed=1e9)
        page = (await playback.operator.get("/api/stream", wait_s=0, after=f"{epoch}.3")).body

    assert ["hello", "reset", "snapshot"] == [frame["event"] for frame in page["frames"]][:3]


@pytest.mark.process
async def test_the_command_line_serves_a_recording(log: Path) -> None:
    """
    It says where it listens and where the recording ends, and ends itself when it is told to, exit code 0.
    """
    async with running_process(log, verb=("replay", "--serve", "--speed", "1000000")) as service:
        bearer = token("operator")
        async with aiohttp.ClientSession() as session:
            operator = Caller(session, service.url, owner="olga", token=bearer)
            async with asyncio.timeout(20):
                position = 0
                while position < last_of(log):
                    position = (await operator.get("/api/log/head")).body["position"]
        code = await service.stop()

    assert 0 == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--after", "yesterday"), "a position or a time"),
        (("--speed", "0"), "--speed"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(log: Path, arguments: tuple[str, ...], words: str) -> None:
    """
    Exit code 2, and the words say why.
    """
    result = jobsvc("replay", "--serve", "--database", str(log), *arguments)

    assert 2 == result.exit_code
    assert words in result.output
