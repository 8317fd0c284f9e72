"""
For who comes from somewhere else: the old polling functions, a program without a DOM, and what the client weighs.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser.conftest import until

if TYPE_CHECKING:
    from tests.browser.conftest import Stage
    from tests.http.world import World

BUILT: Final = Path(__file__).parents[2] / "jobsvc" / "http" / "client"
GUIDE: Final = Path(__file__).parents[2] / "docs" / "migrating.md"
PROGRAM: Final = Path(__file__).with_name("no_dom.mjs")
URL: Final = "https://x.com/a/status/1850000000000000000"


async def test_the_old_functions_keep_their_promises_and_ask_for_nothing(stage: Stage) -> None:
    """
    An active job is found by another spelling of its URL; whoever waits for its end makes no request until it comes.
    """
    context = await stage.guest()
    tab = await stage.tab(context)
    job_id = await tab.evaluate("url => client.submit({ kind: 'x-post', url }).then(({ id }) => id)", URL)

    found = await tab.evaluate("url => oldStyle.getActiveJobForUrl(url, 'x-post').then(({ id }) => id)", f"{URL}?s=20")
    await tab.evaluate(
        "id => { globalThis.steps = [];"
        " globalThis.polled = oldStyle.pollJobUntilComplete(id, ({ state }) => steps.push(state)); }",
        job_id,
    )
    await until(tab, "() => steps.length > 0")
    polled = await tab.evaluate("id => oldStyle.isJobBeingPolled(id)", job_id)
    stage.front.forget()
    await stage.world.worker.complete(await stage.world.worker.claim(), {"saved": True})

    assert job_id == found
    assert polled
    assert {"saved": True} == await tab.evaluate("() => polled.then((job) => job.result)")
    assert ["queued", "running", "completed"] == await tab.evaluate("() => steps")
    assert 0 == stage.front.asked.total()
    assert not await tab.evaluate("id => oldStyle.isJobBeingPolled(id)", job_id)
    cleaned = await tab.evaluate("id => oldStyle.cleanupCompletedJob(id)", job_id)
    assert (True, False) == (cleaned["success"], cleaned["removed"])


async def test_a_job_that_fails_rejects_as_the_poller_did(stage: Stage) -> None:
    """
    With the worker's own words.
    """
    context = await stage.guest()
    tab = await stage.tab(context)
    job_id = await tab.evaluate("client.submit({ kind: 'x-post' }).then(({ id }) => id)")
    await tab.evaluate(
        "id => { globalThis.polled = oldStyle.pollJobUntilComplete(id).catch((e) => e.message); }", job_id
    )

    grant = await stage.world.worker.claim()
    await stage.world.worker.report(grant, "fail", error={"code": "gone", "message": "no such post"}, retryable=False)

    assert "no such post" == await tab.evaluate("() => polled")


async def test_every_block_of_the_guide_runs(stage: Stage) -> None:
    """
    In order, in one page, as whoever follows it would write them.
    """
    context = await stage.guest()
    tab = await stage.tab(context)
    blocks = re.findall(r"^```js\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)

    async with asyncio.timeout(30):
        await tab.evaluate(
            f"async (url) => {{ const token = () => null; const renew = token; {' '.join(blocks)} return state; }}", URL
        )

    assert len(blocks) > 8


@pytest.mark.parametrize("streams", [True, False])
async def test_a_program_without_a_dom_is_told_as_well(world: World, *, streams: bool) -> None:
    """
    By a stream where its fetch can stream, else by long polls.
    """
    token = world.user.token or ""
    program = await asyncio.create_subprocess_exec(
        "node", str(PROGRAM), world.url, token, str(streams).lower(), stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    async with asyncio.timeout(30):
        made = json.loads(await program.stdout.readline())
        await world.worker.complete(await world.worker.claim(), {"saved": True})
        ended = json.loads(await program.stdout.readline())
        await program.wait()

    assert made["id"]
    assert {
        "state": "completed",
        "result": {"saved": True},
        "how": "live" if streams else "degraded",
        "left": 0,
    } == ended


@pytest.mark.parametrize("name", ["jobsvc.js", "worker.js"])
def test_the_client_weighs_little(name: str) -> None:
    """
    At most 8 KB, gzipped, as it is served.
    """
    assert len(gzip.compress((BUILT / name).read_bytes(), 9)) <= 8_000
