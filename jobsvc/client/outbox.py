"""
The outbox: a worker's reports on their way to the service, in order, in batches, each until there is an answer.

The service answers the same report twice with the same words, so whatever had no answer is sent again. What must never
live here: what a report says, or what its answer means for the work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from jobsvc.client.problems import ClientError, Problem
from jobsvc.client.watching import Backoff

if TYPE_CHECKING:
    from jobsvc.client.caller import Client

REPORTS_PER_REQUEST_MAX: Final = 500

PASSING: Final = frozenset({429, 500, 502, 503, 504})
"""Answers that say: not now."""
REFUSED: Final = frozenset({413, 422})
"""Answers that say: never, as it is."""
_OVERTAKEN: Final = frozenset({"heartbeat", "progress"})
"""Reports of which only the newest counts."""

ReportAnswer = dict[str, Any]
"""``{status, …}``: what the service said to one report."""


class Outbox:
    """
    Reports on their way, in order: one request at a time, each with all that has gathered, the same one until answered.

    Bounded by what is in hand: of a job at most one progress or heartbeat waits, however long the service is away, and
    one end.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: list[tuple[dict[str, object], asyncio.Future[ReportAnswer]]] = []
        self._on_their_way = 0
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, report: dict[str, object]) -> asyncio.Future[ReportAnswer]:
        """The report goes out; the future is its result: ``{status, …}``."""
        answered: asyncio.Future[ReportAnswer] = asyncio.get_running_loop().create_future()
        if self._closed:
            answered.cancel()
            return answered
        if (place := self._overtaken_by(report)) is not None:
            waiting, answered = self._waiting[place]
            # Progress renews the lease as well, so it also stands for a heartbeat that comes after it.
            self._waiting[place] = (waiting if report["report"] == "heartbeat" else report, answered)
            return answered
        self._waiting.append((report, answered))
        self._filled.set()
        return answered

    def _overtaken_by(self, report: dict[str, object]) -> int | None:
        """Where a heartbeat or progress of the same lease waits that *report* makes needless, not yet on its way."""
        if report["report"] not in _OVERTAKEN:
            return None
        for place in range(self._on_their_way, len(self._waiting)):
            waiting, _ = self._waiting[place]
            if waiting["report"] in _OVERTAKEN and waiting["lease_token"] == report["lease_token"]:
                return place
        return None

    def close(self) -> None:
        """Nobody waits any more for what was not answered."""
        self._closed = True
        for _, answered in self._waiting:
            answered.cancel()

    async def run(self) -> None:
        """
        Send for ever.

        Raises:
            Problem: The service does not take this worker any more.
        """
        try:
            await self._send_for_ever()
        finally:
            self.close()

    async def _send_for_ever(self) -> None:
        while True:
            await self._filled.wait()
            batch = self._waiting[:REPORTS_PER_REQUEST_MAX]
            self._on_their_way = len(batch)
            results = await self._send([report for report, _ in batch])
            del self._waiting[: len(batch)]
            self._on_their_way = 0
            for (_, answered), result in zip(batch, results, strict=True):
                if not answered.done():
                    answered.set_result(result)
            if not self._waiting:
                self._filled.clear()

    async def _send(self, reports: list[dict[str, object]]) -> list[ReportAnswer]:
        """The results, in order; the same reports again until all are answered for good."""
        backoff = Backoff(longest_s=5.0)
        results: list[ReportAnswer | None] = [None] * len(reports)
        while None in results:
            places = [place for place, result in enumerate(results) if result is None]
            asked_s: float | None = None
            try:
                answer = await self._post([reports[place] for place in places])
                for place, result in zip(places, answer, strict=True):
                    results[place] = None if result.get("status") in PASSING else result
            except Problem as problem:
                if problem.status not in PASSING:
                    raise
                asked_s = problem.retry_after_s
            except ClientError:
                pass  # The answer was lost, or there was none; the same reports get the same answers.
            if None in results:
                await asyncio.sleep(backoff.next_s(asked_s))
        return cast("list[ReportAnswer]", results)

    async def _post(self, reports: list[dict[str, object]]) -> list[ReportAnswer]:
        """The results of *reports*; what is too large for one request goes in two, and alone is refused."""
        try:
            answer = await self._client.call("POST", "/api/worker/reports", body={"reports": reports})
            return cast("list[ReportAnswer]", answer["results"])
        except Problem as problem:
            if problem.status not in REFUSED:
                raise
            if len(reports) == 1:
                return [{"status": problem.status, "detail": problem.detail}]
        half = len(reports) // 2
        return [*await self._post(reports[:half]), *await self._post(reports[half:])]
