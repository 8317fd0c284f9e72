"""
The caller: everything that a front end or a trusted back end asks of the service, over one session.

Requests that may be repeated without harm are repeated: reads, and writes that carry an Idempotency-Key or change
nothing the second time. ``Client.watch`` follows the stream for as long as it is read, and goes on from where it was
after any break.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import aiohttp
import msgspec

from jobsvc.client.problems import Problem, Unreachable, read_problem
from jobsvc.client.records import (
    ActiveJobs,
    BatchAnswer,
    Cleanup,
    Dedup,
    Event,
    EventPage,
    GuestSession,
    Job,
    JobAnswer,
    JobPage,
    JobRequest,
    KindedJobRequest,
    Status,
    Submitted,
    Told,
)
from jobsvc.client.watching import Backoff, Place, frames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from typing import Self, Unpack

_REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
_STREAM_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=None)
_PASSING: Final = frozenset({502, 503, 504})
"""Answers that say: not now. 429 is none: somebody asks too much, and it is theirs to ask less."""
_Answer = TypeVar("_Answer")


class Client:
    """
    A connection to one service as one principal. Close it, or use it as an async context manager.

    Args:
        base_url: Of the service, for example ``http://127.0.0.1:8080``.
        token: A bearer token, or a function that gives one (plain or async), asked again when the service answers 401.
        session: To share connections with others; it is then not closed. None makes one, with a cookie jar of its own.
        patience_s: How long a repeatable request is repeated while the service does not answer. 0: never.
        owner: The owner for whom a service acts, sent with every request that takes one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Callable[[], str | Awaitable[str]] | None = None,
        session: aiohttp.ClientSession | None = None,
        patience_s: float = 30.0,
        owner: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.patience_s = patience_s
        self.owner = owner
        self._source = token
        self._token = token if isinstance(token, str) else None
        self._shared = session
        self._own: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Its connections are closed, unless the session is shared."""
        if self._own is not None:
            await self._own.close()
            self._own = None

    # --- Jobs ------------------------------------------------------------------------------------------------------

    async def guest(self) -> GuestSession:
        """A guest session, which this client uses from here on; the same guest again if it is one already."""
        session = await self._call("POST", "/api/sessions/guest", answer=GuestSession)
        self._source = self._token = session.token
        return session

    async def create_or_attach(
        self,
        kind: str,
        *,
        idempotency_key: str | None = None,
        wait_s: float | None = None,
        **request: Unpack[JobRequest],
    ) -> Submitted:
        """
        The job that does this work: a new one, or the one that was there.

        Args:
            kind: Of the job.
            idempotency_key: Made up if not given, so that a lost answer never makes a second job.
            wait_s: Hold the answer until the job has ended, at most so long (≤ 60).
            **request: The rest.

        Raises:
            Problem: Refused: ``duplicate-job`` if dedup says reject, ``invalid``, ``too-many-active``, and so on.
            Unreachable: It may or may not have been created; asking again with the same key is safe.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        if wait_s is not None:
            headers["Prefer"] = f"wait={wait_s:g}"
        body = self._owned({"kind": kind, **request})
        return await self._call("POST", "/api/jobs", answer=Submitted, body=body, headers=headers)

    async def create(self, kind: str, **request: Unpack[JobRequest]) -> Job:
        """
        A new job; never one that was there.

        Raises:
            Problem: ``duplicate-job``, with the job, if the same work is active.
        """
        dedup = cast("Dedup", {**request.get("dedup", {}), "on_active": "reject"})
        request["dedup"] = dedup
        return (await self.create_or_attach(kind, **request)).job

    async def create_batch(self, requests: Sequence[KindedJobRequest]) -> list[Submitted | Problem]:
        """What became of each of up to 500 requests, in order; one that is refused does not touch the others."""
        body = {"jobs": [self._owned(dict(request)) for request in requests]}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer = await self._call("POST", "/api/jobs/batch", answer=BatchAnswer, body=body, headers=headers)
        return [_batch_result(result) for result in answer.results]

    async def get(self, job_id: str) -> Job:
        """The job as it stands, whole. Raises Problem: ``not-found``, ``access-denied``."""
        return (await self._call("GET", f"/api/jobs/{job_id}", answer=JobAnswer)).job

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """
        The job once it has ended.

        Raises:
            TimeoutError: It was still active after *timeout_s*; None waits for ever.
        """
        async with asyncio.timeout(timeout_s):
            job = await self.get(job_id)
            while job.active:
                # Held by the service until the version is newer: no polling, and nothing missed between two requests.
                query = {"wait_s": "30", "since": str(job.version)}
                job = (await self._call("GET", f"/api/jobs/{job_id}", answer=JobAnswer, query=query)).job
        return job

    async def active(self, *, url: str | None = None, key: str | None = None, kind: str | None = None) -> ActiveJobs:
        """The active jobs that the caller may see, or those of one url, key or kind, with the cursor they stand at."""
        query = self._owned({"url": url, "key": key, "kind": kind})
        return await self._call("GET", "/api/jobs/active", answer=ActiveJobs, query=query)

    async def jobs(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        key: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> JobPage:
        """One page of jobs, newest first, ended ones included."""
        query = self._owned({"state": state, "kind": kind, "key": key, "limit": limit, "after": after})
        return await self._call("GET", "/api/jobs", answer=JobPage, query=query)

    async def cancel(self, job_id: str, *, force: bool = False, reason: str | None = None) -> Job:
        """The job: cancelled, ended before, or ``cancelling`` until its worker lets go; with *force* ended for sure."""
        body = _without_none({"force": force, "reason": reason})
        return (await self._call("POST", f"/api/jobs/{job_id}/cancel", answer=JobAnswer, body=body)).job

    async def retry(self, job_id: str) -> Submitted:
        """A new job that asks for the same as the ended one. Raises Problem: ``job-active`` while it is active."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return await self._call("POST", f"/api/jobs/{job_id}/retry", answer=Submitted, body={}, headers=headers)

    async def cleanup(self, job_id: str, *, force: bool = False) -> Cleanup:
        """
        The job is off the active list. Harmless to repeat.

        Raises:
            Problem: ``job-active`` if it has a live lease or waits, and *force* was not given.
        """
        return await self._call("POST", f"/api/jobs/cleanup/{job_id}", answer=Cleanup, body={"force": force})

    async def history(self, job_id: str) -> AsyncGenerator[Event]:
        """Everything that happened to the job so far, in order, fetched page by page."""
        after: Any = None
        while True:
            query = {"after": after}
            page = await self._call("GET", f"/api/jobs/{job_id}/events", answer=EventPage, query=query)
            for event in page.events:
                yield event
            after = page.next
            if after is None or not page.events:
                return

    # --- The stream ------------------------------------------------------------------------------------------------

    async def watch(
        self, *, after: str | None = None, jobs: Sequence[str] = (), kind: str | None = None
    ) -> AsyncGenerator[Told]:
        """
        Everything that happens to the jobs the caller may see, from *after* on, for as long as it is read.

        Without a cursor it begins with a `Snapshot`. Breaks, restarts and silence are not seen: it reconnects, with
        jittered pauses or those that the service asks for, and goes on where it was; nothing is told twice. If the
        service no longer knows the place, or the jobs told do not agree with its digest, a `Snapshot` comes again.

        Raises:
            Problem: The caller may not watch (401 even with a fresh token, 403, 404).
        """
        query = [("job", job_id) for job_id in jobs] + ([("kind", kind)] if kind else [])
        async with aclosing(self._follow("/api/stream", query, after=after)) as told:
            async for each in told:
                yield each

    async def watch_job(self, job_id: str, *, after: str | None = None) -> AsyncGenerator[Told]:
        """As `watch`, for one job whatever its state; it ends with the job, with `Ended`."""
        async with aclosing(self._follow(f"/api/jobs/{job_id}/events", [], after=after)) as told:
            async for each in told:
                yield each

    async def _follow(self, path: str, query: Sequence[tuple[str, str]], *, after: str | None) -> AsyncGenerator[Told]:
        """One connection after the other, until the stream is over."""
        place = Place(cursor=after)
        refreshed = False
        while not place.over:
            try:
                async with aclosing(self._connect(path, query, place=place)) as told:
                    async for each in told:
                        refreshed = False
                        yield each
            except Problem as problem:
                may_refresh = problem.status == 401 and callable(self._source) and not refreshed  # noqa: PLR2004
                if not may_refresh and problem.status != 429 and problem.status < 500:  # noqa: PLR2004
                    raise
                if may_refresh:
                    refreshed, self._token = True, None
                place.failed(problem.retry_after_s)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                place.failed(None)
            if not place.over:
                await asyncio.sleep(place.pause_s())

    async def _connect(self, path: str, query: Sequence[tuple[str, str]], *, place: Place) -> AsyncGenerator[Told]:
        """What one connection tells, until it breaks, falls silent or says goodbye."""
        headers = {"Accept": "text/event-stream", **await self._authorization()}
        if place.cursor is not None:
            headers["Last-Event-ID"] = place.cursor
        url = f"{self.base_url}{path}"
        async with self._session().get(url, params=query, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if response.status == 204:  # noqa: PLR2004  # the one answer that means: it is over, do not come again
                place.over = True
                return
            if response.status != 200:  # noqa: PLR2004
                raise await read_problem(response)
            async with aclosing(frames(response.content, place)) as told:
                async for frame in told:
                    for each in place.take(frame):
                        yield each
                    if place.leaving or place.over:
                        return

    # --- Requests --------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        repeat: bool = False,
    ) -> Any:  # noqa: ANN401  # any JSON
        """
        The answer to a request that this class has no method for, as parsed JSON; None where there is no content.

        Args:
            method: Of HTTP.
            path: From ``/api`` on.
            body: Sent as JSON.
            query: Without those that are None.
            repeat: It does no harm to send it again.
        """
        return await self._call(method, path, answer=object, body=body, query=query, repeat=repeat)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        answer: type[_Answer],
        body: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = True,
    ) -> _Answer:
        """Repeat until there is an answer, or patience ends."""
        content = None if body is None else msgspec.json.encode(body)
        backoff = Backoff()
        ends_at = time.monotonic() + (self.patience_s if repeat else 0)
        refreshed = False
        while True:
            try:
                received = await self._send(method, path, content=content, query=query, headers=headers)
                return cast("_Answer", None) if received is None else msgspec.json.decode(received, type=answer)
            except Problem as problem:
                if problem.status == 401 and callable(self._source) and not refreshed:  # noqa: PLR2004
                    refreshed, self._token = True, None
                    continue
                pause_s = backoff.next_s(problem.retry_after_s)
                if problem.status not in _PASSING or time.monotonic() + pause_s > ends_at:
                    raise
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                pause_s = backoff.next_s(None)
                if time.monotonic() + pause_s > ends_at:
                    raise Unreachable(f"{method} {path}: no answer: {type(error).__name__} {error}") from error
            await asyncio.sleep(pause_s)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
    ) -> bytes | None:
        """One request and its answer, None for no content."""
        sent = {"Accept": "application/json", **await self._authorization(), **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        params = {name: str(value) for name, value in _without_none(query or {}).items()}
        url = f"{self.base_url}{path}"
        async with self._session().request(
            method, url, params=params, data=content, headers=sent, timeout=_REQUEST_TIMEOUT
        ) as response:
            if response.status >= 400:  # noqa: PLR2004
                raise await read_problem(response)
            received = await response.read()
            return received or None

    async def _authorization(self) -> dict[str, str]:
        if self._token is None and callable(self._source):
            given = self._source()
            self._token = given if isinstance(given, str) else await given
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    def _session(self) -> aiohttp.ClientSession:
        if self._shared is not None:
            return self._shared
        if self._own is None:
            # The token is sent as a header; a cookie beside it could only be another principal's.
            self._own = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._own

    def _owned(self, said: dict[str, Any]) -> dict[str, Any]:
        return said if self.owner is None else {"owner": self.owner, **said}


def _batch_result(result: msgspec.Raw) -> Submitted | Problem:
    status = msgspec.json.decode(result, type=Status).status
    if status >= 400:  # noqa: PLR2004
        return Problem(status, msgspec.json.decode(result))
    return msgspec.json.decode(result, type=Submitted)


def _without_none(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}
