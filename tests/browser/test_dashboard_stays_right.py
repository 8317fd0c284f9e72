"""
The dashboard when things do not go straight: what was asked for is refused or comes late, and people go back and forth.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from playwright.async_api import expect

from tests.browser.conftest import staged, until
from tests.browser.screens import browser_of, dashboard, operator
from tests.http.client import until as patiently
from tests.http.world import started
from tests.system.logs import tamper

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import APIResponse, Route

    from tests.browser.conftest import Stage

STEPS: Final = "document.querySelector('job-charts').stats?.steps"


def counted(event_type: str) -> str:
    """
    How many of that type the charts show, in the page's words.
    """
    return f"{STEPS}?.reduce((sum, {{ events }}) => sum + (events['{event_type}'] ?? 0), 0)"


async def test_a_list_that_was_filtered_away_is_back_at_its_top(stage: Stage) -> None:
    """
    After it had been scrolled far down, found empty, and asked for again.
    """
    jobs = [{"kind": "work", "owner": "user:u", "title": f"job {number}"} for number in range(400)]
    assert 200 == (await stage.world.backend.post("/api/jobs/batch", {"jobs": jobs})).status
    page = await operator(stage)
    await expect(page.locator(".rows [role=row]").first).to_be_visible()
    await page.locator(".rows").evaluate("(rows) => { rows.scrollTop = 15_000; }")
    await until(page, "() => !document.querySelector('.rows [aria-rowindex=\"2\"]')")

    await page.get_by_label("Find").fill("nothing is called this")
    await expect(page.get_by_text("No active job is like that")).to_be_visible()
    await page.get_by_label("Find").fill("")

    await expect(page.locator('.rows [aria-rowindex="2"]')).to_be_visible()


async def test_a_place_that_there_is_not_is_asked_for_once(stage: Stage) -> None:
    """
    However much happens meanwhile; no list of another moment is shown for it, and back at the present all is well.
    """
    context = await browser_of(stage, stage.world.operator.token)
    page = await dashboard(stage, context)
    stage.errors.clear()
    await page.evaluate("() => { history.pushState(null, '', '?at=nonsense'); dispatchEvent(new Event('popstate')); }")
    await expect(page.get_by_role("alert")).to_be_visible()
    stage.front.forget()

    for number in range(3):
        await stage.world.guest.made(title=f"job {number}")
        await expect(page.get_by_role("status").first).to_contain_text(f"{number + 1} active")
    asked = stage.front.asked.total()
    await page.keyboard.press("Escape")

    assert 0 == asked
    await expect(page.get_by_role("alert")).to_have_count(0)
    await expect(page.get_by_role("link", name="job 0")).to_be_visible()
    stage.errors.clear()


async def test_going_back_shows_the_filter_that_was(stage: Stage) -> None:
    """
    In the list and in what is chosen.
    """
    for kind in ("x-post", "page"):
        await stage.world.guest.made(title=f"a {kind}", kind=kind)
    page = await operator(stage)
    chosen = page.get_by_label("Kind")
    await chosen.select_option("page")
    await chosen.select_option("x-post")

    await page.go_back()
    await expect(chosen).to_have_value("page")
    await page.go_back()

    await expect(chosen).to_have_value("")
    await expect(page.get_by_role("link", name="a x-post")).to_be_visible()


async def test_a_jobs_page_that_could_not_be_read_is_right_after_the_next_change(stage: Stage) -> None:
    """
    What is known stays in sight meanwhile.
    """
    job = await stage.world.guest.made(title="one")
    page = await operator(stage, f"?job={job['id']}")
    await expect(page.locator(".timeline strong")).to_have_text(["created"])
    await page.route("**/api/jobs/**", lambda route: route.abort())
    grant = await stage.world.worker.claim()
    await expect(page.get_by_role("alert")).to_be_visible()
    kept = await page.locator(".timeline strong").count()
    await page.unroute("**/api/jobs/**")

    await stage.world.worker.complete(grant)

    await expect(page.locator(".timeline strong")).to_have_text(["created", "started", "completed"])
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert 1 == kept
    stage.errors[:] = [error for error in stage.errors if "ERR_FAILED" not in error]


async def test_what_was_done_leaves_the_keyboard_somewhere(stage: Stage) -> None:
    """
    The button that opened the dialog is of no use any more; whoever has no mouse goes on from the list.
    """
    for title in ("one", "two"):
        await stage.world.guest.made(title=title)
    page = await operator(stage)
    await page.get_by_label("Choose one").check()
    await page.get_by_role("button", name="Cancel or clean up 1").click()

    await page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()

    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.get_by_role("button", name="Cancel or clean up")).to_be_disabled()
    await expect(page.get_by_label("Rows")).to_be_focused()


async def test_charts_that_are_left_open_go_on(stage: Stage) -> None:
    """
    With the first event after a minute they are read again, and not with each; the minutes that passed are steps.
    """
    page = await operator(stage, "?view=charts")
    await expect(page.get_by_role("img", name="Jobs a minute")).to_be_visible()
    stage.front.forget()
    made = counted("job.created")
    await page.evaluate("() => { const now = performance.now(); performance.now = () => now + 600_000; }")
    stage.front.holds = "/api/stats"

    await stage.world.guest.made()
    await until(page, f"() => {made} === 1 && !{STEPS}.at(-1).levels")
    stage.front.heal()
    await until(page, f"() => {STEPS}.at(-1).levels")
    await stage.world.guest.made()

    await until(page, f"() => {made} === 2")
    assert 1 == stage.front.asked["GET /api/stats"]
    assert 60 <= await page.evaluate(f"() => {STEPS}.length") <= 61


async def test_charts_count_an_end_once(stage: Stage) -> None:
    """
    That a job which has ended gets another owner, or a result that comes too late, is no other end.
    """
    await stage.world.guest.made(key="before")
    await stage.world.worker.complete(await stage.world.worker.claim())
    page = await operator(stage, "?view=charts")
    await expect(page.get_by_role("img", name="Jobs a minute")).to_be_visible()
    await stage.world.guest.made(key="after")
    await stage.world.worker.complete(await stage.world.worker.claim())
    await until(page, f"() => {counted('job.completed')} === 2")

    answer = await stage.world.user.post("/api/sessions/claim", {"guest_token": stage.world.guest.token})
    await stage.world.user.made()
    await until(page, f"() => {counted('job.created')} === 3")

    assert 2 == answer.body["moved"]
    assert 2 == await page.evaluate(f"() => {counted('job.completed')}")


async def test_charts_that_were_read_twice_show_the_newer_answer(stage: Stage) -> None:
    """
    Whichever comes last.
    """
    page = await operator(stage, "?view=charts")
    await expect(page.get_by_role("img", name="Jobs a minute")).to_be_visible()
    held: list[tuple[Route, APIResponse]] = []

    async def hold(route: Route) -> None:
        held.append((route, await route.fetch()))

    await page.route("**/api/stats*", hold, times=1)
    await page.get_by_role("button", name="Read again").click()
    await patiently(lambda: len(held) == 1)
    async with page.expect_response("**/api/stats*"):
        await page.get_by_role("button", name="Read again").click()
    await until(page, "() => document.querySelector('job-charts').told === null")
    await stage.world.guest.made()
    await until(page, f"() => {counted('job.created')} === 1")

    ((older, answer),) = held
    async with page.expect_event("requestfinished"):
        await older.fulfill(response=answer)
    await page.get_by_role("link", name="API").evaluate("() => fetch('/healthz')")

    assert 1 == await page.evaluate(f"() => {counted('job.created')}")


async def test_charts_go_by_the_service_s_clock(stage: Stage) -> None:
    """
    A machine whose own is an hour fast does not show an hour in which nothing happened.
    """
    context = await browser_of(stage, stage.world.operator.token)
    await context.add_init_script("{ const now = Date.now; Date.now = () => now() + 3_600_000; }")
    await stage.world.guest.made()
    page = await dashboard(stage, context, "?view=charts")
    await until(page, f"() => {counted('job.created')} === 1")

    await stage.world.guest.made()

    await until(page, f"() => {counted('job.created')} === 2")


async def test_charts_show_the_duplicates_that_were_avoided(stage: Stage) -> None:
    """
    A second request for the same work is one.
    """
    for _ in range(2):
        await stage.world.guest.post("/api/jobs", {"kind": "x-post", "key": "one"})

    page = await operator(stage, "?view=charts")

    # In whichever minute: that one may end meanwhile.
    chart = page.get_by_role("img", name="Duplicates avoided a minute")
    await expect(chart).to_have_accessible_name(re.compile(r"avoided 1\b"))


async def test_charts_show_how_many_streams_were_open_and_who_was_behind(stage: Stage) -> None:
    """
    The dashboard's own is one of them, and what was is told beside what is; before the service ran there is nothing.
    """
    async with stage.world.guest.stream() as other:
        await other.until("ready")
        stage.world.service.gauge.look()
    page = await operator(stage, "?view=charts")

    open_streams = page.get_by_role("img", name="Open streams")
    await expect(open_streams).to_have_accessible_name(re.compile(r"at most open [12]$"))
    await expect(page.get_by_role("img", name="Events behind the log")).to_have_accessible_name(
        re.compile(r"at last projections \d+, streams \d+; at most")
    )
    first = await page.evaluate("() => document.querySelector('job-charts').stats.steps[0].levels")
    assert first is None


async def test_what_the_doctor_finds_by_itself_is_told_to_who_looks_at_the_charts(tmp_path: Path) -> None:
    """
    In its sentence, to viewers too, with no examination; only an operator can ask for one.
    """
    async with started(tmp_path / "jobs.db") as world:
        await world.guest.made()
    tamper(tmp_path / "jobs.db", "INSERT INTO history VALUES ('zz', 'user:ada', 'post', NULL, 'failed', 1, 2)")

    async with staged(tmp_path / "jobs.db", doctor_pause_s=0.0001, doctor_rest_s=0.001) as stage:
        await patiently(lambda: bool(stage.world.service.rounds.findings))
        page = await dashboard(stage, await browser_of(stage, stage.world.viewer.token), "?view=charts")

        await expect(page.get_by_role("alert")).to_contain_text("zz")
        await expect(page.get_by_role("button", name="Examine")).to_have_count(0)
        assert [] == stage.errors
