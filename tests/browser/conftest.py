"""
A real Chromium, the service in front of it, and pages that use the browser client as a platform would.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from tests.browser.front import fronting
from tests.browser.house import entered
from tests.http.world import started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Page

    from tests.browser.front import Front
    from tests.browser.house import House
    from tests.http.world import World

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""
The system's; None for the one that playwright installed.
"""


class Stage:
    """
    A service, the front before it, and a browser.

    Attributes:
        errors: What pages wrote to their consoles as errors.
    """

    def __init__(self, world: World, front: Front, browser: Browser) -> None:
        self.world = world
        self.front = front
        self.browser = browser
        self.errors: list[str] = []

    async def guest(self) -> BrowserContext:
        """
        A browser of a new guest, with its cookie.
        """
        context = await self.browser.new_context()
        answer = await context.request.post(f"{self.front.url}/api/sessions/guest")
        assert 201 == answer.status
        return context

    async def tab(self, context: BrowserContext, **asked: object) -> Page:
        """
        A tab of that browser with the page in it, live.
        """
        page = await context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        await page.goto(f"{self.front.url}/pages/saving.html?{urlencode(asked)}")
        await live(page)
        return page

    async def streams(self) -> int:
        """
        How many streams the service has open.
        """
        return int((await self.world.viewer.get("/api/streams")).body["open"])


async def live(page: Page) -> None:
    """
    Returns once the page knows the active jobs.
    """
    await until(page, "() => globalThis.client?.ready() && client.status().state !== 'offline'")


async def until(page: Page, condition: str, argument: object = None, *, within_s: float = 15) -> None:
    """
    Returns once *condition* holds in the page. Playwright's own wait evaluates text, which the page's policy forbids.
    """
    async with asyncio.timeout(within_s):
        while not await page.evaluate(condition, argument):  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(0.02)


async def active(page: Page) -> dict[str, int]:
    """
    What the page shows as active: id to version.
    """
    shown = await page.evaluate("client.active().map(({ id, version }) => [id, version])")
    return dict(shown)


async def truth(context: BrowserContext, front: Front) -> dict[str, int]:
    """
    What the service says is active.
    """
    body: dict[str, Any] = await (await context.request.get(f"{front.url}/api/jobs/active")).json()
    return {job["id"]: job["version"] for job in body["jobs"]}


@asynccontextmanager
async def staged(path: Path, **settings: Any) -> AsyncIterator[Stage]:  # noqa: ANN401  # those of Settings
    """
    A stage with nobody on it.
    """
    async with (
        started(path, **settings) as world,
        fronting(world.url) as front,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield Stage(world, front, browser)
        finally:
            await browser.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """
    A stage with nobody on it; no page had an error.
    """
    async with staged(tmp_path / "jobs.db") as made:
        yield made
        assert [] == made.errors


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """
    A world with the settings as they come.
    """
    async with started(tmp_path / "jobs.db") as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def built(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """
    The one stage of a module's tests.
    """
    async with staged(tmp_path_factory.mktemp("house") / "jobs.db") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def house(built: Stage) -> AsyncIterator[House]:
    """
    A house with no active job in it.
    """
    async with entered(built) as made:
        yield made
        await made.cancel_all()
