"""
The load: callers and workers that keep a service busy over raw connections, and remember all that they were told.

Every choice comes from the generator that is passed in, so a seed says again what was sent. Callers compete for few
keys, in every mode of deduplication; workers take what there is and report, fail, give back. What was sent and never
answered is kept too: the service may have done it or not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from tests.process import token
from tests.system.raw import NoAnswer, RawConnection, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.system.raw import JSON, Answer

OWNERS: Final = ("guest:ann", "guest:bob", "user:carol")
KINDS: Final = ("work", "x-post")
CALLERS: Final = 12
WORKERS: Final = 4
EXPECTED: Final = frozenset({200, 201, 202, 204, 409, 429})
REPEATABLE: Final = frozenset({"complete", "fail", "release"})
"""
Reports that may be sent again.
"""


class Load:
    """
    Callers and workers, and what became of what they asked.

    Attributes:
        answered: Requests with their answers, since the last ``forget``.
        in_flight: Requests that were sent and have no answer yet, or never will.
        acked: How many writes were answered with success since then.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._tokens = {owner: token("guest" if owner.startswith("guest") else "user", owner) for owner in OWNERS}
        self._worker_token = token("worker", "w1")
        self._number = 0
        self._known: dict[str, deque[str]] = {owner: deque(maxlen=60) for owner in OWNERS}
        self._grants: deque[JSON] = deque()
        self._loops: list[asyncio.Task[None]] = []
        self._enough = asyncio.Event()
        self._wanted = 0
        self.answered: list[tuple[Request, Answer]] = []
        self.in_flight: list[Request] = []
        self.acked = 0

    # Life

    def start(self, url: str) -> None:
        """
        Everybody is at work on the service at *url*.
        """
        doings = [self._call] * CALLERS + [self._work] * WORKERS
        self._loops = [asyncio.create_task(self._go_on(url, do)) for do in doings]

    async def has_acked(self, count: int) -> None:
        """
        Returns once *count* writes were answered with success.
        """
        self._wanted = count
        waiting = asyncio.create_task(self._enough.wait())
        await asyncio.wait([waiting, *self._loops], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await asyncio.gather(*self._loops)
            raise AssertionError("everybody stopped before there was enough")

    async def end(self) -> None:
        """
        Returns once everybody has noticed that the service is gone.
        """
        await asyncio.gather(*self._loops)

    async def stop(self) -> None:
        """
        Nobody is at work any more, whatever became of them.
        """
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    def forget(self) -> None:
        """
        Nothing was asked yet.
        """
        self.answered, self.in_flight, self.acked = [], [], 0
        self._enough.clear()

    @property
    def unanswered(self) -> list[Request]:
        """
        Writes that got no answer.
        """
        return [request for request in self.in_flight if request.verb != "read"]

    async def _go_on(self, url: str, do: Callable[[RawConnection], Awaitable[None]]) -> None:
        connection = await RawConnection.open(url)
        try:
            while True:
                await do(connection)
        except NoAnswer:
            return
        finally:
            await connection.close()

    async def ask(self, connection: RawConnection, request: Request) -> Answer:
        """
        The answer to *request*, which is remembered.
        """
        self.in_flight.append(request)
        answer = await connection.ask(request)
        self.in_flight.remove(request)
        self.answered.append((request, answer))
        assert answer.status in EXPECTED, (request, answer)
        if request.verb != "read" and answer.status in {200, 201, 202}:
            self.acked += 1
        if self.acked >= self._wanted:
            self._enough.set()
        return answer

    # Callers

    async def _call(self, connection: RawConnection) -> None:
        owner = self._chance.choice(OWNERS)
        answer = await self.ask(connection, self._request(owner))
        if isinstance(answer.body, dict) and "job" in answer.body:
            self._known[owner].append(answer.body["job"]["id"])

    def _request(self, owner: str) -> Request:
        form = self._chance.choices(
            (self._create, self._create_batch, self._cancel, self._retry, self._clean_up, self._look),
            weights=(60, 5, 12, 8, 6, 4),
        )[0]
        known = self._known[owner]
        return form(owner, self._chance.choice(known)) if known else self._create(owner, "")

    def _create(self, owner: str, _: str) -> Request:
        return self._post("create", "/api/jobs", owner=owner, body=self._wish(), idempotent=0.5)

    def _create_batch(self, owner: str, _: str) -> Request:
        body = {"jobs": [self._wish() for _ in range(self._chance.randint(1, 4))]}
        return self._post("batch", "/api/jobs/batch", owner=owner, body=body, idempotent=0.5)

    def _cancel(self, owner: str, job_id: str) -> Request:
        body = {"force": self._chance.random() < 0.3}
        return self._post("cancel", f"/api/jobs/{job_id}/cancel", owner=owner, body=body)

    def _retry(self, owner: str, job_id: str) -> Request:
        return self._post("retry", f"/api/jobs/{job_id}/retry", owner=owner, body={}, idempotent=0.5)

    def _clean_up(self, owner: str, job_id: str) -> Request:
        body = {"force": self._chance.random() < 0.2}
        return self._post("cleanup", f"/api/jobs/cleanup/{job_id}", owner=owner, body=body)

    def _look(self, owner: str, job_id: str) -> Request:
        path = self._chance.choice((f"/api/jobs/{job_id}", "/api/jobs/active", "/api/jobs?limit=20"))
        return Request("read", "GET", path, self._tokens[owner], owner=owner)

    def _wish(self) -> JSON:
        """
        The body of a create, whose input no other has.
        """
        self._number += 1
        chance = self._chance
        wish: JSON = {"kind": chance.choice(KINDS), "input": {"n": self._number}}
        if chance.random() < 0.6:
            user, post, share = chance.choice("abc"), chance.randrange(25), chance.randrange(9)
            wish["url"] = f"https://x.com/{user}/status/{1_000 + post}?s={share}"
        on_active = chance.choices(("attach", "reject", "replace", "run_after"), weights=(5, 2, 2, 2))[0]
        wish["dedup"] = {"on_active": on_active, "on_completed": chance.choice(("rerun", "rerun", "reuse", "reject"))}
        return wish

    def _post(self, verb: str, path: str, *, owner: str, body: JSON, idempotent: float = 0.0) -> Request:
        key = f"key-{self._chance.getrandbits(64):x}" if self._chance.random() < idempotent else None
        return Request(verb, "POST", path, self._tokens[owner], body, key, owner)

    # Workers

    async def _work(self, connection: RawConnection) -> None:
        if not self._grants:
            await self._claim(connection)
            return
        grant = self._grants.popleft()
        while self._chance.random() < 0.3:
            percent = self._chance.randrange(100)
            await self.ask(connection, self._report(grant, "progress", percent=percent))
        if self._chance.random() < 0.3:
            await self._report_many(connection, grant)
        else:
            verb, fields = self._end()
            await self.ask(connection, self._report(grant, verb, **fields))

    async def _claim(self, connection: RawConnection) -> None:
        body = {"max": self._chance.randint(1, 5), "lease_s": 120, "wait_s": 0.2, "worker": "w1"}
        body["claim_id"] = f"claim-{self._chance.getrandbits(64):x}"
        answer = await self.ask(connection, Request("claim", "POST", "/api/worker/claim", self._worker_token, body))
        if answer.status == 200:
            self.hold(answer.body["jobs"])

    def hold(self, grants: list[JSON]) -> None:
        """
        The workers have these jobs in hand.
        """
        self._grants.extend(grants)

    async def _report_many(self, connection: RawConnection, grant: JSON) -> None:
        grants = [grant, *(self._grants.popleft() for _ in range(min(3, len(self._grants))))]
        reports = []
        for one in grants:
            verb, fields = self._end()
            reports.append({"report": verb, "job_id": one["job"]["id"], "lease_token": one["lease_token"], **fields})
        body = {"reports": reports}
        await self.ask(connection, Request("reports", "POST", "/api/worker/reports", self._worker_token, body))

    def _report(self, grant: JSON, verb: str, **fields: JSON) -> Request:
        path = f"/api/worker/jobs/{grant['job']['id']}/{verb}"
        return Request(verb, "POST", path, self._worker_token, {"lease_token": grant["lease_token"], **fields})

    def _end(self) -> tuple[str, JSON]:
        """
        A verb that ends a lease, and what is said with it.
        """
        verb = self._chance.choices(("complete", "fail", "release"), weights=(70, 20, 10))[0]
        if verb == "complete":
            return verb, {"result": {"n": self._chance.randrange(1_000)}}
        if verb == "fail":
            error = {"code": "boom", "message": "it broke"}
            return verb, {"error": error, "retryable": self._chance.random() < 0.7, "retry_after_s": 0}
        return verb, {}
