"""
A job's life on its page: drawn along time out of its events, kept up to date with little, and linked to other jobs.
"""

from __future__ import annotations

import asyncio
import json
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.async_api import expect

from jobsvc.domain.moments import rfc3339
from tests.browser.screens import operator

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.browser.conftest import Stage
    from tests.http.client import JSON

LANES: Final = Path(__file__).parents[2] / "clients" / "dashboard" / "src" / "lanes.js"
PROGRAM: Final = """
import { Life } from %s;
let events = "";
for await (const chunk of process.stdin) events += chunk;
const life = new Life();
life.goThrough(JSON.parse(events));
life.goOn(Date.parse("2026-11-24T08:00:00Z"));
console.log(JSON.stringify(life.lanes));
"""
PARSES_COUNTED: Final = """() => {
    const { parse } = Date;
    globalThis.parsed = 0;
    Date.parse = (text) => {
        parsed += 1;
        return parse(text);
    };
}"""
MOVED: Final = "(query) => { history.pushState(null, '', query); dispatchEvent(new Event('popstate')); }"
BEGAN_AT: Final = 1_795_500_000_000_000
STARTED: Final = {"attempt": 1, "worker": "w1", "fence": 1, "lease_s": 30}


def happened(*told: tuple[str, float, JSON]) -> list[JSON]:
    """
    Events of these types, each so many seconds after the one before.
    """
    moments = accumulate(seconds for _, seconds, _ in told)
    return [
        {"type": f"job.{name}", "at": rfc3339(BEGAN_AT + int(moment * 1_000_000)), "data": data}
        for (name, _, data), moment in zip(told, moments, strict=True)
    ]


async def drawn(*told: tuple[str, float, JSON]) -> list[JSON]:
    """
    The lanes of a job to which that happened.
    """
    program = PROGRAM % json.dumps(LANES.as_uri())
    process = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", program, stdin=-1, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(json.dumps(happened(*told)).encode())
    lanes: list[JSON] = json.loads(output)
    return lanes


def kinds(lanes: list[JSON]) -> list[list[str]]:
    """
    What each lane shows.
    """
    return [[part["kind"] for part in lane["parts"]] for lane in lanes]


def lengths(lane: JSON) -> list[float]:
    """
    How many seconds each part of *lane* lasted.
    """
    return [(part["to"] - part["from"]) / 1000 for part in lane["parts"]]


async def test_each_attempt_is_a_lane_with_the_wait_that_led_to_it() -> None:
    """
    Due, taken, failed, waited, taken and done; each part says so in words.
    """
    first, second = await drawn(
        ("created", 0, {"state": "scheduled"}),
        ("due", 60, {}),
        ("started", 4, STARTED),
        ("attempt_failed", 10, {"error": {"code": "busy", "message": "slow down"}, "due_at": rfc3339(BEGAN_AT)}),
        ("due", 5, {}),
        ("started", 1, STARTED | {"attempt": 2, "worker": "w2", "fence": 2}),
        ("completed", 7, {"report": {"fence": 2}}),
    )

    assert [["scheduled", "queued", "failed"], ["retrying", "queued", "completed"]] == kinds([first, second])
    assert ([60, 4, 10], [5, 1, 7]) == (lengths(first), lengths(second))
    assert "Not due yet: 1 min" == first["parts"][0]["words"]
    assert "Attempt 1 by w1: failed (slow down), 10 s; a lease of 30 s" == first["parts"][2]["words"]
    assert ("Attempt 2", "w2") == (second["name"], second["worker"])


async def test_progress_is_a_line_in_its_attempt_and_renews_the_lease() -> None:
    """
    Each report of it is a point; one without a percentage renews the lease only.
    """
    (lane,) = await drawn(
        ("created", 0, {"state": "queued"}),
        ("started", 1, STARTED),
        ("progressed", 2, {"percent": 20}),
        ("progressed", 2, {"message": "still at it"}),
        ("progressed", 2, {"percent": 60}),
    )

    work = lane["parts"][1]["work"]
    assert ([20, 60], 4) == ([percent for _, percent in work["progress"]], len(work["renewed"]))
    assert lane["parts"][1]["words"].endswith("progress 60 %; a lease of 30 s, renewed by progress 3 times")


