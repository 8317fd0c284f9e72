from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.settings import UnusableSetting
from jobsvc.settings_loading import load_settings

if TYPE_CHECKING:
    from tests.http.client import JSON, Answer
    from tests.http.conftest import Starter
    from tests.http.world import World

APP: Final = "https://app.example"
PREFLIGHT: Final = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
}


def names(answer: Answer, header: str) -> set[str]:
    """
    The names that a header lists, in lower case.
    """
    return {name.strip().lower() for name in answer.headers.get(header, "").split(",")}


async def test_a_page_of_an_allowed_origin_may_read_answers_problems_and_streams(start: Starter) -> None:
    """
    Its own origin comes back, with credentials and the headers that it needs, whatever was asked and however it went.
    """
    world = await start(allowed_origins=(APP, "https://other.example"))
    job = await world.guest.made()
    sent = {"Origin": APP}

    answers = [
        await world.guest.create(headers=sent),
        await world.guest.get(f"/api/jobs/{job['id']}", headers=sent),
        await world.guest.get("/api/nothing", headers=sent),
        await world.nobody.get("/api/jobs", headers=sent),
        await world.guest.create(headers=sent, title=7),
        await world.guest.send("DELETE", "/api/jobs", headers=sent),
        await world.worker.post("/api/worker/claim", {"kinds": ["work"]}, headers=sent),
    ]
    async with world.guest.stream(headers=sent) as frames:
        streamed = frames.response.headers

    for headers in [*(answer.headers for answer in answers), streamed]:
        assert APP == headers["Access-Control-Allow-Origin"]
        assert "true" == headers["Access-Control-Allow-Credentials"]
        assert "Origin" == headers["Vary"]
    exposed = names(answers[0], "Access-Control-Expose-Headers")
    assert {"etag", "location", "idempotency-replayed", "retry-after", "x-request-id"} <= exposed


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "*", "http://app.example", f"{APP}:8443", f"{APP}.evil.example", ""]
)
async def test_a_page_of_any_other_origin_may_read_nothing(start: Starter, origin: str) -> None:
    """
    No header lets it, preflight or not; and caches are told that somebody else might be answered otherwise.
    """
    world = await start(allowed_origins=(APP,))

    answers = [
        await world.guest.get("/api/jobs", headers={"Origin": origin}),
        await world.guest.send("OPTIONS", "/api/jobs", headers={"Origin": origin} | PREFLIGHT),
    ]

    assert [200, 204] == [answer.status for answer in answers]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("Access-Control-")]
        assert "Origin" == answer.headers["Vary"]


async def test_without_allowed_origins_nobody_is_answered_by_origin(world: World) -> None:
    """
    Not even our own page needs to be.
    """
    answer = await world.guest.get("/api/jobs", headers={"Origin": world.url})

    assert not {"Access-Control-Allow-Origin", "Vary"} & answer.headers.keys()


async def test_a_preflight_says_what_may_be_sent_without_any_credential(start: Starter) -> None:
    """
    Methods, headers and for how long that holds; only on paths that there are.
    """
    world = await start(allowed_origins=(APP,))
    sent = {"Origin": APP} | PREFLIGHT

    answer = await world.nobody.send("OPTIONS", "/api/jobs/x/cancel", headers=sent)
    nowhere = await world.nobody.send("OPTIONS", "/api/nothing", headers=sent)

    assert (204, b"", APP) == (answer.status, answer.content, answer.headers["Access-Control-Allow-Origin"])
    assert "post" in names(answer, "Access-Control-Allow-Methods")
    wanted = {"authorization", "content-type", "idempotency-key", "if-match", "last-event-id", "prefer"}
    assert wanted <= names(answer, "Access-Control-Allow-Headers")
    assert 0 < int(answer.headers["Access-Control-Max-Age"]) <= 86_400
    assert "true" == answer.headers["Access-Control-Allow-Credentials"]
    assert (404, "not-found") == (nowhere.status, nowhere.code)


