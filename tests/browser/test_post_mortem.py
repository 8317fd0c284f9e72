"""
The post-mortem, line by line, in a real browser: what happened there cannot happen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.browser.conftest import active, truth, until

if TYPE_CHECKING:
    from tests.browser.conftest import Stage

POST: Final = "https://x.com/somebody/status/1850000000000000000"
SPELLINGS: Final = (
    POST,
    f"{POST}?s=20",
    "https://twitter.com/i/web/status/1850000000000000000",
    "https://mobile.twitter.com/somebody/status/1850000000000000000/photo/1",
)


async def test_saving_one_post_from_two_components_and_two_tabs_is_one_job(stage: Stage) -> None:
    """
    Whatever its spelling, and though all ask at once.
    """
    context = await stage.guest()
    tabs = [await stage.tab(context, components=2) for _ in range(2)]

    made = await asyncio.gather(
        *(
            tab.evaluate(
                "async ([url, place]) => { const { id, deduplicated } = await components[place]"
                ".submit({ kind: 'x-post', url }); return [id, deduplicated]; }",
                [SPELLINGS[2 * number + place], place],
            )
            for number, tab in enumerate(tabs)
            for place in range(2)
        )
    )

    assert 1 == len({job_id for job_id, _ in made})
    assert [False, True, True, True] == sorted(deduplicated for _, deduplicated in made)
    assert 1 == len(await truth(context, stage.front))


async def test_twelve_tabs_of_five_components_hold_one_stream(stage: Stage) -> None:
    """
    Counted by the service; each component of each tab shows the job.
    """
    context = await stage.guest()
    tabs = [await stage.tab(context, components=5) for _ in range(12)]
    job_id = await tabs[0].evaluate("client.submit({ kind: 'x-post' }).then(({ id }) => id)")

    for tab in tabs:
        await until(tab, "id => shown.every((jobs) => jobs.some(([one]) => one === id))", job_id)

    assert 1 == await stage.streams()
    assert 1 == stage.front.streams


async def test_a_reload_finds_exactly_the_active_jobs(stage: Stage) -> None:
    """
    One where one is, though another ended a moment before; and it is told of its end as before.
    """
    context = await stage.guest()
    tab = await stage.tab(context)
    for key in ("ends", "stays"):
        await tab.evaluate("key => client.submit({ kind: 'x-post', key })", key)
    (grant,) = await stage.world.worker.claims(max=1)
    await stage.world.worker.complete(grant)

    await tab.reload()
    await until(tab, "() => globalThis.client?.ready()")

    expected = await truth(context, stage.front)
    assert 1 == len(expected)
    assert expected == await active(tab)


async def test_an_end_takes_a_job_off_every_list_with_nobody_cleaning_up(stage: Stage) -> None:
    """
    In every tab and component; whoever waited for the job has its result, and no request was made for it.
    """
    context = await stage.guest()
    tabs = [await stage.tab(context, components=2) for _ in range(2)]
    await tabs[0].evaluate("client.submit({ kind: 'x-post' }).then((handle) => { globalThis.ending = handle.done; })")
    await until(tabs[1], "() => shown.every((jobs) => jobs.length === 1)")
    stage.front.forget()

    await stage.world.worker.complete(await stage.world.worker.claim(), {"saved": True})

    for tab in tabs:
        await until(tab, "() => shown.every((jobs) => jobs.length === 0)")
    assert {"saved": True} == await tabs[0].evaluate("ending.then((job) => job.result)")
    assert 0 == stage.front.asked.total()


async def test_nothing_is_asked_while_nothing_happens(stage: Stage) -> None:
    """
    In ten idle seconds after ready there is no request of any kind, with a job that runs and somebody who waits for it.
    """
    context = await stage.guest()
    tab = await stage.tab(context, components=3)
    await tab.evaluate("client.submit({ kind: 'x-post' }).then((handle) => { handle.done; })")
    await until(tab, "() => shown.every((jobs) => jobs.length === 1)")
    stage.front.forget()

    await asyncio.sleep(10)

    assert {} == dict(stage.front.asked)
    assert 1 == await stage.streams()


async def test_an_orphan_never_shows(stage: Stage) -> None:
    """
    A job that ended while the page was away is on no list when it is back, and whoever asks for it is told its end.
    """
    context = await stage.guest()
    tab = await stage.tab(context)
    job_id = await tab.evaluate("client.submit({ kind: 'x-post' }).then(({ id }) => id)")
    await tab.goto("about:blank")
    await stage.world.worker.complete(await stage.world.worker.claim())

    back = await stage.tab(context)

    assert {} == await active(back)
    assert "completed" == await back.evaluate("id => client.done(id).then((job) => job.state)", job_id)
