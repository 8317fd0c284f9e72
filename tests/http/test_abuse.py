"""
What no caller should send, over bare sockets: each gets a clear problem or is kept exactly, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import pytest
from msgspec import inspect

from jobsvc.http import bodies
from jobsvc.http.catalogue import CATALOGUE
from jobsvc.http.routes import ROUTES

if TYPE_CHECKING:
    from tests.http.client import JSON
    from tests.http.conftest import LogLines, Starter
    from tests.http.world import World

MIB: Final = 1_048_576
HOST: Final = b"Host: 127.0.0.1\r\n"

JUNK: Final[dict[str, bytes]] = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no method": b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "made-up method": b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "header without colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n",
    "long header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(1_000)) + b"\r\n",
    "long request line": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "path that is none": b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "length that is none": b"POST /api/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
    "length below zero": b"POST /api/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "length and chunks": b"POST /api/jobs HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are none": b"POST /api/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "chunk beyond its length": b"POST /api/jobs HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}}}}\r\n",
}


@pytest.mark.parametrize("name", JUNK)
async def test_what_is_no_http_is_a_problem_and_no_error_of_ours(world: World, log_lines: LogLines, name: str) -> None:
    """
    400 malformed as problem+json and the connection closes; nothing that was sent is repeated, and nobody has to act.
    """
    status, headers, body = await told(world, JUNK[name])
    neighbour = await world.guest.create()

    assert (400, "application/problem+json", "malformed") == (status, headers["content-type"], body["code"])
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= body.keys()
    assert "nosniff" == headers["x-content-type-options"]
    assert 201 == neighbour.status
    assert not [line for line in log_lines() if line["level"] in {"warning", "error"}]


async def test_junk_in_the_middle_of_a_body_hurts_nobody_else(start: Starter, log_lines: LogLines) -> None:
    """
    Chunks that turn into nonsense while the body is awaited: a problem, nothing written, no error of ours.
    """
    world = await start(body_wait_s=0.1)
    reader, writer = await connected(world)
    writer.write(head(world, "Transfer-Encoding: chunked") + b"1\r\n{\r\n")
    await world.guest.get("/api/jobs")
    writer.write(b"zz\r\n")

    status, _, body = await answer_from(reader)
    writer.close()

    assert (400, "malformed") == (status, body["code"])
    assert 0 == await world.position()
    assert not [line for line in log_lines() if line["level"] in {"warning", "error"}]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(MIB, 201), (MIB + 1, 413)])
async def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not(
    world: World, size: int, status: int, *, chunked: bool
) -> None:
    """
    To the byte, whether the length was said before or not; who sends what is too much is answered all the same.
    """
    frame = b'{"kind":"work","input":"%s"}'
    content = frame % (b"x" * (size - len(frame) + 2))
    said = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (size, content) if chunked else content

    got, _, body = await told(world, head(world, said) + sent)

    assert status == got
    assert status != 413 or body["code"] == "too-large"
    assert (1 if status == 201 else 0) == await world.position()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "nonsense"])
@pytest.mark.parametrize("lie", [False, True])
async def test_a_packed_body_is_415_bomb_or_not(world: World, log_lines: LogLines, encoding: str, *, lie: bool) -> None:
    """
    Nothing is unpacked, so nothing can blow up; what only says that it is packed leaves no error in the log either.
    """
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    content = b'{"kind":"work"}' if lie else pack(b" " * 5_000_000)
    said = f"Content-Length: {len(content)}\r\nContent-Encoding: {encoding}"

    status, _, body = await told(world, head(world, said) + content)

    assert (415, "unsupported-media-type") == (status, body["code"])
    assert 0 == await world.position()
    assert not [line for line in log_lines() if line["level"] in {"warning", "error"}]


async def test_a_stream_over_http_1_0_ends_with_its_connection(world: World) -> None:
    """
    What a proxy of old asks for comes without chunks, frame by frame.
    """
    job = await world.guest.made()
    reader, writer = await connected(world)
    writer.write(
        f"GET /api/jobs/{job['id']}/events HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {world.guest.token}\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        begun = await reader.readuntil(b"event: ready")
    await world.guest.cancel(job["id"])
    async with asyncio.timeout(10):
        rest = await reader.read()
    writer.close()

    assert b" 200 OK\r\n" in begun
    assert b"chunked" not in begun
    assert b"\r\n\r\nevent: hello\n" in begun
    assert b"event: end\n" in rest


NUMBERS: Final = ["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890", "1e400", "0.1000"]


@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_of_any_size_are_kept_to_the_digit(world: World, number: str) -> None:
    """
    In input, metadata, progress and result, in answers, lists and streams: as they were sent.
    """
    kept = b'{"n":%s}' % number.encode()
    content = b'{"kind":"work","input":%s,"metadata":%s}' % (kept, kept)
    typed = {"Content-Type": "application/json"}

    async with world.guest.stream() as frames:
        await frames.until("ready")
        made = await world.guest.send("POST", "/api/jobs", content=content, headers=typed)
        grant = await world.worker.claim()
        lease = f'{{"lease_token":"{grant.lease_token}",'.encode()
        path = f"/api/worker/jobs/{grant.id}/"
        await world.worker.send("POST", path + "progress", content=lease + b'"data":%s}' % kept, headers=typed)
        await world.worker.send("POST", path + "complete", content=lease + b'"result":%s}' % kept, headers=typed)
        lines: list[bytes] = []
        async with asyncio.timeout(10):
            while not lines or b"job.completed" not in lines[-1]:
                lines.append(await frames.response.content.readline())
    read = await world.guest.get(f"/api/jobs/{grant.id}")

    assert 2 == made.content.count(kept)
    assert 4 == read.content.count(kept)
    assert 4 == lines[-1].count(kept)


# Text that breaks lines, frames and encodings, in every field of every body

HOSTILE: Final = [
    "\r\n",
    "\n\ndata: x\n\n",
    "\r",
    "\0",
    "\u2028",
    "\u2029",
    "\x7f\x1b[2J",
    "\ud800",
    "\udc00\ud800",
    "\ufeff",
]


@pytest.mark.parametrize("operation", [entry.operation for entry in CATALOGUE.values() if entry.body is not None])
async def test_hostile_text_is_refused_or_kept_and_breaks_no_frame(
    world: World, log_lines: LogLines, operation: str
) -> None:
    """
    In each place of each body where text may stand: a clear problem or kept exactly; streams and log stay readable.
    """
    (_, path), entry = next(item for item in CATALOGUE.items() if item[1].operation == operation)
    caller = world.user if operation == "claimGuest" else world.operator

    async with world.operator.stream() as frames:
        for place, text in itertools.product({*places(entry.example), *text_of(entry.body)}, HOSTILE):
            body, job_id = await sensible(world, entry.example)
            put(body, place, f"a{text}b")
            answer = await caller.post(path.format(id=job_id, name="active"), body)

            assert answer.status < 500, (place, answer.content)
            assert answer.status < 400 or answer.code
            if operation == "createJob" and answer.status == 201:
                assert f"a{text}b" == at(await world.operator.read(answer.job["id"]), place)
        last = await world.guest.made()
        while frames.seen[-1:] == [] or frames.seen[-1].data.get("job", {}).get("id") != last["id"]:
            await frames.next()

    assert await world.position() == len(await lines_of_log(world))
    assert not [line for line in log_lines() if line["level"] == "error"]


@pytest.mark.parametrize("form", ["text/event-stream", "application/x-ndjson"])
async def test_no_reader_finds_more_lines_than_there_are(world: World, log_lines: LogLines, form: str) -> None:
    """
    Many libraries also end a line at U+0085, U+2028 and U+2029; these come escaped, which is the same text.
    """
    text = "a\u2028b\u2029c\x85d"
    made = await world.user.create(title=text, input={text: text})
    await world.operator.cancel(made.job["id"], reason=text)
    path = f"/api/jobs/{made.job['id']}/events?after={(await world.head())['epoch']}.0"
    streamed = await world.user.send("GET", path, headers={"Accept": form})
    told = await world.operator.get("/api/log", headers={"Accept": "application/x-ndjson"})

    for content in (streamed.content, told.content):
        lines = content.decode().splitlines()
        assert lines == content.decode().split("\n")[:-1]
    first = next(line for line in streamed.content.decode().split("\n") if '"job.created"' in line)
    frame = json.loads(first.removeprefix("data: "))
    job = frame.get("data", frame)["job"] if form.endswith("ndjson") else frame["job"]
    assert (text, {text: text}) == (job["title"], job["input"])
    assert [text] == [line["reason"] for line in log_lines() if line["event"] == "operator.acted"]


async def lines_of_log(world: World) -> list[JSON]:
    """
    The log, read as lines.
    """
    lines: list[JSON] = []
    while True:
        answer = await world.operator.get(
            "/api/log", headers={"Accept": "application/x-ndjson"}, limit=2_000, after=len(lines)
        )
        page = [json.loads(line) for line in answer.content.decode().splitlines()]
        if not page:
            return lines
        lines += page


def text_of(shape: type) -> list[tuple[str | int, ...]]:
    """
    Where text may stand in a body of *shape*, by its model.
    """
    found: list[tuple[str | int, ...]] = []
    for field in cast("inspect.StructType", inspect.type_info(shape)).fields:
        for kind in _kinds(field.type):
            match kind:
                case inspect.StrType() | inspect.RawType() if field.name not in _TRUE:
                    found.append((field.name,))
                case inspect.StructType():
                    found += [(field.name, *place) for place in text_of(kind.cls)]
                case inspect.ListType() if shape is bodies.BatchBody:
                    found += [(field.name, 0, *place) for place in text_of(bodies.CreateBody)]
                case _:
                    pass
    return found


def _kinds(kind: inspect.Type) -> list[inspect.Type]:
    match kind:
        case inspect.Metadata():
            return _kinds(kind.type)
        case inspect.UnionType():
            return [inner for one in kind.types for inner in _kinds(one)]
        case _:
            return [kind]


def places(body: JSON, *above: str | int) -> list[tuple[str | int, ...]]:
    """
    Where in *body* text stands, names apart.
    """
    if isinstance(body, str):
        return [above]
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [place for name, value in inner if name not in _TRUE for place in places(value, *above, name)]


_TRUE: Final = {"job", "lease_token", "report", "job_id"}
"""
Fields without which nothing else of a body would be looked at.
"""


def put(body: JSON, place: tuple[str | int, ...], text: str) -> None:
    """
    *text* stands at *place*.
    """
    for step in place[:-1]:
        body = body.setdefault(step, {}) if isinstance(body, dict) else body[step]
    body[place[-1]] = text


def at(body: JSON, place: tuple[str | int, ...]) -> JSON:
    """
    What stands at *place*.
    """
    for step in place:
        body = body[step]
    return body


async def sensible(world: World, example: JSON) -> tuple[JSON, str]:
    """
    The catalogue's example of a body, with a lease that there is where one is needed; and the job that it is about.
    """
    body = json.loads(json.dumps(example))
    body.pop("wait_s", None)
    if "lease_token" not in json.dumps(body):
        return body, (await world.guest.made())["id"]
    await world.guest.made(kind="leased")
    grant = await world.worker.claim(kinds=["leased"])
    for part in body.get("reports", [body]):
        part["lease_token"] = grant.lease_token
        if "job_id" in part:
            part["job_id"] = grant.id
    return body, grant.id


# Queries


@pytest.mark.parametrize(
    ("path", "query"),
    [("/api/jobs", "url"), ("/api/jobs", "status"), ("/api/jobs/active", "state"), ("/api/log", "id")],
)
async def test_a_list_refuses_a_filter_that_it_does_not_know(world: World, path: str, query: str) -> None:
    """
    422: a filter that was passed over would show more than was asked for, as if that were the answer.
    """
    answer = await world.operator.get(f"{path}?{query}=x")

    assert (422, "invalid", f"/{query}") == (answer.status, answer.code, answer.pointer)


def test_lists_take_what_the_catalogue_says() -> None:
    """
    A parameter that is added to one is added to both.
    """
    for route in ROUTES:
        if route.query is not None:
            told = CATALOGUE[route.method, route.path].parameters
            assert {one.name for one in told if one.place == "query"} == route.query


async def test_a_stream_takes_whatever_a_polyfill_adds(world: World) -> None:
    """
    An EventSource would die for good on a 422.
    """
    async with world.guest.stream(lastEventId="", _=1) as frames:
        assert "hello" == (await frames.next()).event


# Bare sockets


async def connected(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    A connection of its own.
    """
    parts = urlsplit(world.url)
    return await asyncio.open_connection(parts.hostname, parts.port, limit=2**22)


def head(world: World, *lines: str) -> bytes:
    """
    The head of a guest's create, with these lines.
    """
    said = ["Host: 127.0.0.1", f"Authorization: Bearer {world.guest.token}", "Content-Type: application/json", *lines]
    return "\r\n".join(["POST /api/jobs HTTP/1.1", *said, "\r\n"]).encode()


async def told(world: World, sent: bytes) -> tuple[int, dict[str, str], JSON]:
    """
    Status, headers and body of the answer to exactly these bytes.
    """
    reader, writer = await connected(world)
    writer.write(sent)
    try:
        return await answer_from(reader)
    finally:
        writer.close()


async def answer_from(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], JSON]:
    """
    The next answer of a connection.
    """
    async with asyncio.timeout(10):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        content = await reader.readexactly(int(headers["content-length"]))
    return int(first.split(" ")[1]), headers, json.loads(content)
