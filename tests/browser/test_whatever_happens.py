"""
Whatever happens to the service, the network, the machine or the tab: in the end the page holds what the service says.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import async_playwright

from tests.browser.conftest import CHROMIUM, live, until
from tests.browser.front import fronting
from tests.process import start_process, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Page

    from tests.browser.front import Front
    from tests.process import ServiceProcess


class Wild:
    """
    The real process, the front before it, and a browser.
    """

    def __init__(self, process: ServiceProcess, front: Front, browser: Browser) -> None:
        self.process = process
        self.front = front
        self.browser = browser

    async def guest(self) -> BrowserContext:
        """
        A browser of a new guest, with its cookie.
        """
        context = await self.browser.new_context()
        assert 201 == (await context.request.post(f"{self.front.url}/api/sessions/guest")).status
        return context

    async def tab(self, context: BrowserContext, **options: object) -> Page:
        """
        A tab with the page in it, live.
        """
        page = await context.new_page()
        text = "&".join(f"{name}={value}" for name, value in options.items())
        await page.goto(f"{self.front.url}/pages/saving.html?{text}")
        await live(page)
        return page

    async def kill(self) -> None:
        """
        The service is gone, in the middle of whatever it was doing.
        """
        await self.process.kill()

    async def start(self, database: Path | None = None) -> None:
        """
        It is there again, on the same log or another.
        """
        self.process = await start_process(database or self.process.database)
        self.front.service = self.process.url

    async def work(self, context: BrowserContext) -> None:
        """
        A worker completes the next job; *context* only carries the request.
        """
        headers = {"Authorization": f"Bearer {token('worker', 'w1')}"}
        claimed = await context.request.post(f"{self.process.url}/api/worker/claim", headers=headers, data={"max": 1})
        (grant,) = (await claimed.json())["jobs"]
        done = await context.request.post(
            f"{self.process.url}/api/worker/jobs/{grant['job']['id']}/complete",
            headers=headers,
            data={"lease_token": grant["lease_token"], "result": None},
        )
        assert 200 == done.status

    async def agrees(self, page: Page, bearer: str | None = None) -> int:
        """
        Returns once *page* holds what the service says, and how many jobs that is.
        """
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        expected: list[list[Any]] = []
        held: list[list[Any]] = []
        try:
            async with asyncio.timeout(40):
                while True:
                    answer = await page.context.request.get(f"{self.process.url}/api/jobs/active", headers=headers)
                    expected = sorted([job["id"], job["version"]] for job in (await answer.json())["jobs"])
                    held = await page.evaluate("() => client.active().map(({ id, version }) => [id, version])")
                    is_live = await page.evaluate("() => ['live', 'degraded'].includes(client.status().state)")
                    if is_live and sorted(held) == expected:
                        return len(expected)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"the service says {expected}, the page {held}, {await page.evaluate('() => client.status()')}")


@asynccontextmanager
async def _wild(path: Path) -> AsyncIterator[Wild]:
    process = await start_process(path)
    async with fronting(process.url) as front, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        wild = Wild(process, front, browser)
        try:
            yield wild
        finally:
            await browser.close()
            await wild.process.kill()


@pytest.fixture
async def wild(tmp_path: Path) -> AsyncIterator[Wild]:
    """
    A real process, and nobody connected to it.
    """
    async with _wild(tmp_path / "jobs.db") as made:
        yield made


async def save(page: Page, key: str) -> None:
    """
    The page asks for a job.
    """
    await page.evaluate("key => client.submit({ kind: 'x-post', key }).then(() => undefined)", key)


async def test_a_service_that_is_killed_and_comes_back(wild: Wild) -> None:
    """
    With kill -9, with a job that ends and one that begins before the page is back.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    await save(page, "ends")
    await wild.kill()
    await until(page, "() => client.status().state !== 'live'")

    await wild.start()
    await wild.work(context)
    made = await context.request.post(f"{wild.process.url}/api/jobs", data={"kind": "x-post", "key": "new"})

    assert 201 == made.status
    assert 1 == await wild.agrees(page)


async def test_a_stream_that_is_cut_again_and_again_misses_nothing(wild: Wild) -> None:
    """
    Cut by the network in the middle of anything, while jobs come and go.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    for number in range(6):
        await save(page, f"k{number}")
        wild.front.cut()
        if number % 2:
            await wild.work(context)

    assert 3 == await wild.agrees(page)


async def test_a_service_that_is_away_for_twenty_seconds(wild: Wild) -> None:
    """
    503 to everything, a submit included, which is carried out once.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    await save(page, "before")
    wild.front.mode = "unavailable"
    wild.front.cut()
    await page.evaluate("() => { globalThis.asking = client.submit({ kind: 'x-post', key: 'meanwhile' }); }")
    await asyncio.sleep(20)
    wild.front.mode = "through"

    await page.evaluate("() => asking.catch(() => client.submit({ kind: 'x-post', key: 'meanwhile' })).then(() => 0)")

    assert 2 == await wild.agrees(page)


async def test_a_reload_in_the_middle_of_a_submit_is_one_job(wild: Wild) -> None:
    """
    The answer never came; the page that comes after asks for the same under the same key.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    wild.front.answers.clear()
    await page.evaluate("() => { client.submit({ kind: 'x-post' }); }")
    await until(page, "() => client.active().length === 1")

    await page.reload()
    wild.front.answers.set()
    await live(page)
    await until(page, "() => !Object.keys(sessionStorage).length")

    assert 1 == await wild.agrees(page)


async def test_a_page_that_comes_back_from_the_back_forward_cache(wild: Wild) -> None:
    """
    It shows what is active now, not what was when it went.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    await save(page, "ends")
    await page.goto(f"{wild.front.url}/healthz")
    await wild.work(context)

    await page.go_back()
    await live(page)

    assert 0 == await wild.agrees(page)


