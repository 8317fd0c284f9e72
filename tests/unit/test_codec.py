"""
The codec: what goes in comes out, old forms are brought up to date, and what cannot be read says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET, Raw

from jobsvc.domain.errors import UnreadableEvent, ViewMismatch
from jobsvc.domain.events import Completed, Created, Due, Payload, Report, Submission, Terms
from jobsvc.store import codec

if TYPE_CHECKING:
    from jobsvc.domain.events import Event


def decode(**changes: Any) -> Event:  # noqa: ANN401 - whatever is stored
    """
    A stored ``job.due`` with *changes*, decoded.
    """
    stored: dict[str, Any] = {"version": 2, "type": "job.due", "schema": 1, "at": 5}
    stored |= {"facts": b"{}", "payload": b'{"actor":"system"}'}
    return codec.decode_event(7, "j", **(stored | changes))


def test_an_event_comes_back_as_it_went_in() -> None:
    """
    Facts and payload survive the way to bytes and back, raw values byte for byte.
    """
    facts = Created(kind="post", state="queued", terms=Terms(priority=-3))
    raw = Raw(b'{ "n": 123456789012345678901234567890 }')
    payload = Payload(actor="user:ada", submission=Submission(owner="user:ada", input=raw))

    event = decode(type="job.created", facts=codec.encode_facts(facts), payload=codec.encode_payload(payload))

    assert (facts, payload) == (event.facts, event.payload)
    assert b'"input":{ "n": 123456789012345678901234567890 }' in codec.encode_payload(payload)


@pytest.mark.parametrize("result", [b"null", b'{"a": [1.0]}', b"18446744073709551616"])
def test_a_result_comes_back_whatever_json_it_is(result: bytes) -> None:
    """
    A result of null is a result, and differs from none.
    """
    facts = codec.encode_facts(Completed(report=Report("complete", 1, "d")))

    told = decode(
        type="job.completed", facts=facts, payload=codec.encode_payload(Payload(actor="w", result=Raw(result)))
    )
    untold = decode(type="job.completed", facts=facts, payload=codec.encode_payload(Payload(actor="w")))

    assert told.payload is not None
    assert untold.payload is not None
    assert Raw(result) == told.payload.result
    assert untold.payload.result is UNSET


def test_an_erased_event_has_no_payload() -> None:
    """
    Where the payload was taken away, the facts still come back.
    """
    assert (Due(), None) == (decode(payload=None).facts, decode(payload=None).payload)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "job.exploded"},
        {"schema": 2},
        {"schema": 0},
        {"facts": b"{"},
        {"facts": b"{", "schema": 0},
        {"payload": b'{"no":"actor"}'},
        {"type": "job.started", "facts": b"{}"},
    ],
)
def test_what_cannot_be_read_says_so(change: dict[str, object]) -> None:
    """
    An unknown type, a schema of another version, broken JSON and missing fields are each an UnreadableEvent.
    """
    with pytest.raises(UnreadableEvent):
        decode(**change)


def test_old_events_are_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Upcasters are applied one schema after the other, a type without one is as it was, and raw values stay as sent.
    """
    monkeypatch.setattr(codec, "SCHEMA", 3)

    def rename(facts: codec.Fields, payload: codec.Fields | None) -> tuple[codec.Fields, codec.Fields | None]:
        return {**facts, "attempt": facts["try"]}, payload

    def default(facts: codec.Fields, payload: codec.Fields | None) -> tuple[codec.Fields, codec.Fields | None]:
        return {**facts, "worker": Raw(b'"unknown"')}, None if payload is None else {**payload, "reason": Raw(b'"old"')}

    upcasters = {("job.started", 1): rename, ("job.started", 2): default}
    old = b'{"fence":1,"try":4,"lease_us":30}'

    first = decode(type="job.started", facts=old, payload=b'{"actor":"w","result": 1e400 }', upcasters=upcasters)
    second = decode(type="job.started", schema=2, facts=old.replace(b"try", b"attempt"), upcasters=upcasters)

    assert first.facts == second.facts
    assert first.payload == Payload(actor="w", result=Raw(b"1e400"), reason="old")
    assert decode(upcasters=upcasters).facts == Due()
    assert decode(type="job.started", facts=old, payload=None, upcasters=upcasters).payload is None


def test_a_row_that_is_no_job_says_so() -> None:
    """
    A broken row of the view ``active`` asks for a rebuild.
    """
    with pytest.raises(ViewMismatch, match="rebuild"):
        codec.decode_job(b'{"id":"j"}')


def test_plain_json_goes_both_ways() -> None:
    """
    ``dumps`` and ``loads`` are JSON for whoever has no types.
    """
    assert {"a": [1, None, "ä"]} == codec.loads(codec.dumps({"a": [1, None, "ä"]}))
    with pytest.raises(ValueError, match="unexpected"):
        codec.loads(b"{")
