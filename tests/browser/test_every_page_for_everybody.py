"""
Every page of the dashboard for everybody: who has no mouse, who means harm, who has very many jobs, who may not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio
from playwright.async_api import expect

from jobsvc.store.sqlite import SqliteStore
from tests.browser.conftest import staged
from tests.browser.house import PLACES, House, entered, every_place, sound
from tests.browser.screens import browser_of, dashboard
from tests.store.histories import History, job_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page, Route


pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKUP: Final = "<img src=x onerror=alert(1)><script>alert(1)</script>"
SCRIPT_ADDRESS: Final = "javascript:alert(1)"
FOCUSABLE: Final = "a[href], button, input, select, summary, [tabindex='0']"


# --- the keyboard ---


@every_place
async def test_all_of_a_page_is_reached_with_the_tab_key_and_one_sees_where_one_is(house: House, name: str) -> None:
    """
    Every link, button and field, each with an outline while it has the focus, and out again at the end.
    """
    page = await house.page(name, await house.made(input={"depth": 1}))
    await expect(PLACES[name].shows(page)).to_be_visible()
    wanted = await page.evaluate(
        """(focusable) => [...document.querySelectorAll(focusable)]
            .filter((one) => !one.disabled && one.checkVisibility())
            .map((one, place) => (one.dataset.place = String(place)))""",
        FOCUSABLE,
    )

    await page.evaluate("() => document.activeElement.blur()")
    reached, unseen = set(), []
    for _ in range(len(wanted) + 1):
        await page.keyboard.press("Tab")
        place, outline, said = await page.evaluate(
            """() => {
                const on = document.activeElement;
                return [on.dataset.place ?? null, getComputedStyle(on).outlineStyle, on.outerHTML.slice(0, 80)];
            }"""
        )
        reached.add(place)
        if outline == "none" and place is not None:
            unseen.append(said)

    assert set(wanted) == reached - {None}
    assert [] == unseen


async def test_signing_in_and_going_to_another_page_need_no_mouse(house: House) -> None:
    """
    Typed and sent with Enter; then from link to link.
    """
    context = await browser_of(house.stage, None)
    page = await dashboard(house.stage, context, live=False)
    await page.get_by_label("Token").focus()
    await page.keyboard.insert_text(house.world.operator.token or "")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").first).to_contain_text("live")

    await page.get_by_role("link", name="Charts").focus()
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("heading", name="Charts")).to_be_visible()
    await context.close()


async def test_the_slider_moves_with_the_arrow_keys_and_escape_is_back(house: House) -> None:
    """
    One position a press.
    """
    await house.made()
    job = await house.made(title="two")
    page = await house.page("active", job)
    await page.get_by_label("As of position").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.get_by_text(f"as of {job['position'] - 1} of")).to_be_visible()

    await page.keyboard.press("Escape")

    await expect(page.get_by_text("now", exact=True)).to_be_visible()
    assert "at=" not in page.url


async def test_a_job_is_chosen_and_cancelled_without_a_mouse(house: House) -> None:
    """
    Through the dialog, with a reason.
    """
    job = await house.made()
    page = await house.page("active", job)
    await page.get_by_label("Choose one").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("button", name="Cancel or clean up 1").focus()
    await page.keyboard.press("Enter")
    await page.get_by_label("Reason").focus()
    await page.keyboard.insert_text("by hand")
    await page.keyboard.press("Enter")

    await expect(page.get_by_text("No job is active.")).to_be_visible()
    assert "by hand" == (await house.world.operator.read(job["id"]))["reason"]


# --- the dialog ---


async def test_the_dialog_shows_how_far_it_is_and_can_be_looked_at_by_anybody(house: House) -> None:
    """
    While it acts nothing in it can be pressed twice.
    """
    page = await house.page("job", await house.made())
    dialog = await house.dialog(page)
    await sound(page)
    house.front.holds = "/api/jobs/"

    await dialog.get_by_role("button", name="Cancel it").click()

    await expect(dialog.get_by_role("button", name="0 of 1")).to_be_disabled()
    await expect(dialog.get_by_role("button", name="Close")).to_be_disabled()
    await sound(page)
    house.front.heal()
    await expect(dialog).to_have_count(0)


async def test_the_dialog_stays_until_it_is_through_however_often_escape_is_pressed(house: House) -> None:
    """
    What was refused is told; then it closes with one press.
    """
    page = await house.page("job", await house.made())
    dialog = await house.dialog(page)
    house.front.holds = house.front.fails = "/api/jobs/"
    await dialog.get_by_role("button", name="Cancel it").click()
    await expect(dialog.get_by_role("button", name="0 of 1")).to_be_disabled()

    for _ in range(3):
        await page.keyboard.press("Escape")
    house.front.holds = ""
    house.front.go_on()
    await expect(dialog.get_by_role("alert")).to_contain_text("0 done, 1 not")
    await page.keyboard.press("Escape")

    await expect(dialog).to_have_count(0)


async def test_what_the_dialog_could_not_do_can_be_tried_again_there(house: House) -> None:
    """
    The reason that was typed is kept, and what was done is not done twice.
    """
    page = await house.page("job", job := await house.made())
    dialog = await house.dialog(page)
    await dialog.get_by_label("Reason").fill("by mistake")
    house.front.fails = "/api/jobs/"
    await dialog.get_by_role("button", name="Cancel it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("0 done, 1 not")
    await sound(page)

    house.front.heal()
    await dialog.get_by_role("button", name="Try 1 again").click()

    await expect(dialog).to_have_count(0)
    assert "by mistake" == (await house.world.operator.read(job["id"]))["reason"]


# --- the doctor ---


async def test_the_doctor_says_that_it_is_at_it_and_when_it_could_not_be_asked(house: House) -> None:
    """
    Asked again it answers.
    """
    page = await house.page("charts", {})
    examine = page.get_by_role("button", name="Examin")
    house.front.holds = house.front.fails = "/api/operator/doctor"
    await examine.click()
    await expect(examine).to_be_disabled()
    house.front.holds = ""
    house.front.go_on()
    said = "Nothing could be examined. The service answered 500. Examine again in a moment."
    await expect(page.get_by_role("alert")).to_have_text(said)
    await sound(page)

    house.front.heal()
    await examine.click()

    await expect(page.get_by_text("Nothing is wrong.")).to_be_visible(timeout=15_000)
    await expect(page.get_by_role("alert")).to_have_count(0)


# --- who means harm ---


async def test_whatever_anybody_writes_is_shown_as_it_was_written(house: House) -> None:
    """
    Markup in every field that takes text, on every page that shows it: no element comes of it, and no link.
    """
    rude = house.world.caller("guest", MARKUP)
    told = {"title": MARKUP, "key": MARKUP, "input": {MARKUP: MARKUP}, "metadata": {MARKUP: MARKUP}}
    job = await rude.made(**told)
    grant = await house.world.worker.claim(worker=MARKUP)
    await house.world.worker.report(grant, "progress", percent=1, message=MARKUP, data={MARKUP: MARKUP})
    await rude.cancel(job["id"], reason=MARKUP)
    position = await house.world.position()

    for name in PLACES:
        page = await house.page(name, job | {"position": position})
        await expect(page.get_by_role("main")).to_contain_text(MARKUP)
        assert 0 == await page.locator("main img, main script, main [onerror]").count(), name
    page = await house.page("job", job)
    dialog = await house.dialog(page)
    await expect(dialog).to_contain_text(MARKUP)
    house.front.fails = "/api/jobs/"
    await dialog.get_by_role("button", name="Cancel it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text(MARKUP)
    house.front.heal()
    assert 0 == await page.locator("dialog img, dialog script, dialog [onerror]").count()


async def test_what_failed_is_told_in_words_and_never_as_markup(house: House) -> None:
    """
    A worker's error and result, on the page of the job that ended with them.
    """
    await house.made()
    grant = await house.world.worker.claim()
    error = {"code": "broken", "message": MARKUP}
    await house.world.worker.report(grant, "fail", error=error, retryable=False)

    page = await house.page("job", grant.job)

    await expect(page.get_by_role("alert")).to_contain_text(MARKUP)
    assert 0 == await page.locator("main img, main script, main [onerror]").count()


async def test_an_address_of_a_script_is_never_a_link(house: House) -> None:
    """
    As a title, as a key, or as the URL of a job that some other program might let through.
    """
    job = await house.made(title=SCRIPT_ADDRESS, key=SCRIPT_ADDRESS)

    async def altered(route: Route) -> None:
        answer = await route.fetch()
        told = await answer.json()
        told["job"]["url"] = SCRIPT_ADDRESS
        await route.fulfill(response=answer, body=json.dumps(told))

    for name in ("active", "job"):
        page = await house.context.new_page()
        await page.route(f"**/api/jobs/{job['id']}", altered)
        await page.goto(f"{house.front.url}/{PLACES[name].query.format(**job)}")
        await expect(page.get_by_role("main")).to_contain_text(SCRIPT_ADDRESS)
        links = await page.locator("a").evaluate_all("(links) => links.map((link) => link.protocol)")
        assert {"http:"} == set(links), name


# --- who is not signed in, or no longer, or elsewhere ---


@pytest.mark.parametrize(
    ("token", "fragment", "said"),
    [
        ("a.b.c", "", "Your token is not believed"),
        ("a worker's", "", "This token may not watch jobs"),
        (None, "#code=made-up", "This link was used before, or is too old"),
    ],
)
async def test_who_is_not_let_in_is_told_why(house: House, token: str | None, fragment: str, said: str) -> None:
    """
    Beside the form in which to do better.
    """
    context = await browser_of(house.stage, house.world.worker.token if token == "a worker's" else token)

    page = await dashboard(house.stage, context, fragment, live=False)

    await expect(page.get_by_role("alert")).to_contain_text(said)
    await expect(page.get_by_label("Token")).to_be_visible()
    await sound(page)
    await context.close()


async def test_who_opened_it_elsewhere_is_told_and_can_go_on_here(tmp_path: Path) -> None:
    """
    One stream more than a principal may have lets go of the oldest; there is a button for having it back.
    """
    async with staged(tmp_path / "jobs.db", streams_per_principal_max=1) as stage, entered(stage) as house:
        first = await house.page("active", {})
        other = await browser_of(stage, stage.world.operator.token)
        await dashboard(stage, other)
        await expect(first.get_by_role("alert")).to_contain_text("more places than you may")
        await sound(first)

        await first.get_by_role("button", name="Go on here").click()

        await expect(first.get_by_role("status").first).to_contain_text("live")
        await other.close()


# --- who has very many ---


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """
    Ten thousand active jobs, of which 400 workers hold 5 each.
    """
    async with staged(tmp_path_factory.mktemp("crowd") / "jobs.db") as stage, entered(stage) as house:
        for lot in range(20):
            jobs = [{"kind": "work", "title": f"job {lot}.{number}", "owner": f"user:u{lot}"} for number in range(500)]
            assert 200 == (await stage.world.backend.post("/api/jobs/batch", {"jobs": jobs})).status
        for number in range(400):
            assert 5 == len(await stage.world.worker.claims(max=5, worker=f"hands {number}"))
        yield house


async def few_drawn(page: Page) -> None:
    """
    What is drawn is what can be seen, and it is sound.
    """
    assert await page.locator("main *, dialog *").count() < 2_500
    await sound(page)


@pytest.mark.parametrize("name", ["active", "past", "charts"])
async def test_ten_thousand_jobs_are_shown_by_drawing_what_is_in_sight(crowd: House, name: str) -> None:
    """
    And the rest is told as a number.
    """
    page = await crowd.page(name, {"position": await crowd.world.position()})
    await expect(page.get_by_role("status").first).to_contain_text("10000 active", timeout=20_000)
    shown = {"charts": page.get_by_text("and 380 more"), "past": page.get_by_text("of 12000")}
    await expect(shown.get(name, page.get_by_role("rowgroup", name="Rows"))).to_be_visible(timeout=20_000)

    await few_drawn(page)


async def test_ten_thousand_are_chosen_at_once_and_the_dialog_says_how_many(crowd: House) -> None:
    """
    All that are listed, so that a filter says which.
    """
    page = await crowd.page("active", {})
    await expect(page.get_by_role("status").first).to_contain_text("10000 active", timeout=20_000)

    await page.get_by_label("Choose all 10000").check()
    await page.get_by_role("button", name="Cancel or clean up 10000").click()

    await expect(page.get_by_role("dialog")).to_contain_text("and 9992 more")
    await few_drawn(page)


async def handed_back(path: Path, times: int) -> str:
    """
    A stopped log at *path* of one job that a worker took and gave back so often; the job's id.
    """
    history, store = History(), SqliteStore(path)
    history.create(0)
    await store.open()
    for fence in range(1, times + 1):
        history.start(0, fence=fence)
        history.release(0, fence=fence)
        if fence % 500 == 0:
            batch = history.batch()
            await store.append(batch, decided_at=history.position - len(batch.events))
    await store.close()
    return job_id(0)


async def test_of_a_job_to_which_ten_thousand_things_happened_the_last_are_shown_and_more_on_demand(
    tmp_path: Path,
) -> None:
    """
    However long it lived, its page is as quick as another's.
    """
    known = {"id": await handed_back(tmp_path / "jobs.db", 5_000)}
    async with staged(tmp_path / "jobs.db") as stage, entered(stage) as house:
        page = await house.page("job", known)
        await expect(page.get_by_role("heading", name="What happened")).to_be_visible(timeout=30_000)
        shown = page.locator(".timeline > li")
        before = await shown.count()
        await few_drawn(page)

        await page.get_by_role("button", name="Show what was before").click()

        await expect(shown).not_to_have_count(before)
        assert before < await shown.count() < 1_500
