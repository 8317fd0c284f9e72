from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.errors import InvalidCommand
from jobsvc.http.bodies import CreateBody, check_json, parse
from jobsvc.http.problems import Malformed

if TYPE_CHECKING:
    from tests.http.client import Answer
    from tests.http.world import World

JSON_TYPE = {"Content-Type": "application/json"}


async def sent(world: World, content: bytes, **headers: str) -> Answer:
    """
    The answer to a create of exactly these bytes.
    """
    return await world.guest.send("POST", "/api/jobs", content=content, headers=JSON_TYPE | headers)


async def test_a_problem_has_every_member(world: World) -> None:
    """
    type, title, status, detail, instance, code, request_id, and errors for bodies.
    """
    answer = await world.guest.create(title="t" * 201)

    problem = answer.body
    assert "invalid" == answer.code
    assert "/api/jobs" == problem["instance"]
    assert [{"pointer", "message"}] == [set(error) for error in problem["errors"]]
    assert problem["request_id"] == answer.headers["X-Request-Id"]


async def test_the_caller_s_request_id_comes_back_if_it_is_sane(world: World) -> None:
    """
    A sane one is taken, another replaced.
    """
    sane = await world.guest.get("/api/jobs/x", headers={"X-Request-Id": "abc-1"})
    other = await world.guest.get("/api/jobs/x", headers={"X-Request-Id": "<script>"})

    assert "abc-1" == sane.body["request_id"]
    assert "<script>" != other.body["request_id"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[1,",
        b"nonsense",
        b'{"kind":"work"} x',
        b'{"kind":"work","title":"\xff"}',
        b"\xff\xfe",
        b"{'kind':1}",
        b"\x00",
    ],
)
async def test_what_is_not_json_is_malformed(world: World, content: bytes) -> None:
    """
    400 and nothing changes.
    """
    answer = await sent(world, content)

    assert (400, "malformed") == (answer.status, answer.code)
    assert 0 == await world.position()


@pytest.mark.parametrize("content", [b"[]", b"1", b"null", b'"text"', b"{}", b""])
async def test_json_of_another_shape_is_invalid(world: World, content: bytes) -> None:
    """
    422: it can be read, but is no create.
    """
    answer = await sent(world, content)

    assert (422, "invalid") == (answer.status, answer.code)


@pytest.mark.parametrize(
    ("content", "depth"),
    [
        (b'{"a":[{},[{}],"[[[["]}', 4),
        (rb'{"a":["\"[[[[",{"]]":[]}]}', 4),
        (b"[" + b",".join([b'{"a":[1,"{"]}'] * 9) + b"]", 3),
        (b'{"[":{"{":"]"}}', 2),
    ],
)
def test_depth_is_that_of_the_brackets_outside_strings(content: bytes, depth: int) -> None:
    """
    What is as deep as may be passes, with and without escapes; one level more does not.
    """
    check_json(content, depth_max=depth)

    with pytest.raises(Malformed):
        check_json(content, depth_max=depth - 1)


@pytest.mark.parametrize("depth", [65, 100_000])
async def test_json_that_is_nested_too_deep_is_malformed(world: World, depth: int) -> None:
    """
    Deeper than 64 levels is refused before any parser sees it, in a batch as well as alone.
    """
    content = b'{"kind":"work","input":' + b"[" * depth + b"]" * depth + b"}"

    alone = await sent(world, content)
    batch = await world.guest.send("POST", "/api/jobs/batch", content=b'{"jobs":[' + content + b"]}", headers=JSON_TYPE)

    assert [(400, "malformed")] * 2 == [(answer.status, answer.code) for answer in (alone, batch)]
    assert 0 == await world.position()


@pytest.mark.parametrize(
    "content",
    [
        b"[]" * 65 + b'"' + b'\\"' * 20_000,
        b"[" * 64 + b'"\\' * 20_000,
        json.dumps({" - at `$" * 20_000 + "\n": 1}).encode(),
        json.dumps({"kind": " - at `$" * 20_000 + "\n"}).encode(),
        json.dumps({"kind": "a", "dedup": {"on_active": "Object missing required field `" * 10_000}}).encode(),
    ],
    ids=["string without an end", "quotes and escapes", "field as a place", "kind as a place", "value as a field"],
)
def test_no_body_costs_more_than_its_length(content: bytes) -> None:
    """
    What was made to be looked at again and again is refused in a moment: seconds of it would be everybody's.
    """
    begun_s = time.process_time()

    with pytest.raises((Malformed, InvalidCommand)):
        parse(CreateBody, content, depth_max=64)

    assert time.process_time() - begun_s < 0.5


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b'{"kind":"a","a/b~c":1}', "/a~1b~0c"),
        (b'{"kind":"a","a`b":1}', "/a`b"),
        (b'{"kind":"a","dedup":{"x\\ny":1}}', "/dedup/x\ny"),
        (b'{"kind":"a","dedup":{"on_active":"x"}}', "/dedup/on_active"),
        (b'{"title":"a"}', "/kind"),
        (b'{"kind":"a","' + b"x" * 100_000 + b'":1}', "/" + "x" * 200),
    ],
)
async def test_a_pointer_says_where_and_repeats_no_more_than_it_must(
    world: World, content: bytes, pointer: str
) -> None:
    """
    As RFC 6901 writes it, whatever stands in the name of a field; of a long name only the beginning.
    """
    answer = await sent(world, content)

    assert (422, "invalid") == (answer.status, answer.code)
    assert [pointer] == [error["pointer"] for error in answer.body["errors"]]
    assert len(answer.content) < 2_000


