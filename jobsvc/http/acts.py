"""
The acts: an operator's verbs that take long, done one of each at a time, each to its end whoever goes away meanwhile.

Whoever asks as NDJSON is told how far it is, a line at a time, and last what came of it; whoever asks as JSON waits.
What an act does is operate's business; which verb may be asked with which body is verbs.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobsvc.domain.errors import Corrupt, Draining, JobsvcError, Rejected, SlowDown, Unavailable
from jobsvc.http.call import respond
from jobsvc.http.problems import InternalFault, problem
from jobsvc.oneline import one_line
from jobsvc.resource import encode
from jobsvc.telemetry import log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.operate.aside import Progress

TOLD_EVERY_S: Final = 0.5
"""How often whoever waits is told how far an act is."""

_LINES: Final = "application/x-ndjson"


class Act:
    """One act under way, and how far it is: *done* of *of*."""

    def __init__(self, run: Callable[[Progress], Awaitable[Any]], verb: str) -> None:
        self.done = 0
        self.of = 0
        self.ended: asyncio.Task[Any] = asyncio.create_task(self._run(run), name=f"act {verb}")

    @property
    def result(self) -> Any:  # noqa: ANN401  # the verb's own answer
        """
        What came of it, now that it has ended.

        Raises:
            Draining: The service stopped first.
            InternalFault: What is stored contradicts itself; where, an operator may know. Whatever else the act met is
                raised too.
        """
        if self.ended.cancelled():
            raise Draining
        try:
            return self.ended.result()
        except Corrupt as error:
            raise InternalFault(error.message) from error

    async def _run(self, run: Callable[[Progress], Awaitable[Any]]) -> Any:  # noqa: ANN401  # the verb's own answer
        return await run(self._tell)

    def _tell(self, done: int, of: int) -> None:
        self.done, self.of = done, of


class Acts:
    """The acts of one service that are under way, by verb."""

    def __init__(self) -> None:
        self._under_way: dict[str, Act] = {}
        self._stopping = False

    def begin(self, verb: str, run: Callable[[Progress], Awaitable[Any]]) -> Act:
        """
        *run* is under way and goes on to its end, unless the service stops first.

        Raises:
            SlowDown: The same verb is under way already.
            Draining: The service stops.
        """
        if self._stopping:
            raise Draining
        if verb in self._under_way:
            message = f"{verb} is under way already; ask again when it has ended"
            raise SlowDown(message)
        act = self._under_way[verb] = Act(run, verb)
        act.ended.add_done_callback(lambda ended: self._end(verb, ended))
        return act

    def _end(self, verb: str, ended: asyncio.Task[Any]) -> None:
        del self._under_way[verb]
        fault = None if ended.cancelled() else ended.exception()
        if fault is not None and not isinstance(fault, (Rejected, Unavailable)):
            log_failure("act.failed", fault, act=verb)

    async def stop(self) -> None:
        """No act is under way, and none begins."""
        self._stopping = True
        ending = [act.ended for act in self._under_way.values()]
        for ended in ending:
            ended.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def answer(call: Call, verb: str, run: Callable[[Progress], Awaitable[Any]]) -> Response:
    """What *run* returns, as JSON, or as the last of the lines that say how far it is."""
    act = call.service.acts.begin(verb, run)
    if _LINES not in call.request.headers.get("Accept", ""):
        await asyncio.wait({act.ended})
        return respond(encode(act.result))
    return await _in_lines(call, act, verb)


async def _in_lines(call: Call, act: Act, verb: str) -> Response:
    """As lines. What fails before the first of them is a problem like any other."""
    response = web.StreamResponse(headers={"Content-Type": _LINES, "Cache-Control": "no-store, no-transform"})
    response.headers["X-Request-Id"] = call.request_id
    while not (await asyncio.wait({act.ended}, timeout=TOLD_EVERY_S))[0]:
        if not response.prepared:
            await response.prepare(call.request.aiohttp)
        await response.write(_line({"verb": verb, "done": act.done, "of": act.of}))
    if not response.prepared:
        result = act.result
        await response.prepare(call.request.aiohttp)
        await response.write(_line({"result": result}))
    else:
        await response.write(_line(_outcome(call, act)))
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response


def _outcome(call: Call, act: Act) -> dict[str, Any]:
    """What came of *act*, or the problem that it met."""
    try:
        return {"result": act.result}
    except (Rejected, Unavailable, InternalFault) as error:
        met: JobsvcError = error
    except Exception:  # noqa: BLE001  # the trace was written when the act ended
        met = InternalFault()
    return {"problem": problem(met, instance=call.request.path, request_id=call.request_id)}


def _line(value: object) -> bytes:
    return one_line(encode(value)) + b"\n"
