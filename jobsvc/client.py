"""
The Python client: everything that a front end or a trusted back end asks of the service, typed, over one session.

What lives here: the contract as a caller knows it. Requests that may be repeated without harm are repeated for it:
reads, and writes that carry an Idempotency-Key or change nothing the second time. `Client.watch` follows the stream
for as long as it is read, and goes on from where it was after any break.

What must never live here: an import of the service, or a rule about jobs. Read ``job.active``, never a list of states.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, cast

import aiohttp
import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from typing import Self, Unpack

JobState = Literal[
    "scheduled", "queued", "running", "retrying", "cancelling", "completed", "failed", "cancelled", "expired"
]

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_LONGEST_S: Final = 30.0
HEARTBEATS_MISSED: Final = 2.5
"""A stream that is silent for so many heartbeats is dead, whatever the connection says."""

_REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
_STREAM_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=None)
_PASSING: Final = frozenset({502, 503, 504})
"""Answers that say: not now. 429 is none: somebody asks too much, and it is theirs to ask less."""
_Answer = TypeVar("_Answer")


# --- What comes back -----------------------------------------------------------------------------------------------


class Progress(Struct, frozen=True):
    """How far a job is, as its worker said last."""

    percent: float | None = None
    message: str | None = None
    data: Any = None


class JobError(Struct, frozen=True):
    """Why a job failed."""

    code: str
    message: str = ""


class Job(Struct, frozen=True):
    """
    A job as it stood at ``version``. Fields that a newer service adds are ignored.

    ``omitted`` names what was too large to be shown in a list or frame; `Client.get` has it.
    """

    id: str
    kind: str
    state: JobState
    active: bool
    version: int
    owner: str | None = None
    position: int | None = None
    key: str | None = None
    url: str | None = None
    title: str | None = None
    input: Any = None
    metadata: Any = None
    priority: int = 0
    progress: Progress | None = None
    attempt: int = 0
    max_attempts: int = 3
    lost_leases: int = 0
    cancel_requested: bool = False
    result: Any = None
    late_result: Any = None
    error: JobError | None = None
    reason: str | None = None
    retry_of: str | None = None
    superseded_by: str | None = None
    followed_by: str | None = None
    follows: str | None = None
    created_at: str | None = None
    run_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    due_at: str | None = None
    deadline: str | None = None
    lease_expires_at: str | None = None
    worker: str | None = None
    omitted: tuple[str, ...] = ()


class Submitted(Struct, frozen=True):
    """The answer to a create: the job that does the work, and whether it was there before."""

    job: Job
    deduplicated: bool = False
    dedup_reason: str | None = None
    input_differs: bool = False
    cursor: str | None = None


class ActiveJobs(Struct, frozen=True):
    """The active jobs as of ``cursor``; a stream opened after that cursor continues them without a gap."""

    jobs: tuple[Job, ...]
    cursor: str
    next: str | None = None


class JobPage(Struct, frozen=True):
    """Jobs, newest first, ended ones included; ``next`` is the ``after`` of the next page."""

    jobs: tuple[Job, ...]
    next: str | None = None


class Event(Struct, frozen=True):
    """A fact from a job's history."""

    position: int
    job_id: str
    version: int
    type: str
    at: str
    actor: str | None = None
    request_id: str | None = None
    data: Any = None
    chain: str | None = None


class EventPage(Struct, frozen=True):
    """Events in order; ``next`` is the ``after`` of the next page."""

    events: tuple[Event, ...]
    next: Any = None


class Cleanup(Struct, frozen=True):
    """What a cleanup did: ``reason`` is ``already_ended``, ``expired`` or ``cancelled``."""

    success: bool
    removed: bool
    reason: str | None = None


class GuestSession(Struct, frozen=True):
    """A guest: its owner name and its token."""

    owner: str
    token: str
    expires_at: str


class _JobAnswer(Struct, frozen=True):
    job: Job


class _BatchAnswer(Struct, frozen=True):
    results: tuple[msgspec.Raw, ...]


class _Status(Struct, frozen=True):
    status: int = 200


# --- What can go wrong ---------------------------------------------------------------------------------------------


class ClientError(Exception):
    """The service did not do what was asked."""


class Unreachable(ClientError):
    """No answer came, or only that the service cannot answer now, for as long as the client was willing to repeat."""


class Problem(ClientError):
    """
    The service refused, and said why.

    Attributes:
        status: Of HTTP.
        code: Stable, for programs: ``not-found``, ``job-active``, ``lease-lost``, and so on.
        title: For people, the same for each code.
        detail: For people, about this refusal.
        request_id: To be named to an operator.
        retry_after_s: When it may be tried again, if the service said so.
        errors: Which fields of the body are wrong: ``[{pointer, message}]``.
        job: The job as it stands, where that is why it was refused.
        may_complete: True if a lost lease still allows a complete.
    """

    def __init__(self, status: int, body: Mapping[str, Any], *, retry_after_s: float | None = None) -> None:
        self.status = status
        self.code = str(body.get("code", "unknown"))
        self.title = str(body.get("title", "The service refused"))
        self.detail = str(body.get("detail") or "")
        self.request_id = body.get("request_id")
        self.retry_after_s = retry_after_s
        self.errors: Sequence[Mapping[str, str]] = body.get("errors") or ()
        self.job: Job | None = None if body.get("job") is None else msgspec.convert(body["job"], Job)
        self.may_complete = bool(body.get("may_complete"))
        super().__init__(f"{status} {self.code}: {self.detail or self.title}")


