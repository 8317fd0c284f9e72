"""
How the open streams stand, for operators and viewers: each with its transport, state and lag, and the sums of all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from heapq import nsmallest
from typing import TYPE_CHECKING, Final

from jobsvc.http.call import respond
from jobsvc.http.shapes import OpenStream, StreamsAnswer
from jobsvc.resource import encode

if TYPE_CHECKING:
    from jobsvc.http.call import Call
    from jobsvc.http.connection import Connection
    from jobsvc.http.reply import Response
    from jobsvc.http.service import Service

_LISTED_MAX: Final = 1_000
WALKED_AT_ONCE: Final = 1_000
"""How many streams are looked at before others get a turn: a millisecond, at most."""


async def streams(call: Call) -> Response:
    """``GET /api/streams``: how the open streams stand."""
    limit = call.whole_number("limit", default=100, least=0, most=_LISTED_MAX)
    return respond(encode(await standings(call.service, limit=limit)))


async def standings(service: Service, *, limit: int) -> StreamsAnswer:
    """How the streams of *service* stand, and the *limit* furthest behind. Cost: as ``_counted``."""
    kinds, furthest = await _counted(service, limit=limit)
    by_transport, by_state, metrics = Counter[str](), Counter[str](), service.metrics
    for (transport, state), count in kinds.items():
        by_transport[transport] += count
        by_state[state] += count
    return StreamsAnswer(
        open=kinds.total(),
        by_transport=dict(by_transport),
        by_state=dict(by_state),
        lag_max=service.streams.lag_max,
        catch_ups=service.streams.pages,
        resets=metrics.tally(metrics.resets),
        byes=metrics.tally(metrics.byes),
        cuts=metrics.tally(metrics.stalls)[""],
        bytes=service.streams.written.bytes,
        streams=[_standing(one, service) for one in furthest],
    )


async def observe(service: Service) -> None:
    """The metrics of *service* say how its streams stand. Cost: as ``_counted``."""
    kinds, _ = await _counted(service, limit=0)
    metrics = service.metrics
    metrics.catch_ups.inc(service.streams.pages - metrics.tally(metrics.catch_ups)[""])
    metrics.stream_bytes.inc(service.streams.written.bytes - metrics.tally(metrics.stream_bytes)[""])
    metrics.stream_lag.set(service.streams.lag_max)
    metrics.streams_by_state.clear()
    for (transport, state), count in kinds.items():
        metrics.streams_by_state.labels(transport, state).set(count)


async def _counted(service: Service, *, limit: int) -> tuple[Counter[tuple[str, str]], list[Connection]]:
    """
    How many of the streams that were open have which transport and state, and the *limit* furthest behind of them.

    Cost: a walk over them, about 1 µs each; others get a turn after every 1,000.
    """
    connections, kinds, furthest = service.streams.connections, Counter[tuple[str, str]](), list["Connection"]()
    for first in range(0, len(connections), WALKED_AT_ONCE):
        if first:
            await asyncio.sleep(0)
        some = connections[first : first + WALKED_AT_ONCE]
        kinds.update((one.channel.form.transport, one.standing) for one in some)
        furthest = nsmallest(limit, [*furthest, *some], key=lambda one: one.place)
    return kinds, furthest


def _standing(one: Connection, service: Service) -> OpenStream:
    return OpenStream(
        principal=one.bearer.principal.actor,
        transport=one.channel.form.transport,
        state=one.standing,
        position=one.place,
        lag=service.feed.position - one.place,
        buffered_bytes=one.buffered,
        age_s=round(one.age_s, 3),
    )
