"""
``python -m tests.browser.screenshots``: every page of the dashboard, light and dark, wide and narrow, to docs/images.

The jobs are made for the picture and done by sample workers; the service, the browser and the pages are the real ones.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from playwright.async_api import expect

from tests.browser.conftest import staged

if TYPE_CHECKING:
    from tests.browser.conftest import Stage

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SIZES: Final = {"wide": {"width": 1280, "height": 760}, "narrow": {"width": 420, "height": 760}}
POSTS: Final = (
    "How we moved the archive without losing a day",
    "Notes from the harbour festival",
    "A short history of the fax machine",
    "Why the bridge hums at night",
    "Seven soups for the rainy season",
    "The map that was printed upside down",
)
STEPS: Final = ("reading the post", "reading replies", "fetching images", "writing the archive")


async def main() -> None:
    """
    All pictures are written anew.
    """
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder) / "jobs.db") as stage:
            told = await happened(stage)
            for scheme in ("light", "dark"):
                for size, viewport in SIZES.items():
                    await take(stage, told, scheme, size, viewport=viewport)


async def happened(stage: Stage) -> str:
    """
    Some jobs have ended, some run, some wait; the id of one with a life to tell.
    """
    world = stage.world
    callers = (world.guest, world.user, world.stranger)
    for place, title in enumerate(POSTS * 4):
        url = f"https://x.com/harbour/status/{1850000000000000000 + place}"
        kind = ("x-post", "page")[place % 2]
        await callers[place % 3].made(kind=kind, title=title, url=url, input={"depth": place % 4})
    grants = await world.worker.claims(max=14)
    tried = grants[0]
    await world.worker.report(tried, "progress", percent=30, message=STEPS[1])
    await world.worker.report(
        tried, "fail", error={"code": "busy", "message": "the site asked us to slow down"}, retry_after_s=0
    )
    (again,) = await world.worker.claims(max=1, wait_s=5)
    for grant in (again, *grants[1:5]):
        await world.worker.complete(grant, {"saved": True, "images": 4})
    for place, grant in enumerate(grants[5:]):
        await world.worker.report(grant, "progress", percent=10 + place * 9, message=STEPS[place % 4])
    return str(tried.job["id"])


async def take(stage: Stage, told: str, scheme: str, size: str, *, viewport: dict[str, int]) -> None:
    """
    Each page as that scheme and size show it.
    """
    look: dict[str, Any] = {"color_scheme": scheme, "viewport": viewport, "device_scale_factor": 1}
    signed_out = await stage.browser.new_context(**look)
    context = await stage.browser.new_context(**look)
    token = stage.world.operator.token
    await context.add_init_script(f"localStorage.setItem('jobsvc.dashboard.token', {token!r})")
    for name, query in (("active", ""), ("job", f"?job={told}"), ("charts", "?view=charts"), ("sign-in", "")):
        page = await (signed_out if name == "sign-in" else context).new_page()
        await page.goto(f"{stage.front.url}/{query}")
        if name != "sign-in":
            await expect(page.get_by_role("status").first).to_contain_text("live")
            await expect(page.locator(".rows, .timeline, .plot canvas").first).to_be_visible()
        await page.screenshot(path=IMAGES / f"{name}-{scheme}-{size}.png")
        await page.close()
        sys.stdout.write(f"screenshots: {name}-{scheme}-{size}.png\n")


if __name__ == "__main__":
    asyncio.run(main())