async def test_a_lost_lease_shows_how_long_nothing_was_heard() -> None:
    """
    As long as the lease was, no longer than the attempt; what comes of it later is in its lane, whoever has the job.
    """
    lost, last = await drawn(
        ("created", 0, {"state": "queued"}),
        ("started", 1, STARTED),
        ("lease_expired", 50, {"due_at": rfc3339(BEGAN_AT)}),
        ("started", 2, STARTED | {"fence": 2, "worker": "w2"}),
        ("late_result", 3, {"report": {"fence": 1}}),
    )

    assert [["queued", "lost", "silent", "late"], ["queued", "running"]] == kinds([lost, last])
    assert [1, 50, 30, 0] == lengths(lost)
    assert lost["parts"][3]["words"].startswith("A result that came too late was kept aside")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([("cancelled", 5, {"reason": "requested"})], [["queued", "cancelled"]]),
        ([("expired", 5, {"reason": "deadline"})], [["queued", "expired"]]),
        ([("started", 1, STARTED), ("released", 5, {})], [["queued", "released"], ["queued"]]),
        (
            [("started", 1, STARTED), ("cancel_requested", 2, {}), ("cancelled", 5, {})],
            [["queued", "cancelled", "stop"]],
        ),
        ([("owner_changed", 1, {}), ("erased", 1, {})], [["queued", "other", "other"]]),
        (
            [("started", 1, STARTED), ("lease_expired", 9, {}), ("completed", 2, {"report": {"fence": 1}})],
            [["queued", "lost", "silent", "completed"], ["queued"]],
        ),
        ([("started", 1, STARTED), ("failed", 5, {}), ("late_result", 1, {})], [["queued", "failed", "late"]]),
    ],
)
async def test_whatever_happens_to_a_job_has_its_place(
    told: list[tuple[str, float, JSON]], expected: list[list[str]]
) -> None:
    """
    Whether somebody was at work or not.
    """
    assert expected == kinds(await drawn(("created", 0, {"state": "queued"}), *told))


async def test_a_life_is_gone_through_with_the_arrow_keys(stage: Stage) -> None:
    """
    One stop for the keyboard; from part to part it is said what one is on, and the list tells the same.
    """
    job = await stage.world.guest.made(title="one")
    error = {"code": "x", "message": "no"}
    await stage.world.worker.report(await stage.world.worker.claim(), "fail", error=error, retry_after_s=600)
    page = await operator(stage, f"?job={job['id']}")
    parts = page.get_by_role("group", name="Parts").get_by_role("button")
    await expect(parts).to_have_count(3)

    await parts.first.focus()
    for key, words in (
        ("ArrowRight", "Attempt 1"),
        ("End", "Waited for the next attempt"),
        ("ArrowLeft", "Attempt 1"),
        ("Home", "Waited for a worker"),
    ):
        await page.keyboard.press(key)
        await expect(page.locator(".lifeline output")).to_contain_text(words)
        await expect(page.locator(".lifeline button:focus")).to_have_attribute("aria-current", "true")

    assert 1 == await page.locator(".lifeline button[tabindex='0']").count()
    await expect(page.locator(".timeline strong")).to_have_text(["created", "started", "attempt failed"])


async def test_what_is_pointed_at_stays_when_one_more_lane_begins(stage: Stage) -> None:
    """
    Though it is another of those that are drawn; the focus stays with it.
    """
    job = await stage.world.guest.made(title="one")
    for number in range(11):
        await stage.world.worker.report(await stage.world.worker.claim(worker=f"w{number}"), "release")
    page = await operator(stage, f"?job={job['id']}")
    pointed = page.locator(".lifeline button[aria-label*='by w3:']")
    said = page.locator(".lifeline output")
    await pointed.focus()
    await expect(said).to_contain_text("by w3:")

    await stage.world.worker.report(await stage.world.worker.claim(worker="w11"), "release")
    await expect(page.get_by_text("The last 12 of 13 lanes")).to_be_visible()

    await expect(said).to_contain_text("by w3:")
    await expect(pointed).to_be_focused()
    await expect(pointed).to_have_attribute("aria-current", "true")


