"""
The hooks of React where a server renders first: nothing of a browser is needed, and the page takes over what it finds.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Route

    from tests.browser.conftest import Stage

SERVER: Final = Path(__file__).parents[2] / "clients" / "browser" / "test" / "server.mjs"


async def rendered(job_id: str) -> dict[str, Any]:
    """
    What a server makes of the screen, what of a browser it looked for, and the script of the page.
    """
    program = await asyncio.create_subprocess_exec("node", str(SERVER), job_id, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        told, _ = await program.communicate()
    answer: dict[str, Any] = json.loads(told)
    return answer


async def test_a_server_renders_what_nobody_knows_yet() -> None:
    """
    No job, the stream connecting, a button to press; and it asks for no window, no document and no network.
    """
    told = await rendered("some-job")

    assert [] == told["touched"]
    assert 'data-state="connecting">not known yet<' in told["markup"]
    assert "<p>Nothing is active.</p>" in told["markup"]
    assert "<button>Save</button>" in told["markup"]


async def test_a_page_takes_over_what_the_server_rendered_with_no_word_of_a_mismatch(stage: Stage) -> None:
    """
    Though the client knows more than the server did when React takes over; then it shows what is.
    """
    context = await stage.guest()
    answer = await context.request.post(f"{stage.front.url}/api/jobs", data={"kind": "work", "title": "one"})
    job = (await answer.json())["job"]
    told = await rendered(job["id"])
    root = f'<div id="root" data-job="{job["id"]}">{told["markup"]}</div>'
    html = f'<!doctype html>{root}<script type="module" src="/server/page.js"></script>'

    async def page_of(route: Route) -> None:
        await route.fulfill(
            content_type="text/html", body=f'{html}<script type="module" src="/server/page.js"></script>'
        )

    async def script_of(route: Route) -> None:
        await route.fulfill(content_type="text/javascript", body=told["script"])

    page = await context.new_page()
    page.on("pageerror", lambda error: stage.errors.append(str(error)))
    page.on("console", lambda said: stage.errors.append(said.text) if said.type in {"error", "warning"} else None)
    await page.route("**/server/", page_of)
    await page.route("**/server/page.js", script_of)
    await page.goto(f"{stage.front.url}/server/")

    await expect(page.get_by_role("listitem")).to_have_text(["one"])
    await expect(page.locator("output")).to_have_text("queued")
    assert [] == stage.errors