async def test_options_says_what_a_path_takes(world: World) -> None:
    """
    OPTIONS that is no preflight is answered as well.
    """
    answer = await world.nobody.send("OPTIONS", "/api/jobs")

    assert (204, {"get", "head", "options", "post"}) == (answer.status, names(answer, "Allow"))


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "app.example",
        "https://app.example/",
        "https://App.example",
        "ftp://app.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://a b",
        "https://user@app.example",
    ],
)
def test_an_origin_that_no_browser_would_send_is_no_setting(origin: str) -> None:
    """
    It would allow nobody, or everybody: the service says so instead of starting.
    """
    with pytest.raises(UnusableSetting, match="allowed_origins"):
        load_settings({}, {"JOBSVC_ALLOWED_ORIGINS": origin})


def test_origins_as_browsers_write_them_are_settings() -> None:
    """
    Ports that are not the scheme's, addresses, and this machine.
    """
    origins = (
        "https://app.example",
        "http://localhost:5173",
        "http://[::1]:3000",
        "https://10.0.0.1:8443",
        "http://a:443",
    )

    settings = load_settings({}, {"JOBSVC_ALLOWED_ORIGINS": ",".join(origins)}).settings

    assert origins == settings.allowed_origins


async def test_every_answer_tells_browsers_not_to_guess_frame_or_tell(world: World) -> None:
    """
    Answers, problems, streams, pages and preflights; a page's policy runs its own scripts only, none that stands in it.
    What the service is made of, and how old that is, is nobody's to know.
    """
    job = await world.guest.made()

    answers = [
        await world.guest.create(),
        await world.guest.get("/api/nothing"),
        await world.nobody.send("OPTIONS", "/api/jobs"),
        await world.guest.get("/healthz"),
        await world.worker.post("/api/worker/claim", {}),
        await world.nobody.get("/"),
        await world.nobody.get("/dashboard/app.js"),
    ]
    async with world.guest.stream(f"/api/jobs/{job['id']}/events") as frames:
        streamed = frames.response.headers

    for headers in [*(answer.headers for answer in answers), streamed]:
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "no-referrer" == headers["Referrer-Policy"]
        assert "DENY" == headers["X-Frame-Options"]
        assert "same-origin" == headers["Cross-Origin-Resource-Policy"]
        assert "jobsvc" == headers["Server"]
        assert 1 == len(headers.getall("Content-Security-Policy"))  # type: ignore[attr-defined]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    page = answers[-2].content.decode()
    assert "<script>" not in page
    assert "<style" not in page
    assert re.search(r"\son\w+=|style=|javascript:", page) is None


async def test_the_page_links_web_addresses_and_nothing_else() -> None:
    """
    A javascript: URL, or one that only looks like the web's, is text.
    """
    script = (Path(__file__).parents[2] / "clients" / "dashboard" / "src" / "words.js").read_text()
    function = script[script.index("function webAddress") :]
    function = function[: function.index("\n}\n") + 2]
    urls = [
        "https://x.com/a/status/1",
        "http://example.com/",
        "javascript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "/api/jobs",
        "vbscript:x",
        "blob:https://x/1",
        "https:",
        None,
    ]
    program = f"{function}\nconsole.log(JSON.stringify({json.dumps(urls)}.map(webAddress)));"

    process = await asyncio.create_subprocess_exec("node", "-e", program, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()

    assert ["https://x.com/a/status/1", "http://example.com/", *[None] * 10] == json.loads(output)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, None),
        ({"cookie_secure": True}, "max-age=31536000"),
        ({"cookie_secure": True, "hsts_max_age_s": 60}, "max-age=60"),
        ({"cookie_secure": True, "hsts_max_age_s": 0}, None),
    ],
)
async def test_behind_tls_browsers_are_told_to_come_over_tls_alone(
    start: Starter, settings: dict[str, JSON], told: str | None
) -> None:
    """
    On answers, refusals and pages, for this host and no other; in the clear it would not count, and is not said.
    """
    world = await start(**settings)

    answers = [await world.nobody.get(path) for path in ("/healthz", "/api/jobs", "/", "/api/nothing")]

    assert [told] * 4 == [answer.headers.get("Strict-Transport-Security") for answer in answers]