async def test_a_life_goes_on_by_the_second_without_being_gone_through_again(stage: Stage) -> None:
    """
    What goes on gets longer, and no event is looked at for it; where nobody sees it, it is left alone.
    """
    job = await stage.world.guest.made(title="one")
    page = await operator(stage, f"?job={job['id']}")
    await page.clock.install()
    await page.reload()
    said = page.locator(".lifeline output")
    await expect(said).to_contain_text("Waited for a worker")
    await page.evaluate(PARSES_COUNTED)

    before = await said.inner_text()
    await page.clock.run_for(5_000)
    await expect(said).not_to_have_text(before)
    parsed = await page.evaluate("() => parsed")
    await page.evaluate("() => Object.defineProperty(document, 'visibilityState', { value: 'hidden' })")
    # What was asked to be drawn before that is drawn.
    await page.clock.run_for(1_000)
    hidden = await said.inner_text()
    await page.clock.run_for(5_000)

    assert 0 == parsed
    assert hidden == await said.inner_text()


async def test_a_change_costs_one_small_question(stage: Stage) -> None:
    """
    What the stream does not tell of it: the events after the last that is known, and nothing that is.
    """
    job = await stage.world.guest.made(title="one")
    grant = await stage.world.worker.claim()
    page = await operator(stage, f"?job={job['id']}")
    await expect(page.locator(".timeline strong")).to_have_text(["created", "started"])
    asked = questions(page)

    for percent in (10, 20):
        await stage.world.worker.report(grant, "progress", percent=percent, message=f"{percent} there")
        await expect(page.locator(".timeline li").last).to_contain_text(f"{percent} there")
        stage.world.clock.advance(2)

    last = (await stage.world.guest.read(job["id"]))["position"]
    assert [f"/api/jobs/{job['id']}/events?limit=500&after={after}" for after in (last - 2, last - 1)] == asked
    await expect(page.locator(".timeline strong")).to_have_text(["created", "started", "progressed"])


async def test_another_state_costs_its_explanation_too(stage: Stage) -> None:
    """
    And an end the question for those that retry it; the job itself is what the stream told.
    """
    job = await stage.world.guest.made(key="one")
    page = await operator(stage, f"?job={job['id']}")
    await expect(page.get_by_text("It is active because it waits")).to_be_visible()
    asked = questions(page)

    grant = await stage.world.worker.claim()
    await expect(page.get_by_text("has worked on it since")).to_be_visible()
    started = {path.partition("?")[0].rpartition("/")[2] for path in asked}
    count = len(asked)
    await stage.world.worker.complete(grant)
    await expect(page.get_by_text("reported success in attempt 1")).to_be_visible()

    assert ({"events", "explain"}, 2) == (started, count)
    assert f"/api/jobs/{job['id']}" not in asked


async def test_who_asks_for_it_once_more_is_explained_too(stage: Stage) -> None:
    """
    It is no other state, attempt or owner; but why one was given this job is told of all who asked.
    """
    job = await stage.world.guest.made(key="one")
    page = await operator(stage, f"?job={job['id']}")
    await expect(page.get_by_text("It is active because it waits")).to_be_visible()

    await stage.world.guest.create(key="one", dedup={"on_active": "run_after"})

    await expect(page.locator(".why")).to_contain_text("asked for the same work with run_after")


def questions(page: Page) -> list[str]:
    """
    What the page asks the service from now on.
    """
    asked: list[str] = []

    def note(request: Any) -> None:  # noqa: ANN401  # playwright's
        if "/api/" in request.url:
            asked.append("/api/" + request.url.partition("/api/")[2])

    page.on("request", note)
    return asked


async def test_a_large_input_is_read_once(stage: Stage) -> None:
    """
    A stream leaves it out, and the page still has it after a change.
    """
    job = await stage.world.guest.made(title="one", input={"text": "x" * 20_000})
    page = await operator(stage, f"?job={job['id']}")
    await expect(page.locator(".timeline strong")).to_have_text(["created"])
    asked = questions(page)

    await stage.world.worker.claim()
    await expect(page.locator(".timeline strong")).to_have_text(["created", "started"])

    assert f"/api/jobs/{job['id']}" not in asked
    await page.get_by_text("Input").click()
    await expect(page.locator("pre")).to_contain_text("x" * 20_000)


