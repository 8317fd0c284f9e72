"""
The entries of the stream, and the two forms of its frames as any route may answer them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import bodies, frames, samples, shapes
from jobsvc.http import entry as e
from jobsvc.http.bodies import SCHEMAS
from jobsvc.http.entry import Entry, Parameter, Reply
from jobsvc.resource import Id

if TYPE_CHECKING:
    from collections.abc import Mapping

_FRAMES: Final = {"$ref": SCHEMAS + "StreamFrame"}
STREAMED: Final = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": (
                "Frames of `event:`, `id:`, `retry:` and one `data:` line of JSON, each closed by an empty line; line "
                "feeds only. Each frame, read as `{event, id, data, retry}`, is a StreamFrame. Never an event named "
                "`error`, nor one without a name."
            ),
        },
        "x-item-schema": _FRAMES,
    },
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "The same frames, one line of JSON each: a StreamFrame."},
        "x-item-schema": _FRAMES,
    },
}

STREAM: Final[Mapping[tuple[str, str], Entry]] = {
    ("GET", "/api/stream"): Entry(
        "readStream",
        "Stream",
        {
            200: Reply("The frames.", frames.LongPollAnswer, samples.LONG_POLL, STREAMED),
            204: Reply("The ticket was used, or has run out: what makes an EventSource stop asking."),
        },
        parameters=(
            Parameter("job", Id, "These jobs only, 100 at most.", e.JOB_ID, repeats=True),
            Parameter("kind", str, "Jobs of these kinds only.", "x-post", repeats=True),
            e.AFTER_CURSOR,
            e.WAIT,
            e.OWNER,
            e.LAST_EVENT_ID,
        ),
        codes=("not-found",),
        more=(
            "Server-sent events; lines of JSON with `Accept: application/x-ndjson`; a long poll with `wait_s`. A bad "
            "cursor is never an HTTP error: it is answered in band, by a `reset` and a fresh snapshot."
        ),
    ),
    ("POST", "/api/stream/tickets"): Entry(
        "createTicket",
        "Stream",
        {
            201: Reply(
                "Open the stream with it: `GET /api/stream?ticket=`.",
                shapes.TicketAnswer,
                {"ticket": "pk0lrJ2b0vB1", "expires_at": samples.JOB["lease_expires_at"]},
            )
        },
        bodies.TicketBody,
        {},
        parameters=(e.OWNER,),
        more=(
            "With `owner`, which services, viewers and operators may say, it opens what that owner would see and no "
            "more; without, what the caller sees, which for a service is everything."
        ),
    ),
}