# --- What a job can be asked for -----------------------------------------------------------------------------------


class Dedup(TypedDict, total=False):
    """What to do when the same work is active, or completed. Left out: attach, and run again."""

    on_active: Literal["attach", "reject", "replace", "run_after"]
    on_completed: Literal["rerun", "reuse", "reject"]
    max_age_s: float


class JobRequest(TypedDict, total=False):
    """What a create may say besides the kind. Left out means the service's default. ``owner`` is for services only."""

    url: str
    key: str
    input: Any
    title: str
    metadata: Mapping[str, Any]
    priority: int
    run_at: str
    deadline_s: float
    start_within_s: float
    max_attempts: int
    dedup: Dedup
    owner: str


class KindedJobRequest(JobRequest):
    """One job of a batch."""

    kind: str


# --- What a watch tells --------------------------------------------------------------------------------------------


class Snapshot(Struct, frozen=True):
    """All active jobs as of ``cursor``: whatever was known before is to be forgotten."""

    jobs: tuple[Job, ...]
    cursor: str


class Change(Struct, frozen=True):
    """An event, and the job as it stood after it. ``cursor`` is where to go on after it."""

    type: str
    job: Job
    position: int
    version: int
    at: str
    cursor: str
    data: Any = None


class Ready(Struct, frozen=True):
    """Everything up to ``cursor`` has been told; what comes from here on is news. Comes again after each reconnect."""

    cursor: str


class Ended(Struct, frozen=True):
    """The job whose own stream this is has ended; nothing more will come."""

    job: Job