async def test_a_clock_that_jumps(wild: Wild) -> None:
    """
    An hour at once, as after sleep: a connection that may be dead is given up, and the list is right.
    """
    context = await wild.guest()
    page = await wild.tab(context, options='{"share":false}')
    await save(page, "one")

    await page.evaluate(
        """() => {
            globalThis.states = [];
            client.subscribe(() => states.push(client.status().state));
            const now = Date.now;
            Date.now = () => now() + 3_600_000;
        }"""
    )
    # It may be back sooner than anybody looks.
    await until(page, "() => states.some((state) => state !== 'live')")
    await wild.work(context)

    assert 0 == await wild.agrees(page)


async def test_a_tab_that_is_frozen(wild: Wild) -> None:
    """
    The other tab goes on without it, and it is right again when it thaws.
    """
    context = await wild.guest()
    frozen, other = await wild.tab(context), await wild.tab(context)
    await save(frozen, "one")
    session = await context.new_cdp_session(frozen)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    await wild.work(context)
    await save(other, "two")
    meanwhile = await wild.agrees(other)

    await session.send("Page.setWebLifecycleState", {"state": "active"})

    assert 1 == meanwhile
    assert 1 == await wild.agrees(frozen)


async def test_two_users_in_two_browsers_see_their_own(wild: Wild) -> None:
    """
    Each its jobs and nobody else's.
    """
    ann, bob = await wild.guest(), await wild.guest()
    hers, his = await wild.tab(ann), await wild.tab(bob)

    await save(hers, "one")
    await save(his, "one")
    await save(his, "two")

    assert 1 == await wild.agrees(hers)
    assert 2 == await wild.agrees(his)


async def test_two_users_in_one_browser_share_no_stream(wild: Wild) -> None:
    """
    Tabs with tokens of two users, in one browser: each shows its own.
    """
    context = await wild.browser.new_context()
    ann, bob = token("user", "ann"), token("user", "bob")
    hers, his = await wild.tab(context, token=ann), await wild.tab(context, token=bob)

    await save(hers, "one")

    assert 1 == await wild.agrees(hers, ann)
    assert 0 == await wild.agrees(his, bob)


async def test_a_guest_who_signs_in_keeps_its_jobs(wild: Wild) -> None:
    """
    The guest's page is told that it is spent; as the user it has the guest's job and its own.
    """
    context = await wild.browser.new_context()
    guest, user = token("guest", "ann"), token("user", "carol")
    page = await wild.tab(context, token=guest)
    await save(page, "as guest")

    claimed = await context.request.post(
        f"{wild.process.url}/api/sessions/claim",
        headers={"Authorization": f"Bearer {user}"},
        data={"guest_token": guest},
    )
    await until(page, "() => client.status().state === 'signed-out'")
    signed_in = await wild.tab(context, token=user)
    await save(signed_in, "as user")

    assert 200 == claimed.status
    assert 2 == await wild.agrees(signed_in, user)


async def test_another_log_behind_the_same_name(wild: Wild, tmp_path: Path) -> None:
    """
    Its cursors mean nothing there: what the page knew is forgotten.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    await save(page, "one")
    await wild.kill()

    await wild.start(tmp_path / "other.db")

    assert 0 == await wild.agrees(page)


async def test_a_cursor_below_what_is_archived(wild: Wild) -> None:
    """
    A page that was away for longer than the log goes back begins anew, with no ghost of what ended meanwhile.
    """
    context = await wild.guest()
    page = await wild.tab(context)
    await save(page, "ends meanwhile")
    wild.front.mode = "unavailable"
    wild.front.cut()
    await wild.work(context)
    await context.request.post(f"{wild.process.url}/api/jobs", data={"kind": "x-post", "key": "new"})
    operator = {"Authorization": f"Bearer {token('operator', 'olga')}"}
    archive = f"{wild.process.url}/api/operator/archive"
    moved = 0
    async with asyncio.timeout(10):
        # Nothing goes before every projection has it.
        while not moved:
            answer = await context.request.post(archive, headers=operator, data={"older_than_s": 0})
            moved = (await answer.json())["jobs"]
    wild.front.mode = "through"

    count = await wild.agrees(page)

    streams = await (await context.request.get(f"{wild.process.url}/api/streams", headers=operator)).json()
    assert 1 == count
    assert {"too-old": 1} == streams["resets"]


async def test_a_proxy_that_buffers(wild: Wild) -> None:
    """
    Where no stream comes through, long polls do, and the page says that it is so.
    """
    context = await wild.guest()
    wild.front.mode = "buffering"
    page = await context.new_page()
    await page.goto(f"{wild.front.url}/pages/saving.html")
    await until(page, "() => client.status().state === 'degraded'", within_s=40)

    await save(page, "one")

    assert 1 == await wild.agrees(page)


@pytest.mark.parametrize("transport", ["fetch", "eventsource", "longpoll"])
async def test_every_way_of_transport_tells_the_same(wild: Wild, transport: str) -> None:
    """
    Jobs come and go, the connection is cut, and the list is right.
    """
    context = await wild.guest()
    page = await wild.tab(context, options=f'{{"transport":"{transport}","share":false}}')
    await save(page, "one")
    await save(page, "two")
    wild.front.cut()
    await wild.work(context)

    assert 1 == await wild.agrees(page)
