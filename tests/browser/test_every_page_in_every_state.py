"""
Every page of the dashboard in every state that it can be in: each says how it is, and what one can do about it.

What is looked at in a state is looked at narrow and dark, wide and light, with axe-core. One service and one browser
serve all of these tests; each leaves no active job behind.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import expect

from tests.browser.house import PLACES, every_place, sound
from tests.http.client import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import Locator, Page

    from tests.browser.house import House

pytestmark = pytest.mark.asyncio(loop_scope="module")

BEFORE_THE_PING_MS: Final = 10_000
"""
Well after that a page asks the worker, which knows nothing of the page's clock, whether it is there.
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("active", "No job is active."),
        ("past", "No job was active then."),
        ("charts", "Nobody holds a job."),
    ],
)
async def test_a_page_with_nothing_on_it_says_so(house: House, name: str, said: str) -> None:
    """
    In words of its own.
    """
    job = await house.made()
    await house.cancel_all()

    page = await house.page(name, job | {"position": await house.world.position()})

    await expect(page.get_by_text(said)).to_be_visible()
    await sound(page)


async def test_a_job_to_which_nothing_happened_has_nothing_else_on_its_page(house: House) -> None:
    """
    That it was made, and no heading or fold without a thing under it.
    """
    page = await house.page("job", await house.made())

    await expect(page.locator(".timeline strong")).to_have_text(["created"])
    await expect(page.locator("main summary")).to_have_text(["What happened, in sentences"])
    await expect(page.locator("main progress")).to_have_count(0)
    await sound(page)


@every_place
async def test_a_page_says_that_it_is_loading_until_it_knows(house: House, name: str) -> None:
    """
    And shows nothing meanwhile that it only supposes.
    """
    job = await house.made()
    house.front.holds = "/api/"
    page = await house.page(name, job, live=False)
    loading = page.locator("main [role=status]")
    await expect(loading.first).to_have_text("Loading.")
    await expect(page.get_by_text("Nobody holds a job.")).to_have_count(0)
    await sound(page)

    house.front.heal()

    await expect(PLACES[name].shows(page)).to_be_visible()
    await expect(loading).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("active", lambda page: page.get_by_role("row", name="one").get_by_text("running")),
        ("job", lambda page: page.locator(".timeline strong").get_by_text("started")),
        ("charts", lambda page: page.get_by_role("table").get_by_role("row", name="hands 1")),
    ],
)
async def test_a_page_moves_with_what_happens(house: House, name: str, moves: Callable[[Page], Locator]) -> None:
    """
    With no reload.
    """
    page = await house.page(name, await house.made())
    await expect(PLACES[name].shows(page)).to_be_visible()

    await house.world.worker.claim(worker="hands")

    await expect(moves(page)).to_be_visible()
    await sound(page)


async def test_what_was_stays_as_it_was(house: House) -> None:
    """
    Whatever happens now.
    """
    page = await house.page("past", await house.made())
    await expect(page.get_by_role("row", name="one").get_by_text("queued")).to_be_visible()

    await house.world.worker.claim()
    await house.made(title="two")
    await expect(page.get_by_role("status").first).to_contain_text("2 active")

    await expect(page.get_by_role("row", name="one").get_by_text("queued")).to_be_visible()
    await expect(page.get_by_role("link", name="two")).to_have_count(0)
    await sound(page)


