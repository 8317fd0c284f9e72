"""
The bodies: what a request may say, as records, and how bytes become one.

Unknown fields are refused everywhere. Raw fields are JSON exactly as received, line feeds between tokens apart, which a
stream's one line of data could not carry. What a body means is not decided here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from jobsvc.domain.commands import OnActive, OnCompleted
from jobsvc.domain.errors import InvalidCommand
from jobsvc.http.problems import Malformed

EMPTY_OBJECT: Final = Raw(b"{}")
_empty_object: Final = repeat(EMPTY_OBJECT).__next__
"""The same each time, by the cheapest of calls."""
_NULL: Final = Raw(b"null")
# As factories where they are defaults: msgspec shows a default in the schema, and cannot show a Raw.

# Where a pattern ends in $, Python takes a line feed after it and JSON Schema does not: (?!\n) is what both agree on.

Kind = Annotated[str, Meta(pattern=r"^[a-z0-9._-]{1,64}(?!\n)$", description="1 to 64 of a-z, 0-9, '.', '_' and '-'.")]
_ACTOR: Final = r"^(guest|user|service|worker|operator|viewer):[!-~]{1,200}(?!\n)$"
Seconds = Annotated[float, Meta(ge=0, le=315_360_000)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=315_360_000)]
Owner = Annotated[str, Meta(description="`guest:<id>` or `user:<id>`; for services, and for operators.")]
JobId = Annotated[str, Meta(description="The id of a job.", extra_json_schema={"format": "uuid"})]
LeaseToken = Annotated[str, Meta(description="As the claim gave it.")]
Reason = Annotated[str, Meta(description="Why, for the log; at most 1,000 characters.")]
Message = Annotated[str, Meta(description="For people; at most 1,000 characters.")]

SCHEMAS: Final = "#/components/schemas/"
"""Where the OpenAPI document keeps each record's schema, by the record's name."""


def any_of(*names: str) -> Meta:
    """That what stands here is one of these records, for elements that are read, refused or written one by one."""
    return Meta(extra_json_schema={"anyOf": [{"$ref": SCHEMAS + name} for name in names]})


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object, no fields but its own."""


class EmptyBody(Body, frozen=True):
    """Nothing; for what needs no more than to be asked."""


class DedupBody(Body, frozen=True):
    """What to do when the same work exists already."""

    on_active: OnActive = "attach"
    on_completed: OnCompleted = "rerun"
    max_age_s: Seconds | None = None


HOWEVER: Final = DedupBody()
"""What a body says that says nothing of it."""


class CreateBody(Body, frozen=True):
    """A job that is wanted."""

    kind: Kind
    url: Annotated[str | None, Meta(description="http or https; what makes the key where none is given.")] = None
    key: Annotated[str | None, Meta(description="What deduplicates, over owner and kind.")] = None
    owner: Owner | None = None
    input: Annotated[Raw, Meta(description="Any JSON, for the worker.")] = field(default_factory=_empty_object)
    title: Annotated[str | None, Meta(description="At most 200 characters.")] = None
    metadata: Annotated[
        Raw, Meta(description="For the caller's own use; at most 16 KiB.", extra_json_schema={"type": "object"})
    ] = field(default_factory=_empty_object)
    priority: Annotated[int, Meta(ge=-100, le=100, description="Larger first.")] = 0
    run_at: Annotated[str | None, Meta(description="RFC 3339, with its offset.")] = None
    deadline_s: PositiveSeconds | None = None
    start_within_s: PositiveSeconds | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=1_000)] = 3
    dedup: DedupBody = HOWEVER


class BatchBody(Body, frozen=True):
    """Several jobs that are wanted, each on its own."""

    jobs: Annotated[list[Annotated[Raw, any_of("CreateBody")]], Meta(description="At most 500.")]


class CancelBody(Body, frozen=True):
    """How to stop: by asking, or with force."""

    force: bool = False
    reason: Reason | None = None
    owner: Owner | None = None


class ReasonBody(Body, frozen=True):
    """Nothing but why, and for whom."""

    reason: Reason | None = None
    owner: Owner | None = None


class RebuildBody(Body, frozen=True):
    """Nothing but why."""

    reason: Reason | None = None


class TicketBody(Body, frozen=True):
    """For whose stream, where that is not the caller's."""

    owner: Owner | None = None


class LinkBody(Body, frozen=True):
    """The one-use code of a dashboard link."""

    code: str


