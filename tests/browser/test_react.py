"""
The example with React, under StrictMode: the post-mortem's screen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from tests.browser.conftest import Stage


async def screen(stage: Stage, context: BrowserContext) -> Page:
    """
    The example's screen, live; what it writes to its console as an error is one.
    """
    page = await context.new_page()
    page.on("pageerror", lambda error: stage.errors.append(str(error)))
    page.on("console", lambda said: stage.errors.append(said.text) if said.type == "error" else None)
    await page.goto(f"{stage.front.url}/app/")
    await expect(page.locator("small")).to_have_text("live")
    return page


async def save(page: Page, url: str) -> None:
    """
    Somebody types it and presses the button.
    """
    await page.get_by_label("URL of the post").fill(url)
    await page.get_by_role("button", name="Save").click()


async def test_a_post_is_saved_once_and_leaves_the_list_by_itself(stage: Stage) -> None:
    """
    From two tabs in two spellings; each tab shows its progress and its end, with nobody asking.
    """
    context = await stage.browser.new_context()
    first = await screen(stage, context)
    second = await screen(stage, context)

    await save(first, "https://x.com/a/status/1850000000000000000")
    await expect(second.get_by_role("listitem")).to_have_count(1)
    await save(second, "https://twitter.com/i/web/status/1850000000000000000?s=20")
    await expect(second.locator("output")).to_contain_text("That one is here already")
    grant = await stage.world.worker.claim()
    await stage.world.worker.report(grant, "progress", percent=40, message="reading replies")
    await expect(first.get_by_role("listitem")).to_contain_text("reading replies")
    await stage.world.worker.complete(grant)

    for page in (first, second):
        await expect(page.get_by_role("listitem")).to_have_count(0)
        await expect(page.locator("output")).to_contain_text("completed")


async def test_strict_mode_opens_one_stream_and_leaves_none_behind(stage: Stage) -> None:
    """
    However often effects run; when the last page has gone, so has the stream.
    """
    context = await stage.browser.new_context()
    pages = [await screen(stage, context) for _ in range(2)]
    opened = stage.front.asked["GET /api/stream"]
    held = await stage.streams()

    for page in pages:
        await page.close()
    async with asyncio.timeout(15):
        while await stage.streams():  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(0.05)

    assert (1, 1) == (opened, held)
    assert 1 == stage.front.asked["GET /api/stream"]