@every_place
async def test_a_page_whose_stream_is_cut_says_so_and_goes_on_by_itself(house: House, name: str) -> None:
    """
    What is known stays in sight, with since when; what was missed is there when the service is back.
    """
    page = await house.page(name, await house.made())
    await expect(PLACES[name].shows(page)).to_be_visible()

    house.front.mode = "unavailable"
    house.front.cut()
    await expect(page.get_by_role("alert")).to_contain_text("Offline since")
    await expect(PLACES[name].shows(page)).to_be_visible()
    await sound(page)
    await house.made(title="two")
    house.front.heal()

    await expect(page.get_by_role("status").first).to_contain_text("live, 2 active", timeout=15_000)
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_since_when_a_page_is_offline_stays_however_often_it_tries_to_come_back(house: House) -> None:
    """
    What is shown is of then; the notice stands while an attempt is under way, and after it has failed too.
    """
    page = await house.page("active", await house.made())
    notice = page.get_by_role("alert")
    house.front.holds = house.front.fails = "/api/stream"
    house.front.forget()
    house.front.cut()
    await expect(notice).to_contain_text("Offline since")
    said = await notice.inner_text()
    await page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=1))

    for _ in range(3):
        await until(lambda: house.front.asked["GET /api/stream"] > 0)
        await expect(page.get_by_role("status").first).to_contain_text("connecting")
        await expect(notice).to_have_text(said)
        house.front.forget()
        house.front.go_on()


@every_place
async def test_a_page_that_finds_no_service_says_so_and_goes_on_by_itself(house: House, name: str) -> None:
    """
    No page is left loading for ever, or with an error that has passed.
    """
    job = await house.made()
    house.front.fails = "/api/"
    page = await house.page(name, job, live=False)
    await expect(page.get_by_role("alert").first).to_contain_text("The service does not answer")
    await expect(page.get_by_text("Loading.")).to_have_count(0)
    await sound(page)

    house.front.heal()

    await expect(PLACES[name].shows(page)).to_be_visible(timeout=15_000)
    await expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("name", ["past", "job", "charts"])
async def test_a_page_that_could_not_be_read_can_be_read_again(house: House, name: str) -> None:
    """
    It says what was wrong, and has a button for it.
    """
    job = await house.made()
    house.front.fails = PLACES[name].reads
    page = await house.page(name, job)
    await expect(page.get_by_role("alert")).to_contain_text("could not")
    await expect(page.get_by_text("Loading.")).to_have_count(0)
    await sound(page)

    house.front.heal()
    await page.get_by_role("button", name="Try again").click()

    await expect(PLACES[name].shows(page)).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_an_end_that_could_not_be_read_can_be_read_again(house: House) -> None:
    """
    Nothing more is told of a job that has ended, so nobody else would ever bring it.
    """
    job = await house.made()
    grant = await house.world.worker.claim()
    page = await house.page("job", job)
    happened = page.locator(".timeline strong")
    await expect(happened).to_have_text(["created", "started"])
    house.front.fails = f"/api/jobs/{job['id']}/events"
    await house.world.worker.complete(grant)
    await expect(page.get_by_role("alert")).to_contain_text("could not be read. The service answered 500.")
    await sound(page)

    house.front.heal()
    await page.get_by_role("button", name="Try again").click()

    await expect(happened).to_have_text(["created", "started", "completed"])
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_an_explanation_that_could_not_be_had_can_be_asked_for_again(house: House) -> None:
    """
    What it said before stays in sight, and what happened is told without it.
    """
    job = await house.made()
    page = await house.page("job", job)
    before = page.get_by_text("It is active because it waits")
    await expect(before).to_be_visible()
    house.front.fails = f"/api/jobs/{job['id']}/explain"
    await house.world.worker.claim()
    await expect(page.get_by_role("alert")).to_contain_text("Why it is so could not be read.")
    await expect(page.locator(".timeline strong")).to_have_text(["created", "started"])
    await expect(before).to_be_visible()
    await sound(page)

    house.front.heal()
    await page.get_by_role("button", name="Try again").click()

    await expect(page.get_by_text("has worked on it since")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_no_page_asks_for_anything_while_nothing_happens(house: House) -> None:
    """
    Every timer that a page has set goes off, and the service hears nothing.
    """
    job = await house.made()
    pages = [await house.page(name, job) for name in PLACES]
    for page, place in zip(pages, PLACES.values(), strict=True):
        await page.clock.install()
        await page.reload()
        await expect(place.shows(page)).to_be_visible()
        await expect(page.get_by_role("status").first).to_contain_text("live")
    house.front.forget()

    for page in pages:
        await page.clock.run_for(BEFORE_THE_PING_MS)

    assert {} == dict(house.front.asked)