async def test_words_that_are_none_widen_no_page(stage: Stage) -> None:
    """
    The longest key, kind, worker, message and error that there may be, on a telephone; the key is whole on demand.
    """
    word = {name: name[0] * length for name, length in (("key", 2_000), ("kind", 64), ("worker", 200), ("told", 1_000))}
    job = await stage.world.guest.made(key=word["key"], kind=word["kind"], url="https://example.com/" + "p" * 2_000)
    grant = await stage.world.worker.claim(worker=word["worker"])
    await stage.world.worker.report(grant, "progress", percent=5, message=word["told"])
    error = {"code": "code", "message": word["told"]}
    await stage.world.worker.report(grant, "fail", error=error, retry_after_s=600)
    page = await operator(stage, f"?job={job['id']}", viewport={"width": 375, "height": 700})
    await expect(page.locator(".timeline li")).to_have_count(4)

    over = await page.evaluate(
        "() => { const m = document.querySelector('main'); return m.scrollWidth - m.clientWidth; }"
    )
    await page.get_by_role("definition").get_by_text(f"{word['key'][:80]}…", exact=True).click()

    assert 0 == over
    await expect(page.locator("dd details[open]")).to_contain_text(word["key"])


@pytest.mark.parametrize("key", [{"key": "one"}, {}])
async def test_a_retry_and_what_it_retries_link_to_each_other(stage: Stage, key: dict[str, str]) -> None:
    """
    As soon as there is one, without a reload; with a key also once the retry has ended.
    """
    job = await stage.world.guest.made(title="one", **key)
    await stage.world.guest.cancel(job["id"])
    page = await operator(stage, f"?job={job['id']}")
    await expect(page.locator(".timeline strong").last).to_have_text("cancelled")

    retry = (await stage.world.guest.retry(job["id"])).job
    await page.get_by_role("link", name=retry["id"]).click()
    await expect(page.locator("dt", has_text="Retry of")).to_be_visible()
    await page.get_by_role("link", name=job["id"]).click()
    await expect(page.locator("dt", has_text="Retried as")).to_be_visible()

    await stage.world.guest.cancel(retry["id"])
    await page.reload()
    await expect(page.locator(".timeline strong").last).to_have_text("cancelled")
    await expect(page.get_by_role("link", name=retry["id"])).to_have_count(1 if key else 0)


async def test_a_follow_up_and_what_it_follows_link_to_each_other(stage: Stage) -> None:
    """
    From the end that made it on.
    """
    job = await stage.world.guest.made(key="k", title="one")
    await stage.world.guest.create(key="k", title="two", dedup={"on_active": "run_after"})
    page = await operator(stage, f"?job={job['id']}")
    ended = await stage.world.worker.complete(await stage.world.worker.claim())

    await page.get_by_role("link", name=ended["followed_by"]).click()
    await expect(page.get_by_role("heading", name="two")).to_be_visible()
    await page.get_by_role("link", name=job["id"]).click()

    await expect(page.get_by_role("heading", name="one")).to_be_visible()


async def test_a_job_is_not_kept_waiting_by_the_one_that_was_looked_at_before(stage: Stage) -> None:
    """
    What was still being read of that one is not read on, and nothing of it is shown as this one's.
    """
    first = await stage.world.guest.made(title="one")
    second = await stage.world.guest.made(title="two")
    page = await operator(stage)
    stage.front.holds = f"/api/jobs/{first['id']}"
    await page.get_by_role("link", name="one").click()
    await expect(page.get_by_text("Loading.")).to_be_visible()

    async with page.expect_event("requestfailed", lambda request: first["id"] in request.url, timeout=5_000):
        await page.evaluate(MOVED, f"?job={second['id']}")

    await expect(page.get_by_role("heading", name="two")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)
    stage.front.heal()


async def test_duplicates_that_a_job_spared_stand_on_its_page(stage: Stage) -> None:
    """
    In the words of its explanation.
    """
    job = await stage.world.guest.made(key="k", title="one")
    for _ in range(2):
        await stage.world.guest.create(key="k")

    page = await operator(stage, f"?job={job['id']}")

    await expect(page.get_by_text("Since the service started it was given 2 times")).to_be_visible()