class RevokeBody(Body, frozen=True):
    """Whose tokens are to count no more: a subject's (all, or those issued before a moment), or the one of that id."""

    reason: str
    subject: Annotated[str, Meta(pattern=_ACTOR)] | None = None
    token_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    issued_before: str | None = None


class ActBody(Body, frozen=True):
    """Nothing but why: what every verb of an operator takes."""

    reason: Annotated[str, Meta(max_length=1_000, description="Why, for the service's log.")] | None = None


class VerifyBody(ActBody, frozen=True):
    """What to hold the log against: ``POSITION:CHAIN`` of a head saved earlier."""

    against: Annotated[str, Meta(pattern="^[0-9]{1,18}:[0-9a-f]{64}$")] | None = None


class BackupBody(ActBody, frozen=True, kw_only=True):
    """Where to: an absolute path on the service's machine, where nothing stands unless it is forced."""

    file: Annotated[str, Meta(pattern="^/[^\\x00]{1,4000}$")]
    force: bool = False


class ParkedBody(ActBody, frozen=True, kw_only=True):
    """
    Whether to try a parked job again as it is, or without the event that it waits at, for good.

    Without ``job_id`` it is all of the projection.
    """

    act: Literal["retry", "discard"]
    job_id: Annotated[str, Meta(max_length=36)] | None = None


class ArchiveBody(ActBody, frozen=True):
    """How long ago the last event of an ended job has to have been for it to be archived."""

    older_than_s: Annotated[float, Meta(ge=0, le=315_360_000)] = 2_592_000.0


class EraseBody(ActBody, frozen=True):
    """What is to be forgotten: all ended jobs of an owner, or one job."""

    owner: Annotated[str, Meta(min_length=1, max_length=300, description="As its jobs name it.")] | None = None
    job_id: Annotated[str, Meta(max_length=36)] | None = None


class SessionClaimBody(Body, frozen=True):
    """The guest that a user was, by its token. ``owner`` is for those who act for the user."""

    guest_token: Annotated[str, Meta(description="As the guest's session gave it.")]
    owner: Owner | None = None


class ClaimBody(Body, frozen=True):
    """A worker that wants work."""

    kinds: list[Kind] = []
    max: Annotated[int, Meta(ge=1)] = 1
    wait_s: Annotated[float, Meta(ge=0, le=30)] = 0
    lease_s: Annotated[float, Meta(ge=1, le=3_600)] | None = None
    worker: str | None = None
    claim_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class HeartbeatBody(Body, frozen=True):
    """A sign of life."""

    lease_token: LeaseToken


class ProgressBody(Body, frozen=True):
    """How far it is."""

    lease_token: LeaseToken
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    message: Message | None = None
    data: Raw = field(default_factory=lambda: _NULL)


class CompleteBody(Body, frozen=True):
    """The result."""

    lease_token: LeaseToken
    result: Raw = field(default_factory=lambda: _NULL)


class ErrorBody(Body, frozen=True):
    """Why it failed."""

    code: Annotated[str, Meta(min_length=1, max_length=200)]
    message: Message = ""


class FailBody(Body, frozen=True):
    """That it failed."""

    lease_token: LeaseToken
    error: ErrorBody
    retryable: bool = True
    retry_after_s: Seconds | None = None


class ReleaseBody(Body, frozen=True):
    """That it is given back."""

    lease_token: LeaseToken


_ANY_REPORT: Final = any_of("HeartbeatReport", "ProgressReport", "CompleteReport", "FailReport", "ReleaseReport")


class ReportsBody(Body, frozen=True):
    """Several reports, each on its own."""

    reports: Annotated[list[Annotated[Raw, _ANY_REPORT]], Meta(description="At most 500.")]


class HeartbeatReport(HeartbeatBody, frozen=True, tag="heartbeat", tag_field="report"):
    """A heartbeat among several reports."""

    job_id: JobId


class ProgressReport(Body, frozen=True, tag="progress", tag_field="report"):
    """Progress among several reports."""

    job_id: JobId
    lease_token: LeaseToken
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    message: Message | None = None
    data: Raw = field(default_factory=lambda: _NULL)


class CompleteReport(Body, frozen=True, tag="complete", tag_field="report"):
    """A result among several reports."""

    job_id: JobId
    lease_token: LeaseToken
    result: Raw = field(default_factory=lambda: _NULL)


