"""
The dashboard in a real browser: what an operator sees and does, and what nobody may bring about there.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.async_api import expect

from tests.browser.conftest import until
from tests.browser.screens import browser_of, dashboard, faults, operator

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.browser.conftest import Stage

ROOT: Final = Path(__file__).parents[2]
BUILT: Final = ROOT / "jobsvc" / "http"
LINK_PATIENCE_MS: Final = 10_000
SCRIPT: Final = "<img src=x onerror=alert(1)><script>alert(1)</script>"


TICKING: Final = """() => {
    globalThis.turns = [];
    let before = performance.now();
    const tick = () => {
        const now = performance.now();
        turns.push(now - before);
        before = now;
        setTimeout(tick, 0);
    };
    tick();
}"""


async def longest_turn_ms(page: Page) -> float:
    """
    How long 99 of 100 turns of a ticking page took at most.
    """
    turns = sorted(await page.evaluate("() => turns"))
    return float(turns[int(len(turns) * 0.99)])


async def test_a_job_appears_moves_and_leaves_with_no_reload(stage: Stage) -> None:
    """
    Made, run and ended through the API, with nothing asked for by the page.
    """
    page = await operator(stage)
    await expect(page.get_by_text("No job is active")).to_be_visible()
    stage.front.forget()

    await stage.world.guest.made(title="a post")
    await expect(page.get_by_role("link", name="a post")).to_be_visible()
    grant = await stage.world.worker.claim()
    await stage.world.worker.report(grant, "progress", percent=40, message="reading replies")
    await expect(page.get_by_text("reading replies")).to_be_visible()
    await stage.world.worker.complete(grant)

    await expect(page.get_by_text("No job is active")).to_be_visible()
    assert 0 == stage.front.asked.total()


async def test_a_row_names_its_job_and_the_key_of_its_work(stage: Stage) -> None:
    """
    Beside state, progress, kind, owner, attempt, worker and age; a key that is the name already is not said twice.
    """
    await stage.world.guest.made(title="monthly report", key="report:2026-11")
    await stage.world.guest.made(title=None, key="report:2026-12")
    await stage.world.worker.claim()

    page = await operator(stage)
    named = page.get_by_role("row").filter(has_text="monthly report")
    unnamed = page.get_by_role("row").filter(has_text="report:2026-12")

    await expect(named.get_by_text("report:2026-11", exact=True)).to_be_visible()
    await expect(unnamed.get_by_text("report:2026-12", exact=True)).to_have_count(1)
    assert ["guest", "1 of 3"] == [await named.get_by_role("cell").nth(place).inner_text() for place in (5, 6)]


async def test_seven_dashboards_of_one_principal_hold_one_stream(stage: Stage) -> None:
    """
    And ask for nothing while nothing happens.
    """
    context = await browser_of(stage, stage.world.viewer.token)
    for _ in range(7):
        await dashboard(stage, context)
    stage.front.forget()

    await asyncio.sleep(3)

    assert 1 == await stage.streams()
    assert {} == dict(stage.front.asked)


async def test_what_is_looked_for_stands_in_the_address(stage: Stage) -> None:
    """
    Filters narrow the list, a link with them shows the same, and what there is to choose from is what is there.
    """
    await stage.world.guest.made(title="first", kind="x-post")
    await stage.world.guest.made(title="second", kind="page")
    page = await operator(stage)

    await page.get_by_label("Kind").select_option("page")
    await expect(page.get_by_role("link", name="first")).to_have_count(0)
    await page.get_by_label("Find").fill("sec")
    again = await dashboard(stage, page.context, page.url.partition("/")[2].partition("/")[2].partition("/")[2])

    await expect(again.get_by_role("link", name="second")).to_be_visible()
    await expect(again.get_by_role("link", name="first")).to_have_count(0)
    assert {"kind=page", "q=sec"} == set(page.url.partition("?")[2].split("&"))


async def test_a_list_can_be_held_and_let_go(stage: Stage) -> None:
    """
    While it is held nothing moves under the reader's eyes; then everything is there at once.
    """
    await stage.world.guest.made(title="first")
    page = await operator(stage)
    await page.get_by_role("button", name="Pause").click()
    await stage.world.guest.made(title="second")
    await expect(page.get_by_role("status").first).to_contain_text("2 active")
    held = await page.get_by_role("link", name="second").count()

    await page.get_by_role("button", name="Go on").click()

    assert 0 == held
    await expect(page.get_by_role("link", name="second")).to_be_visible()


async def test_the_list_as_it_was_and_back_in_one_key(stage: Stage) -> None:
    """
    As of a position the list is what it was then; Escape shows what is now.
    """
    first = await stage.world.guest.made(title="ended since")
    await stage.world.worker.complete(await stage.world.worker.claim())
    await stage.world.guest.made(title="there now")

    page = await operator(stage, f"?at={first['position']}")

    await expect(page.get_by_role("link", name="ended since")).to_be_visible()
    await expect(page.get_by_role("link", name="there now")).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="there now")).to_be_visible()
    await expect(page.get_by_role("link", name="ended since")).to_have_count(0)


async def test_a_jobs_page_tells_its_life(stage: Stage) -> None:
    """
    Each event in order, live to its end, its input folded and its address a link.
    """
    job = await stage.world.guest.made(url="https://example.com/a", input={"depth": 2})
    page = await operator(stage, f"?job={job['id']}")
    grant = await stage.world.worker.claim()
    await stage.world.worker.complete(grant, {"saved": True})

    await expect(page.locator(".timeline strong")).to_have_text(["created", "started", "completed"])
    await expect(page.get_by_role("link", name="https://example.com/a")).to_have_attribute(
        "href", "https://example.com/a"
    )
    await page.get_by_text("Input").click()
    await expect(page.locator("pre").first).to_contain_text('"depth": 2')
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()


async def test_the_charts_say_what_happened_and_the_doctor_what_is_wrong(stage: Stage) -> None:
    """
    Figures are there at once, the stream counts on, and an examination tells in sentences.
    """
    await stage.world.guest.made(title="one")
    page = await operator(stage, "?view=charts")
    await expect(page.get_by_role("img", name="Jobs a minute")).to_have_accessible_name(re.compile("made 1,"))

    await stage.world.guest.made(title="two")
    # Together, since the minute of the first may end before the second.
    steps = "document.querySelector('job-charts').stats.steps"
    await until(page, f"() => {steps}.reduce((sum, {{ events }}) => sum + (events['job.created'] ?? 0), 0) === 2")
    await page.get_by_role("button", name="Examine").click()

    await expect(page.get_by_text("Nothing is wrong")).to_be_visible(timeout=15_000)


async def test_an_operator_cancels_some_and_says_why(stage: Stage) -> None:
    """
    The dialog names what it touches; the log has the reason.
    """
    for title in ("one", "two", "three"):
        await stage.world.guest.made(title=title)
    page = await operator(stage)
    for title in ("one", "two"):
        await page.get_by_label(f"Choose {title}").check()

    await page.get_by_role("button", name="Cancel or clean up 2").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("listitem")).to_have_count(2)
    await dialog.get_by_label("Reason").fill("made by mistake")
    await dialog.get_by_role("button", name="Cancel 2").click()

    await expect(page.get_by_role("link", name="three")).to_be_visible()
    await expect(page.get_by_role("link", name="one")).to_have_count(0)
    log = await stage.world.log()
    assert ["made by mistake"] * 2 == [event["data"]["reason"] for event in log if event["type"] == "job.cancelled"]


async def test_a_viewer_sees_no_act_that_it_may_not_do(stage: Stage) -> None:
    """
    On the list and on a job's page.
    """
    job = await stage.world.guest.made(title="one")
    context = await browser_of(stage, stage.world.viewer.token)
    page = await dashboard(stage, context)
    await expect(page.get_by_role("link", name="one")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    await expect(page.get_by_role("checkbox")).to_have_count(0)

    await page.get_by_role("link", name="one").click()

    await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert page.url.endswith(f"?job={job['id']}")


async def test_what_anybody_submits_is_text(stage: Stage) -> None:
    """
    Script in every field is shown as it was written; a javascript: URL is no link.
    """
    job = await stage.world.guest.made(
        title=SCRIPT, key=SCRIPT, input={SCRIPT: SCRIPT}, metadata={SCRIPT: SCRIPT}, kind="x-post"
    )
    grant = await stage.world.worker.claim(worker=SCRIPT)
    await stage.world.worker.report(grant, "progress", percent=1, message=SCRIPT)
    page = await operator(stage)
    await expect(page.get_by_role("link", name=SCRIPT)).to_be_visible()

    await page.goto(f"{stage.front.url}/?job={job['id']}")

    await expect(page.get_by_role("heading", name=SCRIPT)).to_be_visible()
    assert 0 == await page.locator("img, main script").count()
    assert 0 == await page.locator("a[href^='javascript']").count()


async def test_a_code_in_the_fragment_signs_in_once(stage: Stage) -> None:
    """
    The link that the service printed; the code is gone from the address.
    """
    code, _ = stage.world.service.identity.links.make(await _operator_bearer(stage))
    context = await browser_of(stage, None)

    page = await dashboard(stage, context, f"#code={code}")

    assert "code" not in page.url


@pytest.mark.parametrize("trouble", ["an answer that is an error", "no answer", "no answer for long"])
async def test_a_link_that_could_not_be_looked_at_is_not_lost(stage: Stage, trouble: str) -> None:
    """
    It is good once, and was not used: it stays in the address until the service has taken it.
    """
    code, _ = stage.world.service.identity.links.make(await _operator_bearer(stage))
    context = await browser_of(stage, None)
    if trouble == "no answer":
        await context.route("**/api/sessions/link", lambda route: route.abort())
    elif trouble == "no answer for long":
        stage.front.holds = "/api/sessions/link"
        await context.clock.install()
    else:
        stage.front.fails = "/api/sessions/link"
    page = await dashboard(stage, context, f"#code={code}", live=False)
    if trouble == "no answer for long":
        shown = "() => getComputedStyle(document.querySelector('job-dashboard'), '::before').content"
        assert "Loading" in await page.evaluate(shown)
        await page.clock.fast_forward(LINK_PATIENCE_MS)
    await expect(page.get_by_role("alert")).to_contain_text("could not look at your link")
    assert page.url.endswith(f"#code={code}")
    assert [] == await faults(page)

    stage.front.heal()
    await context.unroute_all()
    await page.get_by_role("button", name="Try again").click()

    await expect(page.get_by_role("status").first).to_contain_text("live")
    assert "code" not in page.url
    stage.errors[:] = [error for error in stage.errors if not error.startswith("Failed to load resource")]


async def _operator_bearer(stage: Stage) -> Any:  # noqa: ANN401  # of the service's own making
    from jobsvc.domain.words import Principal  # noqa: PLC0415  # used here only
    from jobsvc.tokens import Bearer  # noqa: PLC0415  # the same

    return Bearer(Principal("operator", "dashboard"), expires_at=stage.world.clock.now() + 10**9)


async def test_who_is_not_signed_in_is_told_how(stage: Stage) -> None:
    """
    With a form for a token; a wrong one is not believed.
    """
    page = await dashboard(stage, await browser_of(stage, None), live=False)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    await page.get_by_label("Token").fill(stage.world.viewer.token or "")
    await page.get_by_role("button", name="Sign in").click()

    await expect(page.get_by_role("status").first).to_contain_text("live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
async def test_nothing_is_seriously_wrong_for_anybody(stage: Stage, scheme: str, width: int) -> None:
    """
    axe-core on the sign-in, the empty list, a full one, a job's page, the charts and a dialog; nothing is cut off.
    """
    look: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    wrong = await faults(await dashboard(stage, await browser_of(stage, None, **look), live=False))
    page = await operator(stage, **look)
    wrong += await faults(page)
    job = await stage.world.guest.made(url="https://example.com/a", input={"a": 1})
    await expect(page.get_by_role("link", name="example.com")).to_be_visible()
    wrong += await faults(page)
    await page.get_by_role("checkbox").first.check()
    await page.get_by_role("button", name="Cancel or clean up").click()
    wrong += await faults(page)
    for query in (f"?job={job['id']}", "?view=charts"):
        await page.goto(f"{stage.front.url}/{query}")
        await expect(page.get_by_role("heading").first).to_be_visible()
        wrong += await faults(page)
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")

    assert [] == wrong


async def test_it_can_be_used_with_the_keyboard_alone(stage: Stage) -> None:
    """
    From the address bar to a job's page, and through the dialog.
    """
    await stage.world.guest.made(title="one")
    page = await operator(stage)
    await expect(page.get_by_role("link", name="one")).to_be_visible()

    await page.get_by_label("Rows").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    await page.get_by_role("button", name="Cancel").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")

    await expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("", "() => [...document.querySelectorAll('option')].some((one) => one.text === 'running (2000)')"),
        ("?view=charts", "() => [...document.querySelectorAll('td')].some((one) => one.textContent === '2000')"),
    ],
)
async def test_ten_thousand_rows_and_a_burst_leave_the_page_answering(stage: Stage, query: str, seen: str) -> None:
    """
    With ten thousand jobs only the rows in sight are drawn, and while 2,000 events come no turn of the page is long.

    A tab that does nothing ticks beside it: how late the machine lets it be is no fault of the page.
    """
    for first in range(0, 10_000, 500):
        jobs = [{"kind": "work", "title": f"job {number}"} for number in range(first, first + 500)]
        owner = f"user:u{first // 500}"
        answer = await stage.world.backend.post("/api/jobs/batch", {"jobs": [job | {"owner": owner} for job in jobs]})
        assert 200 == answer.status
    page = await operator(stage, query)
    await expect(page.get_by_role("status").first).to_contain_text("10000 active", timeout=30_000)
    drawn = await page.locator(".rows [role=row]").count()

    idle = await page.context.new_page()
    for each in (page, idle):
        await each.evaluate(TICKING)
    for _ in range(4):
        grants = await stage.world.worker.claims(max=500)
        assert 500 == len(grants)
    await until(page, seen)
    longest_ms, machine_ms = [await longest_turn_ms(each) for each in (page, idle)]

    assert drawn < 100
    assert longest_ms - machine_ms < 100


def test_the_first_paint_weighs_little() -> None:
    """
    Everything that the page loads is at most 150 KB, gzipped.
    """
    files = [BUILT / "dashboard" / name for name in ("index.html", "app.js", "app.css")]
    files += [BUILT / "client" / name for name in ("jobsvc.js", "worker.js")]

    assert sum(len(gzip.compress(file.read_bytes(), 9)) for file in files) <= 150_000