async def test_brackets_in_text_are_no_nesting(world: World) -> None:
    """
    A string full of brackets, escaped quotes included, is as deep as a string.
    """
    answer = await sent(world, b'{"kind":"work","input":"\\"' + b"[" * 200 + b'"}')

    assert 201 == answer.status


@pytest.mark.parametrize("path", ["/api/sessions/guest", "/api/stream/tickets", "/api/projections/active/rebuild"])
async def test_a_route_that_needs_no_body_takes_none_that_it_would_pass_over(world: World, path: str) -> None:
    """
    What a caller asks for is done or refused; an empty body, or none, is right.
    """
    caller = world.operator

    refused = [
        await caller.post(path, {"ttl_s": 5}),
        await caller.send("POST", path, content=b"{", headers=JSON_TYPE),
        await caller.send("POST", path, content=b"{}", headers={"Content-Type": "text/plain"}),
        await caller.send("POST", path, content=b" " * 1_048_577, headers=JSON_TYPE),
    ]
    taken = [await caller.post(path, {}), await caller.post(path)]

    assert ["invalid", "malformed", "unsupported-media-type", "too-large"] == [answer.code for answer in refused]
    assert all(answer.status in {200, 201} for answer in taken)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_that_is_not_said_to_be_json_is_415(world: World, content_type: str) -> None:
    """
    What a form of another site could send is not taken.
    """
    answer = await world.guest.send(
        "POST", "/api/jobs", content=b'{"kind":"work"}', headers={"Content-Type": content_type}
    )

    assert (415, "unsupported-media-type") == (answer.status, answer.code)
    assert 0 == await world.position()


async def test_a_charset_does_not_make_it_another_type(world: World) -> None:
    """
    application/json; charset=utf-8 is JSON.
    """
    answer = await sent(world, b'{"kind":"work"}', **{"Content-Type": "application/json; charset=utf-8"})

    assert 201 == answer.status


async def test_an_unknown_path_is_404_and_an_unknown_method_405(world: World) -> None:
    """
    Problems like any other; 405 says what the path takes.
    """
    nowhere = await world.guest.get("/api/nothing")
    wrong = await world.guest.send("DELETE", "/api/jobs")

    assert (404, "not-found") == (nowhere.status, nowhere.code)
    assert (405, "method-not-allowed") == (wrong.status, wrong.code)
    assert {"GET", "HEAD", "OPTIONS", "POST"} == {method.strip() for method in wrong.headers["Allow"].split(",")}


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/jobs/active", "/api/jobs", "/api/nothing", "/api/log"])
async def test_head_is_answered_where_get_is(world: World, path: str) -> None:
    """
    Monitors and proxies ask with HEAD: the same status, no body.
    """
    get = await world.guest.get(path)

    answer = await world.guest.send("HEAD", path)

    assert (get.status, b"") == (answer.status, answer.content)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic abc", "Bearer a.b.c", "bearer\tx", "Bearer " + "x" * 6_000],
)
async def test_a_credential_that_proves_nobody_is_401(world: World, authorization: str) -> None:
    """
    With the way to authenticate in WWW-Authenticate.
    """
    answer = await world.nobody.get("/api/jobs", headers={"Authorization": authorization})

    assert (401, "unauthenticated") == (answer.status, answer.code)
    assert "Bearer" in answer.headers["WWW-Authenticate"]


async def test_a_fault_of_ours_tells_nothing_of_the_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    500 internal under a request id: no stack trace, SQL or path leaves the service.
    """

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("SELECT secret FROM /etc/passwd")

    monkeypatch.setattr(world.service.ledger, "execute", broken)

    answer = await world.guest.create()

    assert (500, "internal") == (answer.status, answer.code)
    for word in (b"SELECT", b"passwd", b"Traceback", b".py"):
        assert word not in answer.content


async def test_head_of_a_stream_is_answered_and_opens_none(world: World) -> None:
    """
    The head of a stream comes back at once, and nothing stays open behind it.
    """
    answer = await world.guest.send("HEAD", "/api/stream")

    assert (200, b"", 0) == (answer.status, answer.content, len(world.service.streams))


async def test_answers_are_not_kept_by_anybody(world: World) -> None:
    """
    no-store on answers and problems alike.
    """
    answers = [await world.guest.create(), await world.guest.get("/api/jobs"), await world.guest.get("/api/jobs/x")]

    assert {"no-store"} == {answer.headers["Cache-Control"] for answer in answers}
