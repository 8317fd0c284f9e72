"""
A thin client for the tests: requests as somebody, answers as they came, and the frames of a stream one by one.

It adds nothing of its own: no retry, no cookie jar, no judgement of a status. A frame is read strictly, so that a
stream which a browser would misread fails here; and every answer and frame is held against the OpenAPI document.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.http.described import FRAME, errors_of, gaps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

JSON: TypeAlias = Any
"""
What a parser makes of JSON; integers of any length come back exactly.
"""

PATIENCE_S: Final = 10.0
"""
How long a test waits for something that must come.
"""


async def until(condition: Callable[[], bool]) -> None:
    """
    Nothing but that *condition* holds; for what the service says to nobody, such as who waits.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # the service has no event for it, and should have none
            await asyncio.sleep(0.001)


@dataclass(frozen=True)
class Answer:
    """
    What the service answered, whole.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> JSON:
        """
        The body, which must be JSON.
        """
        return json.loads(self.content)

    @property
    def job(self) -> JSON:
        """
        The job of an answer that carries one.
        """
        return self.body["job"]

    @property
    def code(self) -> JSON:
        """
        The code of a problem, which must be well formed in every respect.
        """
        assert self.headers["Content-Type"] == "application/problem+json", self.content
        problem = self.body
        assert {"type", "title", "status", "detail", "instance", "code", "request_id"} <= problem.keys()
        assert problem["status"] == self.status
        return problem["code"]

    @property
    def pointer(self) -> JSON:
        """
        Where in the body the first thing is that was wrong.
        """
        return self.body["errors"][0]["pointer"]


@dataclass(frozen=True)
class Grant:
    """
    A job that a worker was given.
    """

    job: JSON
    lease_token: str
    fence: int
    lease_expires_at: str

    @property
    def id(self) -> str:
        """
        The job's id.
        """
        return str(self.job["id"])


@dataclass(frozen=True)
class Frame:
    """
    One frame of a stream.
    """

    event: str
    data: JSON
    id: str | None = None
    retry: int | None = None

    def as_line(self) -> JSON:
        """
        What stands for it in lines of JSON.
        """
        line = {"event": self.event, "id": self.id, "data": self.data}
        return line if self.retry is None else line | {"retry": self.retry}


class Frames:
    """
    A stream as it comes in.

    Attributes:
        response: What carries it.
        seen: Every frame read so far.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.seen: list[Frame] = []

    async def next(self) -> Frame:
        """
        The next frame; an EOFError where the stream ends instead.
        """
        async with asyncio.timeout(PATIENCE_S):
            lines = [line async for line in self._lines()]
        frame = _frame(lines)
        assert [] == errors_of(FRAME, frame.as_line()), frame
        self.seen.append(frame)
        return frame

    async def until(self, event: str) -> list[Frame]:
        """
        The frames up to and with the next one of this name.
        """
        found = [await self.next()]
        while found[-1].event != event:
            found.append(await self.next())
        return found

    async def until_type(self, event_type: str) -> list[Frame]:
        """
        The frames up to and with the next ``job`` frame of this type.
        """
        found = [await self.next()]
        while found[-1].event != "job" or found[-1].data["type"] != event_type:
            found.append(await self.next())
        return found

    async def rest(self) -> list[Frame]:
        """
        The frames to the stream's end.
        """
        found: list[Frame] = []
        try:
            while True:
                found.append(await self.next())
        except EOFError:
            return found

    async def _lines(self) -> AsyncIterator[bytes]:
        while True:
            line = await self.response.content.readline()
            if not line:
                raise EOFError
            assert line.endswith(b"\n"), line
            assert b"\r" not in line, line
            if line == b"\n":
                return
            yield line[:-1]


def _frame(lines: list[bytes]) -> Frame:
    """
    The frame that *lines* are: each field at most once, one line of data, and nothing that EventSource would skip.
    """
    fields: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.decode().partition(": ")
        assert separator, line
        assert name in {"event", "id", "retry", "data"}, line
        assert name not in fields, lines
        fields[name] = value
    retry = fields.get("retry")
    return Frame(
        event=fields["event"],
        data=json.loads(fields["data"]),
        id=fields.get("id"),
        retry=None if retry is None else int(retry),
    )


