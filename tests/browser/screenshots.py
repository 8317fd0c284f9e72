"""
``python -m tests.browser.screenshots``: every page of the dashboard, light and dark, wide and narrow, to docs/images.

The jobs are made for the picture and done by sample workers, an hour of them in a moment; the service, the browser and
the pages are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from playwright.async_api import expect

from tests.browser.conftest import staged

if TYPE_CHECKING:
    from tests.browser.conftest import Stage
    from tests.http.client import Grant

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SIZES: Final = {"wide": {"width": 1280, "height": 760}, "narrow": {"width": 390, "height": 760}}
POSTS: Final = (
    "How we moved the archive without losing a day",
    "Notes from the harbour festival",
    "A short history of the fax machine",
    "Why the bridge hums at night",
    "Seven soups for the rainy season",
    "The map that was printed upside down",
)
STEPS: Final = ("reading the post", "reading replies", "fetching images", "writing the archive")
MINUTES: Final = 58
BUSY: Final = {"code": "busy", "message": "the site asked us to slow down"}


async def main() -> None:
    """
    All pictures are written anew.
    """
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "jobs.db"
        async with staged(database, ago_s=60 * (MINUTES + 2), stats_look_s=3_600) as stage, AsyncExitStack() as streams:
            await an_hour(stage, streams)
            come_to(stage, time.time() - 80)
            told = await lived(stage)
            come_to(stage, time.time() - 1)
            await at_work(stage)
            for scheme in ("light", "dark"):
                for size, viewport in SIZES.items():
                    await take(stage, told, scheme, size, viewport=viewport)


async def an_hour(stage: Stage, streams: AsyncExitStack) -> None:
    """
    Jobs came, ran and ended, and somebody watched.
    """
    world, chance = stage.world, random.Random(7)
    callers = (world.guest, world.user, world.stranger)
    begins_at = time.time() // 60 * 60 - 60 * (MINUTES + 1)
    for minute in range(MINUTES):
        come_to(stage, begins_at + 60 * minute)
        for _ in range(chance.randint(1, 5)):
            await ask_for(stage, chance.randrange(10**9), times=chance.choice((1, 1, 1, 2, 3)))
        world.clock.advance(chance.randint(1, 15))
        for grant in await world.worker.claims(max=6, lease_s=600):
            world.clock.advance(chance.uniform(0.2, 4))
            await end(stage, grant, well=chance.random() < 0.85)
        if not minute % 9:
            await streams.enter_async_context(callers[minute // 9 % 3].stream())
        world.service.gauge.look()
        while any(view["lag"] for view in (await world.viewer.get("/api/projections")).body["projections"]):
            pass
    while grants := await world.worker.claims(max=50):
        for grant in grants:
            await end(stage, grant, well=True)


def come_to(stage: Stage, moment_s: float) -> None:
    """
    It is that moment for the service, if it was earlier.
    """
    clock = stage.world.clock
    clock.advance(max(0, moment_s - clock.now() / 1_000_000))
    stage.world.service.gauge.look()


async def at_work(stage: Stage) -> None:
    """
    Some jobs are being worked on, and others wait.
    """
    world = stage.world
    for number in range(1, 19):
        await ask_for(stage, number, times=1)
    for place, grant in enumerate(await world.worker.claims(max=9, worker="w1")):
        await world.worker.report(grant, "progress", percent=10 + place * 9, message=STEPS[place % 4])


async def ask_for(stage: Stage, number: int, *, times: int) -> None:
    """
    The same work is asked for so many times, and made once.
    """
    url = f"https://x.com/harbour/status/{1850000000000000000 + number}"
    title, kind = POSTS[number % len(POSTS)], ("x-post", "page")[number % 2]
    caller = (stage.world.guest, stage.world.user, stage.world.stranger)[number % 3]
    for _ in range(times):
        await caller.create(kind=kind, title=title, url=url, input={"depth": number % 4})


async def end(stage: Stage, grant: Grant, *, well: bool) -> None:
    """
    A sample worker has done it, or has not.
    """
    if well:
        await stage.world.worker.complete(grant, {"saved": True, "images": 4})
    else:
        await stage.world.worker.report(grant, "fail", error=BUSY, retryable=False)


async def lived(stage: Stage) -> str:
    """
    A job with a failed attempt, a lost lease, a result that came too late, and a worker that is at it.
    """
    world = stage.world
    await ask_for(stage, 0, times=4)
    world.clock.advance(4)
    first = await world.worker.claim(worker="w1", lease_s=30)
    for percent in (8, 21, 30):
        world.clock.advance(3)
        await world.worker.report(first, "progress", percent=percent, message=STEPS[1])
    await world.worker.report(first, "fail", error=BUSY, retry_after_s=12)
    await pass_by(stage, 15)
    lost = await world.worker.claim(worker="w2", lease_s=20, wait_s=5, kinds=["x-post"])
    world.clock.advance(5)
    await world.worker.report(lost, "progress", percent=55, message=STEPS[2])
    await pass_by(stage, 24)
    last = await world.worker.claim(worker="w3", lease_s=600, wait_s=5, kinds=["x-post"])
    world.clock.advance(3)
    await world.worker.report(lost, "complete", result={"saved": True})
    for percent in (10, 24, 45, 62, 80):
        world.clock.advance(3)
        await world.worker.report(last, "progress", percent=percent, message=STEPS[percent % 4])
    return str(first.job["id"])


async def pass_by(stage: Stage, seconds: float) -> None:
    """
    So much time; what comes due meanwhile comes about with the next commit.
    """
    stage.world.clock.advance(seconds)
    await ask_for(stage, 1 + 2 * random.Random(seconds).randrange(1_000), times=1)


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
