"""
The worker SDK: functions that do jobs in, jobs done out.

What lives here: claiming, heartbeats, progress, cancellation, reports and a graceful stop, so that a handler is only
the work itself. All reports of a worker go out through one outbox (jobsvc/client/outbox.py).

What must never live here: an import of the service, or a decision that is the service's. A lease that the service calls
lost is lost, whatever the worker thinks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from jobsvc.client import Backoff, Client, ClientError, Job, Problem
from jobsvc.client.outbox import PASSING, REFUSED, Outbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobsvc.client.outbox import ReportAnswer

LEASE_S: Final = 30.0
CLAIM_WAIT_S: Final = 25.0
GIVE_BACK_S: Final = 5.0
"""How long a stop may take over a claim that was under way; after that its leases lapse."""
BEATS_PER_LEASE: Final = 3
"""Two heartbeats in a row may be lost and the lease still lives."""

MESSAGE_CHARACTERS_MAX: Final = 1_000
CODE_CHARACTERS_MAX: Final = 200


class JobFailed(Exception):
    """
    Raise it from a handler: this attempt failed, and here is why.

    Args:
        message: For people, ≤ 1,000 characters.
        code: For programs.
        retryable: False if another attempt cannot help.
        retry_after_s: When the next attempt should be made at the earliest; None leaves it to the service.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "failed",
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class JobCancelled(Exception):
    """The job is no longer wanted, or no longer ours: stop working on it. Let it pass through."""


class _Grant(Struct, frozen=True):
    job: Job
    lease_token: str
    fence: int = 0


class _Grants(Struct, frozen=True):
    jobs: tuple[_Grant, ...] = ()


class _Renewal(Struct, frozen=True):
    cancel_requested: bool = False


class Work:
    """
    A job in hand, as its handler sees it. `progress` and the rest may be called from the loop and from any thread.

    Attributes:
        job: As it stood when claimed: ``url`` and ``input`` say what to do, ``attempt`` which attempt it is.
    """

    def __init__(self, grant: _Grant) -> None:
        self.job = grant.job
        self._lease_token = grant.lease_token
        self._progress: dict[str, Any] | None = None
        self._reported_at = time.monotonic()
        self._wanted = True
        self._ours = True
        self._running: asyncio.Task[Any] | None = None

    def progress(
        self, percent: float | None = None, message: str | None = None, *, progress_data: object = None
    ) -> None:
        """
        Say how far it is. Cheap: the latest one is sent now and then, and those between are dropped.

        Raises:
            JobCancelled: The job is no longer wanted, so that a handler that reports progress also stops in time.
        """
        self.check()
        said = {"percent": percent, "message": message, "data": progress_data}
        self._progress = {name: value for name, value in said.items() if value is not None}

    @property
    def cancel_requested(self) -> bool:
        """True once somebody has asked for the job to be cancelled, or the lease was lost."""
        return not (self._wanted and self._ours)

    def check(self) -> None:
        """
        Nothing happens while the job is wanted.

        Raises:
            JobCancelled: It is not.
        """
        if self.cancel_requested:
            raise JobCancelled

    def _stop(self, *, lost: bool) -> None:
        """The handler is told to stop: an async one is cancelled where it waits, a plain one sees it when it looks."""
        first = not self.cancel_requested
        self._wanted, self._ours = False, self._ours and not lost
        if first and self._running is not None:
            self._running.cancel()

    def _report(self, **said: object) -> dict[str, object]:
        self._reported_at = time.monotonic()
        return {"job_id": self.job.id, "lease_token": self._lease_token, **said}

    def _take_progress(self) -> dict[str, object] | None:
        """The progress to send, once."""
        said, self._progress = self._progress, None
        return None if said is None else self._report(report="progress", **said)


