"""
An entry: all that the outside must know to call a route, beside what its row in the route table says.

Here are the records that an entry is made of, and the parameters that several routes share. The entries themselves are
the catalogue's, and what is made of them openapi.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from jobsvc.domain.events import EventType
from jobsvc.domain.words import State
from jobsvc.http.shapes import StreamCursor
from jobsvc.resource import Id, Moment

JSON: Final = "application/json"
Proof = Literal["bearer", "cookie", "ticket", "none"]
"""What a caller may prove itself by; ``none`` where it need not."""


class Parameter(Struct, frozen=True):
    """
    One thing that a request may say outside of its body.

    Attributes:
        name: As it is sent.
        shape: The type of its value.
        says: What it is for, in a sentence.
        example: A value.
        place: Where it stands.
        repeats: It may stand several times.
    """

    name: str
    shape: Any
    says: str
    example: Any
    place: Literal["query", "header"] = "query"
    repeats: bool = False


class Reply(Struct, frozen=True):
    """
    One answer that is no problem.

    Attributes:
        says: When it comes, in a sentence.
        shape: The record of its body; None for an empty one.
        example: A body.
        others: What else the body may be, by media type: a schema each.
        headers: Headers that it may carry, with what each says.
        links: What may be called next, by name: the operation, its parameters and its body.
    """

    says: str
    shape: Any = None
    example: Any = None
    others: Mapping[str, Mapping[str, Any]] = {}
    headers: Mapping[str, str] = {}
    links: Mapping[str, Mapping[str, Any]] = {}


class Entry(Struct, frozen=True):
    """
    What there is to know of one route.

    Attributes:
        operation: Its name in generated clients.
        group: Under which heading it stands.
        replies: By status, the answers that are no problems.
        body: The record that its body is read as; None if it takes none.
        example: A body.
        parameters: In query and headers.
        codes: The problems that it may answer besides those that follow from its row, body and path.
        proofs: What its callers prove themselves by, where that does not follow from its row.
        more: What a sentence cannot hold, in paragraphs.
    """

    operation: str
    group: str
    replies: Mapping[int, Reply]
    body: Any = None
    example: Any = None
    parameters: tuple[Parameter, ...] = ()
    codes: tuple[str, ...] = ()
    proofs: tuple[Proof, ...] | None = None
    more: str = ""


# Parameters that several routes share

Digits = Annotated[int, Meta(ge=0, le=10**12)]
Limit = Annotated[int, Meta(ge=1, le=500)]
LongLimit = Annotated[int, Meta(ge=1, le=1_000)]
JOB_ID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
CURSOR: Final = "5f0c1a9b.1841"

OWNER: Final = Parameter(
    "owner",
    str,
    "For whom: a service must say it, viewers and operators may, guests and users only name themselves.",
    "user:17",
)
KIND: Final = Parameter("kind", str, "Jobs of this kind only.", "x-post")
KEY: Final = Parameter("key", str, "Jobs with this key only.", "x:post:1850000000000000000")
STATE: Final = Parameter("state", State, "Jobs in these states only.", "failed", repeats=True)
AFTER_JOB: Final = Parameter("after", Id, "The `next` of the page before.", JOB_ID)
AFTER_CURSOR: Final = Parameter("after", str, "The cursor to go on from; `Last-Event-ID` wins over it.", CURSOR)
AFTER_POSITION: Final = Parameter(
    "after", Annotated[int, Meta(ge=0, le=10**15)], "The `next` of the page before.", 1841
)
AFTER_PLACE: Final = Parameter(
    "after", Annotated[int, Meta(ge=0, lt=10**18)] | StreamCursor, "A position, or a cursor of this log.", 1841
)
AFTER_NUMBER: Final = Parameter("after", Annotated[int, Meta(ge=0, lt=10**18)], "The `next` of the page before.", 1841)
PlaceAsked = Annotated[int, Meta(ge=0, lt=10**18)] | Moment
AS_OF: Final = Parameter("as_of", PlaceAsked, "As it stood at this position of the log, or at this time.", 1841)
LIMIT_EVENTS: Final = Parameter("limit", Annotated[int, Meta(ge=1, le=2_000)], "How many at most.", 100)
EVENT_TYPE: Final = Parameter("type", EventType, "Events of this type only.", "job.failed")
WAIT: Final = Parameter("wait_s", Annotated[float, Meta(ge=0)], "How long to hold the request at most.", 25)

IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    Annotated[str, Meta(pattern="^[!-~]{1,255}$")],
    "The same request with the same key gets the first answer again, for 24 hours.",
    "3c1f6f0e-order-17",
    "header",
)
PREFER: Final = Parameter(
    "Prefer",
    str,
    "`wait=N` holds the answer until the job has ended, N seconds at most.",
    "wait=10",
    "header",
)
IF_MATCH: Final = Parameter(
    "If-Match",
    Annotated[str, Meta(pattern=r'^(\*|(W/)?"[0-9]{1,12}")$')],
    "Only if the job still has this ETag.",
    'W/"3"',
    "header",
)
IF_NONE_MATCH: Final = Parameter(
    "If-None-Match",
    str,
    "304 if the job still has this ETag.",
    'W/"3"',
    "header",
)
LAST_EVENT_ID: Final = Parameter("Last-Event-ID", str, "The cursor to go on from.", CURSOR, "header")

REPLAYED: Final = {"Idempotency-Replayed": "`true` if this is the answer that the same request had before."}