class FailReport(Body, frozen=True, tag="fail", tag_field="report"):
    """A failure among several reports."""

    job_id: JobId
    lease_token: LeaseToken
    error: ErrorBody
    retryable: bool = True
    retry_after_s: Seconds | None = None


class ReleaseReport(Body, frozen=True, tag="release", tag_field="report"):
    """A release among several reports."""

    job_id: JobId
    lease_token: LeaseToken


AnyReport = HeartbeatReport | ProgressReport | CompleteReport | FailReport | ReleaseReport


@lru_cache(maxsize=64)
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401  # any type that msgspec reads
    return msgspec.json.Decoder(shape)


def parse(shape: Any, content: bytes | Raw, *, depth_max: int) -> Any:  # noqa: ANN401  # as *shape* says
    """
    The record of *shape* that *content* holds.

    Raises:
        Malformed: Not JSON, not UTF-8, or nested deeper than *depth_max*.
        InvalidCommand: JSON, but not of that shape; the pointer says where.
    """
    if isinstance(content, bytes):
        check_json(content, depth_max=depth_max)
    try:
        return _decoder(shape).decode(content)
    except msgspec.ValidationError as error:
        _check_syntax(content)
        raise _invalid(error) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(_NOT_JSON) from error


_NOT_JSON: Final = "the body is not JSON; check it with a JSON parser"


def _check_syntax(content: bytes | Raw) -> None:
    """Refuses text that only began like JSON: a decoder stops at the first value of a wrong shape."""
    try:
        msgspec.json.decode(content, type=Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(_NOT_JSON) from error


def check_json(content: bytes, *, depth_max: int) -> None:
    """Refuses what no parser should be given: text that is not UTF-8, and nesting deeper than *depth_max*."""
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            message = "the body is not UTF-8"
            raise Malformed(message) from error
    if content.count(b"[") + content.count(b"{") > depth_max and _depth_of(content) > depth_max:
        message = f"the body is nested deeper than {depth_max} levels"
        raise Malformed(message)


def plain(raw: Raw) -> Raw:
    """*raw* as it may be kept: its own copy of the bytes, without line feeds between tokens (strings have none)."""
    content = bytes(raw)
    if b"\n" in content or b"\r" in content:
        content = content.replace(b"\n", b" ").replace(b"\r", b" ")
    return Raw(content)


def _depth_of(content: bytes) -> int:
    """
    How deep *content*, as far as it is JSON, is nested: the highest sum of its brackets outside of strings.

    Cost: nothing is looked at twice. 0.1 ms for the 20 KiB of a hundred reports, 40 ms for a mebibyte of brackets.
    """
    if b"\\" in content:
        content = _STRING.sub(b"", content)
    # Without an escape, every other piece between quotation marks is a string.
    outside = b"".join(content.translate(_STEPS, _UNMARKED).split(b'"')[::2])
    return max(accumulate(memoryview(outside).cast("b")), default=0)


_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""Also a string without an end: else all that follows would be looked at again from each of its escaped quotes."""
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""What a bracket adds to the depth, as signed bytes."""
_UNMARKED: Final = bytes(set(range(256)) - set(b'[]{}"'))


_PLACE: Final = re.compile(r" - at `(?:key in )?\$((?:\.\w+|\[(?:\d+|\.\.\.)\])*+)`\Z")
"""Where msgspec says that a fault is: fields of ours and indices only, as what stands before it may be the caller's."""
_STEP: Final = re.compile(r"\w+|\.\.\.")
_FIELD: Final = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)
_SAID_CHARACTERS_MAX: Final = 200
"""How much is repeated of what a caller made up."""


def _invalid(error: msgspec.ValidationError) -> InvalidCommand:
    """*error* with its place as a JSON pointer (RFC 6901), down to the field that is unknown or missing."""
    text = str(error)
    place = _PLACE.search(text)
    message = text if place is None else text[: place.start()]
    steps = [] if place is None else _STEP.findall(place.group(1))
    field = _FIELD.fullmatch(message)
    if field is not None:
        steps.append(field.group(1)[:_SAID_CHARACTERS_MAX].replace("~", "~0").replace("/", "~1"))
    if len(message) > _SAID_CHARACTERS_MAX:
        message = f"{message[:_SAID_CHARACTERS_MAX]}…"
    return InvalidCommand(message, pointer="".join(f"/{step}" for step in steps))