class Worker:
    """
    Claims jobs of the kinds that it has handlers for, and runs them, up to *concurrency* at once.

    Args:
        base_url: Of the service.
        token: A worker's bearer token, or a function that gives one.
        name: Shown as the job's ``worker``. Made up if not given.
        concurrency: Jobs in hand at once; plain handlers get so many threads.
        lease_s: How soon the service may give a job to another worker when this one falls silent. 1 to 3,600.
        progress_s: Progress of a job is sent this often at most.
        grace_s: How long `stop` lets handlers finish before their jobs are released.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Callable[[], str | Awaitable[str]],
        name: str | None = None,
        concurrency: int = 4,
        lease_s: float = LEASE_S,
        progress_s: float = 0.5,
        grace_s: float = 10.0,
    ) -> None:
        self.name = name or f"worker-{uuid.uuid4().hex[:8]}"
        self.concurrency = concurrency
        self.lease_s = lease_s
        self.progress_s = progress_s
        self.grace_s = grace_s
        self._client = Client(base_url, token=token, patience_s=0)
        self._outbox = Outbox(self._client)
        self._handlers: dict[str, Callable[[Work], Any]] = {}
        self._held: dict[str, Work] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._asking: str | None = None
        self._threads = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix=self.name)

    def handles(self, kind: str) -> Callable[[Callable[[Work], Any]], Callable[[Work], Any]]:
        """
        A decorator: the function does jobs of *kind*.

        It takes a `Work`. An async function is cancelled when its job is; a plain one runs in a thread and sees it at
        its next `Work.progress` or `Work.check`. What it returns, as JSON, is the result. `JobFailed` fails the
        attempt as it says; any other exception fails it as retryable.
        """

        def register(handler: Callable[[Work], Any]) -> Callable[[Work], Any]:
            self._handlers[kind] = handler
            return handler

        return register

    @property
    def held(self) -> tuple[Work, ...]:
        """The jobs in hand."""
        return tuple(self._held.values())

    async def run(self) -> None:
        """
        Work until `stop`, then finish or release what is in hand.

        Raises:
            Problem: The service does not take this worker: its token, its kinds, its lease.
        """
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._outbox.run())
                beats = group.create_task(self._beat())
                try:
                    await self._claim_until_stopped()
                finally:
                    await self._let_go()
                    beats.cancel()
                    sender.cancel()
        except* Problem as problems:
            raise problems.exceptions[0] from None
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
            await self._client.close()

    def stop(self) -> None:
        """No more jobs are claimed, and `run` returns once those in hand have ended or were released."""
        self._stopping.set()

    def main(self) -> None:
        """Work until SIGTERM or Ctrl-C: the whole main function of a worker program."""
        asyncio.run(self._run_with_signals())

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self.run()

    # --- Claiming --------------------------------------------------------------------------------------------------

    async def _claim_until_stopped(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        claiming = asyncio.create_task(self._claim_for_ever())
        try:
            await asyncio.wait({stopping, claiming}, return_when=asyncio.FIRST_COMPLETED)
            if claiming.done():
                claiming.result()
        finally:
            await _cancelled(claiming)
            await _cancelled(stopping)
            await self._give_back_claimed()

    async def _give_back_claimed(self) -> None:
        """
        Nothing stays claimed that a claim under way was given at the last moment.

        The same claim again gives the same jobs; left alone, their leases would lapse and count as losses.
        """
        if self._asking is None:
            return
        with contextlib.suppress(ClientError, TimeoutError):
            await asyncio.wait_for(self._release_claimed(self._asking), GIVE_BACK_S)

    async def _release_claimed(self, claim_id: str) -> None:
        for grant in await self._claim(claim_id, wait_s=0):
            if grant.lease_token not in self._held:
                body = {"lease_token": grant.lease_token}
                await self._client.call("POST", f"/api/worker/jobs/{grant.job.id}/release", body=body, repeat=True)

    async def _claim_for_ever(self) -> None:
        backoff = Backoff()
        claim_id = uuid.uuid4().hex
        while True:
            await self._room()
            try:
                self._asking = claim_id
                for grant in await self._claim(claim_id, wait_s=CLAIM_WAIT_S):
                    self._begin(grant)
                self._asking = None
                backoff.reset()
                claim_id = uuid.uuid4().hex
            except ClientError as error:
                # The same claim_id again: if the answer was only lost, the same jobs come.
                if isinstance(error, Problem) and error.status not in PASSING:
                    raise
                await asyncio.sleep(backoff.next_s(getattr(error, "retry_after_s", None)))

    async def _claim(self, claim_id: str, *, wait_s: float) -> tuple[_Grant, ...]:
        body = {
            "kinds": sorted(self._handlers),
            "max": max(1, self.concurrency - len(self._held)),
            "wait_s": wait_s,
            "lease_s": self.lease_s,
            "worker": self.name,
            "claim_id": claim_id,
        }
        answer = await self._client.call("POST", "/api/worker/claim", body=body)
        return () if answer is None else msgspec.convert(answer, _Grants).jobs

    async def _room(self) -> None:
        """There is room for another job."""
        while len(self._held) >= self.concurrency:
            self._changed.clear()
            await self._changed.wait()

    def _begin(self, grant: _Grant) -> None:
        if grant.lease_token in self._held:
            return  # The same claim, answered twice.
        work = Work(grant)
        self._held[grant.lease_token] = work
        doing = asyncio.create_task(self._do(work), name=f"job {grant.job.id}")
        self._running.add(doing)
        doing.add_done_callback(self._running.discard)

    # --- Working ---------------------------------------------------------------------------------------------------

    async def _do(self, work: Work) -> None:
        """The job is done, failed, released or lost, and reported so."""
        try:
            report = await self._outcome(work)
            if report is not None:
                await self._send_end(work, report)
        finally:
            del self._held[work._lease_token]  # noqa: SLF001
            self._changed.set()

    async def _outcome(self, work: Work) -> dict[str, object] | None:
        """The report that ends this attempt, None if the job is not ours any more."""
        work._running = asyncio.create_task(self._call(work))  # noqa: SLF001  # Work is the other half of this class
        try:
            result = await work._running  # noqa: SLF001
            return {"report": "complete", "result": msgspec.Raw(msgspec.json.encode(result))}
        except (JobCancelled, asyncio.CancelledError):
            # Cancelled on request, or because the worker stops: either way a release is the honest report.
            return {"report": "release"} if work._ours else None  # noqa: SLF001
        except JobFailed as failed:
            return _failure(failed.code, str(failed), retryable=failed.retryable, retry_after_s=failed.retry_after_s)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises, its job must be told
            return _failure("handler_error", f"{type(error).__name__}: {error}")

    async def _call(self, work: Work) -> object:
        handler = self._handlers[work.job.kind]
        if inspect.iscoroutinefunction(handler):
            return await handler(work)
        loop = asyncio.get_running_loop()
        # A thread cannot be interrupted: it is waited for even when the job is cancelled, and sees so when it looks.
        in_thread = loop.run_in_executor(self._threads, functools.partial(handler, work))
        return await _through_cancellation(in_thread)

    async def _send_end(self, work: Work, report: dict[str, object]) -> None:
        """The last progress, then the end, in this order; a result that the service cannot take is a failure."""
        if (progress := work._take_progress()) is not None:  # noqa: SLF001
            self._outbox.put(progress)
        answer = await self._outbox.put(work._report(**report))  # noqa: SLF001
        if report["report"] == "complete" and answer.get("status") in REFUSED:
            refusal = _failure(
                "result_refused", str(answer.get("detail") or "the result is too large"), retryable=False
            )
            await self._outbox.put(work._report(**refusal))  # noqa: SLF001

    async def _let_go(self) -> None:
        """
        Nothing is in hand: what did not finish within the grace was released, if the service could be told.

        A plain handler that does not look is left to its thread.
        """
        await self._wait_for_running()
        for work in self.held:
            work._stop(lost=False)  # noqa: SLF001
        await self._wait_for_running()
        for doing in self._running:
            doing.cancel()
        await self._wait_for_running()
        self._outbox.close()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _wait_for_running(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self.grace_s)

    # --- Heartbeats ------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Every job in hand is reported on in time, by its progress or else by a heartbeat."""
        beat_s = self.lease_s / BEATS_PER_LEASE
        while True:
            await asyncio.sleep(min(self.progress_s, beat_s / 2))
            for work in self.held:
                report = work._take_progress()  # noqa: SLF001
                if report is None and time.monotonic() - work._reported_at >= beat_s:  # noqa: SLF001
                    report = work._report(report="heartbeat")  # noqa: SLF001
                if report is not None:
                    self._outbox.put(report).add_done_callback(functools.partial(_renewed, work))