class Caller:
    """
    Somebody who calls the service.

    Attributes:
        owner: As whom it owns jobs; its subject where it owns none.
        token: Its bearer token, if it has one.
        headers: What it sends with every request.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, *, owner: str, token: str | None) -> None:
        self._session = session
        self._url = url
        self.owner = owner
        self.token = token
        self.headers: dict[str, str] = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **params: JSON,
    ) -> Answer:
        """
        What the service answers to exactly these bytes.
        """
        sent = self.headers | dict(headers or {})
        body = io.BytesIO(content) if content else content
        request = self._session.request(
            method, self._url + path, data=body, headers=sent, params=_params(params), allow_redirects=False
        )
        async with asyncio.timeout(PATIENCE_S), request as response:
            answer = Answer(response.status, response.headers, await response.read())
        assert [] == gaps(method, path, answer), answer.content
        return answer

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None, **params: JSON) -> Answer:
        """
        The answer to a GET.
        """
        return await self.send("GET", path, headers=headers, **params)

    async def post(self, path: str, body: JSON = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """
        The answer to a POST of *body* as JSON; without a body if it is None.
        """
        if body is None:
            return await self.send("POST", path, headers=headers)
        content = json.dumps(body).encode()
        return await self.send(
            "POST", path, content=content, headers={"Content-Type": "application/json", **(headers or {})}
        )

    # Words of the contract

    async def create(self, *, headers: Mapping[str, str] | None = None, **fields: JSON) -> Answer:
        """
        A create of kind ``work`` if no other is named.
        """
        return await self.post("/api/jobs", {"kind": "work", **fields}, headers=headers)

    async def made(self, **fields: JSON) -> JSON:
        """
        The job that a create made.
        """
        answer = await self.create(**fields)
        assert answer.status == 201, answer.content
        return answer.job

    async def read(self, job_id: str) -> JSON:
        """
        The job as it stands.
        """
        answer = await self.get(f"/api/jobs/{job_id}")
        assert answer.status == 200, answer.content
        return answer.job

    async def active(self, **params: JSON) -> list[JSON]:
        """
        The jobs of the active list.
        """
        answer = await self.get("/api/jobs/active", **params)
        assert answer.status == 200, answer.content
        jobs: list[JSON] = answer.body["jobs"]
        return jobs

    async def settled(self, job_id: str, is_enough: Callable[[JSON], bool]) -> JSON:
        """
        The job as soon as it *is_enough*.
        """
        async with asyncio.timeout(PATIENCE_S):
            job = await self.read(job_id)
            while not is_enough(job):
                job = (await self.get(f"/api/jobs/{job_id}", wait_s=5, since=job["version"])).job
        return job

    async def reaches(self, job_id: str, state: str) -> JSON:
        """
        The job as soon as it is in *state*.
        """
        return await self.settled(job_id, lambda job: bool(job["state"] == state))

    async def types(self, job_id: str) -> list[str]:
        """
        The types of the job's events, in order.
        """
        answer = await self.get(f"/api/jobs/{job_id}/events")
        assert answer.status == 200, answer.content
        return [event["type"] for event in answer.body["events"]]

    async def cancel(self, job_id: str, **fields: JSON) -> Answer:
        """
        A cancel of the job.
        """
        return await self.post(f"/api/jobs/{job_id}/cancel", fields)

    async def clean_up(self, job_id: str, **fields: JSON) -> Answer:
        """
        A cleanup of the job.
        """
        return await self.post(f"/api/jobs/cleanup/{job_id}", fields)

    async def retry(self, job_id: str, *, headers: Mapping[str, str] | None = None, **fields: JSON) -> Answer:
        """
        A retry of the job.
        """
        return await self.post(f"/api/jobs/{job_id}/retry", fields, headers=headers)

    # Words of a worker

    async def claims(self, **fields: JSON) -> list[Grant]:
        """
        What a claim gives; nothing at once if nothing waits.
        """
        answer = await self.post("/api/worker/claim", fields)
        if answer.status == 204:
            return []
        assert answer.status == 200, answer.content
        return [Grant(**grant) for grant in answer.body["jobs"]]

    async def claim(self, **fields: JSON) -> Grant:
        """
        The one job that a claim gives.
        """
        (grant,) = await self.claims(**fields)
        return grant

    async def report(self, grant: Grant, verb: str, **fields: JSON) -> Answer:
        """
        A report on what was granted.
        """
        return await self.post(f"/api/worker/jobs/{grant.id}/{verb}", {"lease_token": grant.lease_token, **fields})

    async def complete(self, grant: Grant, result: JSON = None) -> JSON:
        """
        The job that the worker completed.
        """
        answer = await self.report(grant, "complete", result=result)
        assert answer.status == 200, answer.content
        return answer.job

    # Streams

    @asynccontextmanager
    async def stream(
        self, path: str = "/api/stream", *, headers: Mapping[str, str] | None = None, **params: JSON
    ) -> AsyncIterator[Frames]:
        """
        An open stream; it is closed with the block.
        """
        sent = self.headers | {"Accept": "text/event-stream"} | dict(headers or {})
        async with self._session.get(self._url + path, headers=sent, params=_params(params)) as response:
            assert response.status == 200, await response.read()
            try:
                yield Frames(response)
            finally:
                response.close()


def _params(params: Mapping[str, JSON]) -> list[tuple[str, str]]:
    """
    The query: a list stands for a parameter that repeats.
    """
    pairs = [(name, each) for name, value in params.items() for each in (value if isinstance(value, list) else [value])]
    return [(name, str(value)) for name, value in pairs]
