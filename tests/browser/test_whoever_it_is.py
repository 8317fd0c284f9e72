"""
Whoever is signed in, whatever becomes of the worker behind the tabs: a page shows what is its own, and goes on hearing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.conftest import active, live, until

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from tests.browser.conftest import Stage

UNSHARED = '{"share":false}'
PENDING = "() => Object.keys(sessionStorage).length"


async def with_tokens(stage: Stage, context: BrowserContext, **tokens: str | None) -> Page:
    """
    A page whose client asks ``tokens[now]`` who it is; ``asked`` says how often, and after a refusal.
    """
    page = await stage.tab(context, token=next(iter(tokens.values())))
    await page.evaluate(
        """async (tokens) => {
            const { createClient } = await import("/client/v1/jobsvc.js");
            client.close();
            Object.assign(globalThis, { tokens, now: Object.keys(tokens)[0], asked: [] });
            const getToken = ({ again }) => (asked.push(again), tokens[now]);
            globalThis.create = (options) => createClient({ getToken, ...options });
            globalThis.client = create();
            globalThis.told = [];
            client.subscribe(() => told.push(client.active().map(({ owner }) => owner)));
        }""",
        tokens,
    )
    await live(page)
    return page


async def kill_workers(page: Page) -> None:
    """
    The browser ends every shared worker, as it does when memory runs out.
    """
    assert page.context.browser is not None
    session = await page.context.browser.new_browser_cdp_session()
    targets = (await session.send("Target.getTargets", {"filter": [{"type": "shared_worker"}]}))["targetInfos"]
    assert targets
    for target in targets:
        await session.send("Target.closeTarget", {"targetId": target["targetId"]})


async def test_a_worker_that_dies_is_started_again(stage: Stage) -> None:
    """
    The tab hears nothing, notices, and goes on with another worker.
    """
    tab = await stage.tab(await stage.guest())
    await kill_workers(tab)

    await tab.evaluate("dispatchEvent(new Event('online'))")
    made = await tab.evaluate("client.submit({ kind: 'x-post' }).then(({ id }) => id)")

    await until(tab, "id => client.active().some((job) => job.id === id)", made)
    assert 1 == await stage.streams()


async def test_a_worker_that_does_not_load_is_done_without(stage: Stage) -> None:
    """
    The tab has a stream of its own then.
    """
    context = await stage.guest()
    await context.route("**/worker.js", lambda route: route.fulfill(status=404))
    page = await context.new_page()
    await page.add_init_script(
        "globalThis.SharedWorker = class extends SharedWorker {"
        " constructor(url, how) { super(new URL('/client/v1/none.js', url), how); } }"
    )

    await page.goto(f"{stage.front.url}/pages/saving.html")

    await live(page)
    await page.evaluate("client.submit({ kind: 'x-post' }).then(() => 0)")
    await until(page, "() => client.active().length === 1")


async def test_who_signs_in_is_told_of_their_own_jobs_alone(stage: Stage) -> None:
    """
    From the moment that it is said: nothing of the one before is shown, and another tab of theirs is left alone.
    """
    context = await stage.browser.new_context()
    await stage.world.user.made(title="the user's")
    await stage.world.guest.made(title="the guest's")
    page = await with_tokens(stage, context, guest=stage.world.guest.token, user=stage.world.user.token)
    other = await with_tokens(stage, context, guest=stage.world.guest.token)

    at_once = await page.evaluate(
        "() => { now = 'user'; told.length = 0; return client.signedIn().then(() => client.active().length); }"
    )

    await until(page, "() => client.ready()")
    assert 0 == at_once
    assert {"user:carol"} == set(await page.evaluate("() => told.flat()"))
    assert ["user:carol"] == await page.evaluate("() => client.active().map(({ owner }) => owner)")
    assert ["guest:ann"] == await other.evaluate("() => client.active().map(({ owner }) => owner)")


async def test_a_token_that_became_another_users_moves_the_page(stage: Stage) -> None:
    """
    Though nobody said so: the stream is taken up again with another's token, and no tab of the first shows their jobs.
    """
    context = await stage.browser.new_context()
    await stage.world.user.made(title="the user's")
    await stage.world.guest.made(title="the guest's")
    page = await with_tokens(stage, context, guest=stage.world.guest.token, user=stage.world.user.token)

    await page.evaluate("() => { now = 'user'; }")
    stage.front.cut()

    await until(page, "() => client.ready() && client.active()[0]?.owner === 'user:carol'")
    assert 1 == await page.evaluate("() => client.active().length")


async def test_a_token_is_renewed_by_one_tab_for_all(stage: Stage) -> None:
    """
    A refused one is asked for again, once, however many tabs there are.
    """
    context = await stage.browser.new_context()
    guest = stage.world.guest.token
    tabs = [await with_tokens(stage, context, fresh=guest) for _ in range(4)]
    for tab in tabs:
        await tab.evaluate(
            "() => { asked.length = 0; const [head, body] = tokens.fresh.split('.');"
            " tokens.stale = `${head}.${body}.refused`; now = 'stale'; }"
        )
        await tab.evaluate(
            "() => { const push = asked.push; asked.push = (again) => {"
            " if (again) now = 'fresh'; return push.call(asked, again); }; }"
        )

    stage.front.cut()

    for tab in tabs:
        await until(tab, "() => client.status().state === 'live'")
    await stage.world.guest.made(title="later")
    for tab in tabs:
        await until(tab, "() => client.active().length === 1")
    renewed = [again for tab in tabs for again in await tab.evaluate("() => [...asked]") if again]
    assert [True] == renewed


async def test_a_token_that_cannot_be_had_at_first_is_asked_for_again(stage: Stage) -> None:
    """
    The page hears once there is one, and no error of it reaches the console.
    """
    page = await with_tokens(stage, await stage.browser.new_context(), guest=stage.world.guest.token)
    await page.evaluate(
        """() => {
            let failures = 2;
            globalThis.client = create({ getToken: async () => {
                if (failures-- > 0) throw new Error("no network");
                return tokens.guest;
            } });
            client.subscribe(() => {});
        }"""
    )

    await until(page, "() => client.ready()")


async def test_what_one_asked_for_is_not_asked_for_by_another(stage: Stage) -> None:
    """
    A submit that a reload cut off is repeated for who began it, and for nobody else.
    """
    context = await stage.browser.new_context()
    page = await with_tokens(stage, context, guest=stage.world.guest.token, user=stage.world.user.token)
    stage.front.mode = "unavailable"
    await page.evaluate("() => { client.submit({ kind: 'x-post' }).catch(() => {}); }")
    await until(page, PENDING)

    await page.evaluate("() => { globalThis.as_other = create({ getToken: () => tokens.user }); }")
    await page.reload()
    stage.front.mode = "through"
    tokens = {"user": stage.world.user.token, "guest": stage.world.guest.token}
    await page.evaluate(
        """async (tokens) => {
            const { createClient } = await import("/client/v1/jobsvc.js");
            Object.assign(globalThis, { tokens, createClient });
            globalThis.client = createClient({ getToken: () => tokens.user });
            client.subscribe(() => {});
        }""",
        tokens,
    )
    await live(page)
    kept = await page.evaluate(PENDING)
    of_the_user = (await stage.world.user.get("/api/jobs/active")).body["jobs"]
    await page.evaluate("() => { createClient({ getToken: () => tokens.guest }); }")
    await until(page, "() => !Object.keys(sessionStorage).length")

    assert 1 == kept
    assert [] == of_the_user
    assert 1 == len((await stage.world.guest.get("/api/jobs/active")).body["jobs"])


async def test_a_submit_under_way_ends_when_somebody_else_signs_in(stage: Stage) -> None:
    """
    What it was still being tried for is not made for them.
    """
    page = await with_tokens(
        stage, await stage.browser.new_context(), guest=stage.world.guest.token, user=stage.world.user.token
    )
    stage.front.mode = "unavailable"
    await page.evaluate("() => { globalThis.asking = client.submit({ kind: 'x-post' }).catch(({ code }) => code); }")
    await until(page, PENDING)

    await page.evaluate("() => { now = 'user'; return client.signedIn(); }")
    stage.front.mode = "through"

    assert "signed-in" == await page.evaluate("asking")
    assert 0 == await page.evaluate(PENDING)
    await live(page)
    assert {} == await active(page)


async def test_two_submits_of_one_page_are_two(stage: Stage) -> None:
    """
    Where duplicates are wanted: the second is not taken for a repetition of the first that nobody has answered.
    """
    tab = await stage.tab(await stage.guest())
    stage.front.answers.clear()
    await tab.evaluate(
        "() => { const request = { kind: 'x-post', input: { same: true } };"
        " globalThis.both = Promise.all([client.submit(request), client.submit(request)]); }"
    )
    await until(tab, "() => client.active().length > 0")
    stage.front.answers.set()

    assert 2 == len(set(await tab.evaluate("both.then((made) => made.map(({ id }) => id))")))


async def test_a_page_without_room_to_keep_anything_submits_all_the_same(stage: Stage) -> None:
    """
    SessionStorage is full, or forbidden.
    """
    tab = await stage.tab(await stage.guest())

    full = await tab.evaluate(
        "() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); };"
        " return client.submit({ kind: 'x-post' }).then(({ job }) => job.state); }"
    )
    forbidden = await tab.evaluate(
        "() => { Object.defineProperty(globalThis, 'sessionStorage', { get() { throw new DOMException('no'); } });"
        " return client.submit({ kind: 'x-post' }).then(({ job }) => job.state); }"
    )

    assert ("queued", "queued") == (full, forbidden)
