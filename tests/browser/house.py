"""
The pages of the dashboard as data, and an operator's browser that goes from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import pytest
from playwright.async_api import Locator, Page, ViewportSize

from tests.browser.screens import browser_of, dashboard, faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import BrowserContext

    from tests.browser.conftest import Stage
    from tests.http.client import JSON

LOOKS: Final[list[tuple[ViewportSize, Literal["dark", "light"]]]] = [
    ({"width": 360, "height": 700}, "dark"),
    ({"width": 1280, "height": 800}, "light"),
]
OWN_WORDS: Final = "Failed to load resource"
"""
What Chromium itself writes to the console about an answer that is an error.
"""


@dataclass(frozen=True)
class Place:
    """
    A page of the dashboard.

    Attributes:
        query: Its address, with what has to be known of a job in it.
        reads: The path that it cannot do without.
        shows: Something that is there once the page knows what it shows.
    """

    query: str
    reads: str
    shows: Callable[[Page], Locator]


PLACES: Final = {
    "active": Place("", "/api/stream", lambda page: page.get_by_role("link", name="one")),
    "past": Place("?at={position}", "/api/jobs/active", lambda page: page.get_by_role("link", name="one")),
    "job": Place("?job={id}", "/api/jobs/", lambda page: page.get_by_role("heading", name="What happened")),
    "charts": Place("?view=charts", "/api/stats", lambda page: page.get_by_role("img", name="Jobs a minute")),
}
every_place: Final = pytest.mark.parametrize("name", PLACES)


class House:
    """
    The stage, and an operator's browser on it.
    """

    def __init__(self, stage: Stage, context: BrowserContext) -> None:
        self.stage = stage
        self.world = stage.world
        self.front = stage.front
        self.context = context

    async def made(self, **fields: object) -> JSON:
        """
        A job that is called *one*.
        """
        return await self.world.guest.made(**{"title": "one"} | fields)

    async def page(self, name: str, job: JSON, *, live: bool = True) -> Page:
        """
        That page, of *job* where it is one job's.
        """
        return await dashboard(self.stage, self.context, PLACES[name].query.format(**job), live=live)

    async def dialog(self, page: Page, *, verb: str = "Cancel or clean up") -> Locator:
        """
        The dialog about the job whose page it is.
        """
        await page.get_by_role("button", name=verb).click()
        return page.get_by_role("dialog")

    async def cancel_all(self) -> None:
        """
        No job is active.
        """
        for job in (await self.world.operator.get("/api/jobs/active", limit=1_000)).body["jobs"]:
            answer = await self.world.operator.post(f"/api/jobs/{job['id']}/cancel", {"force": True})
            assert 200 == answer.status


@asynccontextmanager
async def entered(stage: Stage) -> AsyncIterator[House]:
    """
    A house; what its pages wrote to their consoles as errors was Chromium's own about answers.
    """
    stage.errors.clear()
    context = await browser_of(stage, stage.world.operator.token)
    house = House(stage, context)
    yield house
    await context.close()
    stage.front.heal()
    assert [] == [error for error in stage.errors if not error.startswith(OWN_WORDS)]


async def sound(page: Page) -> None:
    """
    Nothing is seriously wrong with the page for anybody, or cut off, narrow and dark or wide and light.
    """
    wrong = []
    for viewport, scheme in LOOKS:
        await page.set_viewport_size(viewport)
        await page.emulate_media(color_scheme=scheme)
        if await page.evaluate("() => document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{viewport['width']}: wider than the screen")
        wrong += [f"{viewport['width']} {scheme}: {fault}" for fault in await faults(page)]
    assert [] == wrong, wrong