Told = Snapshot | Change | Ready | Ended


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame of the stream: its event, its id (empty for none) and its JSON."""

    event: str
    id: str
    data: bytes
    retry_ms: int | None


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
        answer = await self._call("POST", "/api/jobs/batch", answer=_BatchAnswer, body=body, headers=headers)
        return [_batch_result(result) for result in answer.results]

    async def get(self, job_id: str) -> Job:
        """The job as it stands, whole. Raises Problem: ``not-found``, ``access-denied``."""
        return (await self._call("GET", f"/api/jobs/{job_id}", answer=_JobAnswer)).job

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
                job = (await self._call("GET", f"/api/jobs/{job_id}", answer=_JobAnswer, query=query)).job
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
        return (await self._call("POST", f"/api/jobs/{job_id}/cancel", answer=_JobAnswer, body=body)).job

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
        place = _Place(cursor=after)
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
                refreshed, self._token = True, None if may_refresh else self._token
                place.failed(problem.retry_after_s)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                place.failed(None)
            if not place.over:
                await asyncio.sleep(place.pause_s())

    async def _connect(self, path: str, query: Sequence[tuple[str, str]], *, place: _Place) -> AsyncGenerator[Told]:
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
                raise await _problem(response)
            async with aclosing(_frames(response.content, place)) as frames:
                async for frame in frames:
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
                raise await _problem(response)
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


class Backoff:
    """Pauses that grow, with full jitter, so that many clients do not come back at once."""

    def __init__(self, first_s: float = BACKOFF_FIRST_S, longest_s: float = BACKOFF_LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._turns = 0

    def next_s(self, asked_s: float | None = None) -> float:
        """The next pause: *asked_s* if the service asked for one, else random below a bound that doubles each time."""
        bound_s = min(self._first_s * 2.0 ** min(self._turns, 30), self._longest_s)
        self._turns += 1
        return asked_s if asked_s is not None else random.uniform(0, bound_s)  # noqa: S311  # nothing secret

    def reset(self) -> None:
        """It works again: the next pause is a short one."""
        self._turns = 0


class _Place:
    """How far a watch is, and what it must know to go on. Pure: takes frames, tells what they mean."""

    def __init__(self, *, cursor: str | None) -> None:
        self.cursor = cursor
        self.over = False
        self.leaving = False
        self.silence_max_s = 60.0
        self._retry_s: float | None = None
        self._asked_s: float | None = None
        self._backoff = Backoff()
        self._parts: list[Job] = []
        self._versions: dict[str, int] | None = None

    def take(self, frame: _Frame) -> list[Told]:
        """What *frame* tells the reader; the place is after it."""
        if frame.id:
            self.cursor = frame.id
        return self._read(frame)

    def _read(self, frame: _Frame) -> list[Told]:
        match frame.event:
            case "hello":
                self._greeted(msgspec.json.decode(frame.data, type=_Hello), frame)
            case "snapshot":
                return self._snapshot(msgspec.json.decode(frame.data, type=_Part))
            case "job":
                return self._change(frame)
            case "ready":
                self._backoff.reset()
                return [Ready(cursor=frame.id or self.cursor or "")]
            case "hb":
                self._compare(msgspec.json.decode(frame.data, type=_Heartbeat))
            case "reset":
                self.cursor, self._versions, self._parts = None, None, []
            case "end":
                self.over = True
                return [Ended(job=msgspec.json.decode(frame.data, type=_JobAnswer).job)]
            case "bye":
                self.leaving = True
                self._asked_s = None if frame.retry_ms is None else frame.retry_ms / 1000
            case _:
                pass  # A newer service may tell more.
        return []

    def _greeted(self, hello: _Hello, frame: _Frame) -> None:
        self.leaving = False
        self._parts = []
        self.silence_max_s = HEARTBEATS_MISSED * hello.heartbeat_s
        self._retry_s = None if frame.retry_ms is None else frame.retry_ms / 1000

    def _snapshot(self, part: _Part) -> list[Told]:
        """Parts are put together: a cut in the middle leaves nothing half told."""
        self._parts.extend(part.jobs)
        if part.more:
            return []
        jobs, self._parts = tuple(self._parts), []
        self._versions = {job.id: job.version for job in jobs if job.active}
        return [Snapshot(jobs=jobs, cursor=part.cursor)]

    def _change(self, frame: _Frame) -> list[Told]:
        body = msgspec.json.decode(frame.data, type=_ChangeBody)
        if self._versions is not None:
            if body.job.active:
                self._versions[body.job.id] = body.version
            else:
                self._versions.pop(body.job.id, None)
        change = Change(
            type=body.type,
            job=body.job,
            position=body.position,
            version=body.version,
            at=body.at,
            cursor=frame.id,
            data=body.data,
        )
        return [change]

    def _compare(self, heartbeat: _Heartbeat) -> None:
        """Leave and ask for a snapshot if what was told is not what the service has."""
        if self._versions is not None and heartbeat.digest and heartbeat.digest != digest(self._versions):
            self.cursor, self._versions, self.leaving, self._asked_s = None, None, True, 0.0

    def failed(self, asked_s: float | None) -> None:
        """The connection could not be made, or broke."""
        self._asked_s = asked_s

    def pause_s(self) -> float:
        """How long to wait before the next connection."""
        asked_s, self._asked_s = self._asked_s, None
        if asked_s is None and self._retry_s is not None:
            asked_s, self._retry_s = random.uniform(0, self._retry_s), None  # noqa: S311  # nothing secret
        return self._backoff.next_s(asked_s)


def digest(versions: Mapping[str, int]) -> str:
    """The digest of active jobs, by id and version, that a heartbeat carries: 8 hexadecimal digits."""
    total = 0
    for job_id, version in versions.items():
        total ^= _fnv1a_32(f"{job_id}:{version}".encode())
    return f"{total:08x}"


def _fnv1a_32(content: bytes) -> int:
    value = 0x811C9DC5
    for byte in content:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


class _Hello(Struct, frozen=True):
    heartbeat_s: float = 15.0


class _Part(Struct, frozen=True):
    jobs: tuple[Job, ...]
    cursor: str
    more: bool = False


class _Heartbeat(Struct, frozen=True):
    digest: str = ""


class _ChangeBody(Struct, frozen=True):
    type: str
    position: int
    version: int
    at: str
    job: Job
    data: Any = None


async def _frames(content: aiohttp.StreamReader, place: _Place) -> AsyncGenerator[_Frame]:
    """
    The frames of a response, whole ones only.

    Raises:
        TimeoutError: Nothing came for too long; the connection is dead though nobody said so.
    """
    received = b""
    while True:
        async with asyncio.timeout(place.silence_max_s):
            chunk = await content.readany()
        if not chunk:
            return
        *blocks, received = (received + chunk).split(b"\n\n")
        for block in blocks:
            if (frame := _frame(block)) is not None:
                yield frame


def _frame(block: bytes) -> _Frame | None:
    """The frame that *block* writes out, None for a comment."""
    fields = {"event": b"", "id": b"", "data": b"", "retry": b""}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if (known := name.decode("utf-8", "replace")) in fields:
            fields[known] = value.removeprefix(b" ")
    if not fields["event"]:
        return None
    retry_ms = int(fields["retry"]) if fields["retry"].isdigit() else None
    return _Frame(fields["event"].decode(), fields["id"].decode(), fields["data"], retry_ms)


async def _problem(response: aiohttp.ClientResponse) -> Problem:
    """The refusal in *response*, whatever its body is: a proxy in between writes its own."""
    try:
        body = msgspec.json.decode(await response.read())
    except msgspec.DecodeError:
        body = {}
    after = response.headers.get("Retry-After", "")
    retry_after_s = float(after) if after.replace(".", "", 1).isdigit() else None
    return Problem(response.status, body if isinstance(body, dict) else {}, retry_after_s=retry_after_s)


def _batch_result(result: msgspec.Raw) -> Submitted | Problem:
    status = msgspec.json.decode(result, type=_Status).status
    if status >= 400:  # noqa: PLR2004
        return Problem(status, msgspec.json.decode(result))
    return msgspec.json.decode(result, type=Submitted)


def _without_none(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}