def _renewed(work: Work, answered: asyncio.Future[ReportAnswer]) -> None:
    """The handler hears what the service said to a heartbeat or progress."""
    if answered.cancelled():
        return
    match answered.result():
        case {"status": 200, **said}:
            if msgspec.convert(said, _Renewal).cancel_requested:
                work._stop(lost=False)  # noqa: SLF001
        case {"status": 403 | 404 | 409}:
            work._stop(lost=True)  # noqa: SLF001
        case _:
            pass  # A report that was refused for its content says nothing about the lease.


def _failure(
    code: str, message: str, *, retryable: bool = True, retry_after_s: float | None = None
) -> dict[str, object]:
    error = {"code": code[:CODE_CHARACTERS_MAX], "message": message[:MESSAGE_CHARACTERS_MAX]}
    report: dict[str, object] = {"report": "fail", "error": error, "retryable": retryable}
    return report if retry_after_s is None else {**report, "retry_after_s": retry_after_s}


async def _cancelled(running: asyncio.Task[Any]) -> None:
    """It has stopped."""
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(running, return_exceptions=True)


async def _through_cancellation(in_thread: asyncio.Future[object]) -> object:
    """The thread's outcome, waited for through one cancellation; a second one leaves the thread to itself."""
    try:
        return await asyncio.shield(in_thread)
    except asyncio.CancelledError:
        await asyncio.wait({in_thread})
        return in_thread.result()
