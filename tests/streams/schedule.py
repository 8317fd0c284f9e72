"""
A schedule: from a seed, what happens to a service, its log, its network and eight followers, and the law afterwards.

The law: from one cursor to the next no follower misses an event, has one twice or out of order, save progress that was
superseded, unless it was told ``reset`` first; each heartbeat's digest is that of what it holds; and at the end it
holds what ``GET /api/jobs/active`` says. A seed decides what is done, and each actor has chance of its own, so that
playing it again does the same; what the machine's own speed adds is not the seed's.

A log that was trimmed is not played yet: its place is `Schedule._disturb`, as another kind of other log.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from jobsvc.changes import read_changes
from jobsvc.channel import Scope
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from jobsvc.store.sqlite import SqliteStore
from tests.process import token
from tests.streams.follower import TRANSPORTS, Follower
from tests.streams.places import RING_EVENTS, Place
from tests.streams.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from jobsvc.changes import Change
    from tests.streams.follower import Part

    JSON = Any

FOLLOWERS: Final = 8
PATIENCE_S: Final = 60.0
_OWNERS: Final = ("user:a", "user:b", "guest:g")
_GONE: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Schedule:
    """
    One of them, from its seed.

    Attributes:
        resumes: How often somebody resumed from a cursor of this log, and from one below the ring.
    """

    def __init__(self, seed: str, folder: Path, place: Place) -> None:
        self._seed = seed
        self._folder = folder
        self._place = place
        self._chance = Random(seed)
        self._proxy = Proxy(Random(f"{seed} proxy"))
        self._up = asyncio.Event()
        self._stepped = asyncio.Event()
        self._followers: list[Follower] = []
        self._following: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession
        self._logs: dict[str, Path] = {}
        self._jobs: list[str] = []
        self._grants: list[JSON] = []
        self._is_calm = False
        self._is_claimed = False
        self.resumes = {"all": 0, "below": 0}

    async def play(self) -> None:
        """
        It was played, and the law held; whatever goes wrong names the seed.
        """
        async with AsyncExitStack() as stack:
            self._session = await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
            )
            stack.push_async_callback(self._place.kill)
            stack.push_async_callback(self._proxy.close)
            stack.push_async_callback(self._end_following)
            faults: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
            try:
                await self._begin()
                for step in range(self._chance.randint(4, 8)):
                    await self._step(step)
                async with asyncio.timeout(PATIENCE_S):
                    await self._settle()
                await self._judge()
                assert [] == faults
            except Exception as error:
                error.add_note(f"STREAM_SEED={self._seed} pytest tests/streams/test_schedules.py plays it again")
                raise

    # Who is there

    async def _begin(self) -> None:
        await self._proxy.open()
        await self._start(self._folder / "log.db")
        for _ in range(2):
            await self._create("user:a", "x")
        self._followers = [self._follower(number) for number in range(FOLLOWERS)]
        self._following = [asyncio.create_task(self._follow(one, Random(f"{self._seed} {number}")))
                           for number, one in enumerate(self._followers)]  # fmt: skip

    def _follower(self, number: int) -> Follower:
        chance = Random(f"{self._seed} follower {number}")
        owner = chance.choice([None, *_OWNERS])
        kinds, jobs, path = frozenset[str](), frozenset[str](), "/api/stream"
        match chance.randrange(5):
            case 0:
                kinds = frozenset("x")
            case 1 if owner in {None, "user:a"}:
                jobs = frozenset(self._jobs[:2])
            case 2 if owner in {None, "user:a"}:
                jobs, path = frozenset(self._jobs[:1]), f"/api/jobs/{self._jobs[0]}/events"
            case _:
                pass
        follower = Follower(
            chance,
            Scope(owner, kinds, jobs, ends="events" in path),
            token=_token(owner),
            transport=sorted(TRANSPORTS)[number % len(TRANSPORTS)],
            path=path,
            url=lambda: self._proxy.url,
        )
        follower.before_resume = self._note_resume
        return follower

    def _note_resume(self, position: int) -> None:
        self.resumes["all"] += 1
        self.resumes["below"] += position + 1 < self._place.ring_first

    async def _follow(self, follower: Follower, chance: Random) -> None:
        while not follower.over:
            await self._up.wait()
            await follower.follow(calm=self._is_calm)
            if not self._is_calm and chance.random() < 0.6:
                # Long enough for the ring to have moved on.
                await self._stepped.wait()
            await asyncio.sleep(chance.uniform(0, 0.01))

    async def _end_following(self) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    # What happens

    async def _step(self, step: int) -> None:
        """
        Several write at once, somebody else a ring full and more, and perhaps the service or its log goes.
        """
        acts = [self._act() for _ in range(self._chance.randint(2, 6))]
        acts.append(self._noise())
        writing = asyncio.gather(*acts)
        disturbs = step > 0 and self._chance.random() < 0.35
        if disturbs:
            await asyncio.sleep(self._chance.uniform(0, 0.02))
            await self._disturb()
        await writing
        self._stepped.set()
        self._stepped.clear()
        await asyncio.sleep(self._chance.uniform(0, 0.05))
        if self._chance.random() < 0.3:
            await self._proxy.cut()

    async def _disturb(self) -> None:
        """
        The service is killed or stopped, and comes again, or another comes with another log.
        """
        self._up.clear()
        self._proxy.upstream = None
        await (self._place.kill() if self._chance.random() < 0.6 else self._place.stop())
        same = self._chance.random() < 0.8
        await self._start(self._place.database if same else self._folder / f"log{len(self._logs)}.db")

    async def _start(self, database: Path) -> None:
        await self._place.start(database)
        self._proxy.upstream = self._place.url
        self._logs[(await self._head())["epoch"]] = database
        self._up.set()

    def _act(self) -> Coroutine[Any, Any, object]:
        owner = self._chance.choice(_OWNERS)
        match self._chance.randrange(10):
            case 0 | 1 | 2 | 3:
                return self._create(owner, self._chance.choice("xy"), size=self._chance.choice([0, 0, 3_000, 9_000]))
            case 4 if self._jobs:
                return self._post(f"/api/jobs/{self._chance.choice(self._jobs)}/cancel", {}, "operator")
            case 5 if not self._is_claimed and self._chance.random() < 0.4:
                self._is_claimed = True
                return self._post("/api/sessions/claim", {"guest_token": _token("guest:g")}, "user:a")
            case _:
                return self._work(Random(self._chance.random()))

    async def _noise(self) -> None:
        for _ in range(2):
            await self._post("/api/jobs/batch", {"jobs": [{"kind": "x"}] * RING_EVENTS}, "user:noise")

    async def _work(self, chance: Random) -> None:
        answer = await self._post("/api/worker/claim", {"kinds": ["x", "y"], "max": 2}, "worker")
        for grant in (answer or {}).get("jobs", []):
            path = f"/api/worker/jobs/{grant['job']['id']}/"
            body = {"lease_token": grant["lease_token"]}
            for percent in range(chance.randrange(4)):
                await self._post(path + "progress", body | {"percent": percent}, "worker")
            verb = chance.choice(["complete", "release", "fail", None])
            if verb is not None:
                more = {"error": {"code": "c", "message": "m"}, "retryable": False} if verb == "fail" else {}
                await self._post(path + verb, body | more, "worker")

    async def _create(self, owner: str, kind: str, *, size: int = 0) -> None:
        answer = await self._post("/api/jobs", {"kind": kind, "input": "i" * size}, owner)
        if answer is not None and "job" in answer:
            self._jobs.append(answer["job"]["id"])

    async def _post(self, path: str, body: JSON, who: str) -> JSON:
        """
        The answer, whatever its status; None where none came.
        """
        headers = {"Authorization": f"Bearer {_token(who)}"}
        try:
            async with self._session.post(self._place.url + path, json=body, headers=headers) as response:
                return None if response.status == 204 else await response.json(content_type=None)
        except _GONE:
            return None

    async def _get(self, path: str) -> JSON:
        headers = {"Authorization": f"Bearer {_token('operator')}"}
        async with self._session.get(self._place.url + path, headers=headers) as response:
            assert response.status == 200, await response.read()
            return await response.json()

    async def _head(self) -> JSON:
        return await self._get("/api/log/head")

    # The law

    async def _settle(self) -> None:
        """
        The network is well, nobody writes, and every follower knows everything.
        """
        self._is_calm = self._proxy.calm = True
        await self._proxy.cut()
        while True:
            self._stepped.set()
            head = await self._head()
            for one in self._followers:
                await self._reaches(one, head)
            if (await self._head())["position"] == head["position"]:
                return

    async def _reaches(self, follower: Follower, head: JSON) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S / 3):
                await follower.reaches(head["epoch"], head["position"])
        except TimeoutError:
            for task in self._following:
                if task.done():
                    task.result()
            raise AssertionError(
                f"{follower.name} is at {follower.place} and not at {head}: {follower.wrong}"
            ) from None

    async def _judge(self) -> None:
        assert [] == [(one.name, one.wrong) for one in self._followers if one.wrong]
        active = await self._active()
        for one in self._followers:
            if not one.over:
                shown = {job["id"]: job["version"] for job in active if _shows(one.scope, job)}
                assert shown == {job_id: job["version"] for job_id, job in one.jobs.items()}, one.name
        for epoch, database in self._logs.items():
            changes = await _changes(database)
            for one in self._followers:
                for part in one.parts:
                    if part.epoch == epoch:
                        _check(one, part, changes)

    async def _active(self) -> list[JSON]:
        jobs: list[JSON] = []
        page = await self._get("/api/jobs/active?limit=1000")
        jobs += page["jobs"]
        while page["next"] is not None:
            page = await self._get(f"/api/jobs/active?limit=1000&after={page['next']}")
            jobs += page["jobs"]
        return jobs


def _shows(scope: Scope, job: JSON) -> bool:
    return (
        scope.owner in {None, job["owner"]}
        and (not scope.kinds or job["kind"] in scope.kinds)
        and (not scope.job_ids or job["id"] in scope.job_ids)
    )


def _check(follower: Follower, part: Part, changes: list[Change]) -> None:
    """
    What *follower* was told in *part* is what happened in its scope from there on, save superseded progress.
    """
    due = [one for one in changes if part.start < one.event.position <= part.place and follower.scope.shows_change(one)]
    if follower.scope.ends:
        end = next((number for number, one in enumerate(due) if not one.job.active), len(due))
        due = due[: end + 1]
    newest = {one.event.job_id: one.event.version for one in changes}
    seen = {position for position, *_ in part.seen}
    missed = [one for one in due if one.event.position not in seen]
    lost = [
        one.event
        for one in missed
        if one.event.type != "job.progressed" or one.event.version == newest[one.event.job_id]
    ]
    assert [] == lost, f"{follower.name} lost {lost} from {part}"
    told = [one for one in due if one.event.position in seen]
    assert [_summary(one) for one in told] == part.seen, follower.name


def _summary(one: Change) -> tuple[int, str, int, int]:
    return one.event.position, one.event.type, one.event.version, one.job.version


async def _changes(database: Path) -> list[Change]:
    store = SqliteStore(database, read_only=True)
    await store.open()
    changes: list[Change] = []
    while page := await read_changes(store, after=len(changes), limit=ROWS_PER_PAGE_MAX):
        changes += page
    await store.close()
    return changes


def _token(who: str | None) -> str:
    """
    Of an owner, or of another role; of one who sees all for None.
    """
    role, _, subject = (who or "viewer").partition(":")
    return token(role, f"{role}:{subject}" if subject else role)  # type: ignore[arg-type]  # a role
