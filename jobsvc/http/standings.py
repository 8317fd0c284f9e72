"""
How the open streams stand, for operators and viewers: each with its transport, state and lag, and the sums of all.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from jobsvc.http.call import respond
from jobsvc.http.shapes import OpenStream, StreamsAnswer
from jobsvc.resource import encode

if TYPE_CHECKING:
    from aiohttp import web

    from jobsvc.http.call import Call
    from jobsvc.http.connection import Connection
    from jobsvc.http.service import Service

_LISTED_MAX: Final = 1_000


async def streams(call: Call) -> web.Response:
    """``GET /api/streams``: how the open streams stand."""
    limit = call.whole_number("limit", default=100, least=0, most=_LISTED_MAX)
    return respond(encode(standings(call.service, limit=limit)))


def standings(service: Service, *, limit: int) -> StreamsAnswer:
    """How the streams of *service* stand in this turn. Cost: a walk over them, about 1 µs each."""
    connections, metrics = service.streams.connections, service.metrics
    furthest = sorted(connections, key=lambda one: one.place)[:limit]
    return StreamsAnswer(
        open=len(connections),
        by_transport=dict(Counter(one.channel.form.transport for one in connections)),
        by_state=dict(Counter(one.standing for one in connections)),
        lag_max=service.streams.lag_max,
        catch_ups=service.streams.pages,
        resets=metrics.tally(metrics.resets),
        byes=metrics.tally(metrics.byes),
        cuts=metrics.tally(metrics.stalls)[""],
        bytes=service.streams.written.bytes,
        streams=[_standing(one, service) for one in furthest],
    )


def observe(service: Service) -> None:
    """The metrics of *service* say how its streams stand in this turn."""
    metrics, told = service.metrics, standings(service, limit=0)
    metrics.catch_ups.inc(told.catch_ups - metrics.tally(metrics.catch_ups)[""])
    metrics.stream_bytes.inc(told.bytes - metrics.tally(metrics.stream_bytes)[""])
    metrics.stream_lag.set(told.lag_max)
    metrics.streams_by_state.clear()
    for (transport, state), count in Counter(
        (one.channel.form.transport, one.standing) for one in service.streams.connections
    ).items():
        metrics.streams_by_state.labels(transport, state).set(count)


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
