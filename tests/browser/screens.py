"""
The dashboard on a screen: somebody's browser, a page of it, and what is wrong with the page for anybody.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from tests.browser.conftest import Stage

AXE: Final = Path(__file__).parents[2] / "clients" / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"


async def browser_of(stage: Stage, token: str | None, **options: Any) -> BrowserContext:  # noqa: ANN401  # playwright's
    """
    A browser in which somebody is signed in to the dashboard, or nobody.
    """
    context = await stage.browser.new_context(**options)
    if token is not None:
        await context.add_init_script(f"localStorage.setItem('jobsvc.dashboard.token', {token!r})")
    return context


async def dashboard(stage: Stage, context: BrowserContext, query: str = "", *, live: bool = True) -> Page:
    """
    The dashboard in a tab; what it writes to its console as an error is one.
    """
    page = await context.new_page()
    page.on("pageerror", lambda error: stage.errors.append(str(error)))
    page.on("console", lambda said: stage.errors.append(said.text) if said.type == "error" else None)
    await page.goto(f"{stage.front.url}/{query}")
    if live:
        await expect(page.get_by_role("status").first).to_contain_text("live")
    return page


async def operator(stage: Stage, query: str = "", **options: Any) -> Page:  # noqa: ANN401  # playwright's
    """
    An operator's dashboard.
    """
    return await dashboard(stage, await browser_of(stage, stage.world.operator.token, **options), query)


async def faults(page: Page) -> list[str]:
    """
    What axe-core finds that is serious or worse.
    """
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("() => axe.run({ resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
