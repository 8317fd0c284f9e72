"""
The verb ``demo``: the main job, once, on real input, with everything real but the fetching.

Posts are submitted as people paste them, workers do them, and the stream shows it. What it claims at the end it has
counted, and a wrong count is exit code 1. Nothing here knows the service from within but the start of one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
import uuid
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import click
from msgspec import Struct

from jobsvc.cli.options import Wrong, in_terminal, output_option, print_json, secret_of, settings_from, settings_options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from jobsvc.cli.screen import Screen
    from jobsvc.client import Client, Submitted
    from jobsvc.domain.words import Role
    from jobsvc.settings import Settings
    from jobsvc.worker import Work, Worker

KIND: Final = "x-post"
WORKERS: Final = 2
JOBS_AT_ONCE: Final = 8
"""Each of the workers."""
SUBMITTED_AT_ONCE: Final = 8
STEP_S: Final = 0.55
STEPS: Final = ((10.0, "opening the post"), (40.0, "reading replies"), (75.0, "keeping the pictures"))
TOKEN_TTL_S: Final = 3_600.0
ANSWER_S: Final = 5.0
"""How long a request is repeated before the service counts as gone."""
PATIENCE_S: Final = 120.0
"""How long all of it may take; it takes about six seconds."""

_POST_ID: Final = re.compile(r"/status(?:es)?/(\d+)")


class Counts(Struct, frozen=True):
    """What the demo ends with."""

    submitted: int
    distinct_posts: int
    jobs: int
    deduplicated: int
    completed: int
    active: int

    @property
    def wrong(self) -> list[str]:
        """What is not as it must be, in words; empty if all is."""
        checks = {
            f"jobs = {self.jobs}, but there are {self.distinct_posts} distinct posts": self.jobs == self.distinct_posts,
            f"deduplicated = {self.deduplicated}, want {self.submitted - self.jobs}": self.deduplicated
            == self.submitted - self.jobs,
            f"completed = {self.completed}, want {self.jobs}": self.completed == self.jobs,
            f"active = {self.active}, want 0": self.active == 0,
        }
        return [words for words, holds in checks.items() if not holds]


@click.command(epilog="Example: jobsvc demo --against http://127.0.0.1:8080 --database jobs.db")
@click.option("--against", metavar="URL", help="Use this running service.  [default: one of its own, gone afterwards]")
@settings_options
@output_option
def demo(*, against: str | None, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object) -> None:
    """
    Run the main job on real input, and count.

    Submits post URLs, a third of them other spellings of earlier ones, runs sample workers, and shows the stream.
    With --against, tokens are signed with JOBSVC_SECRET or the secret beside --database, and the workers take
    any waiting x-post job of that service. Exit code 1 if a count is wrong.
    """
    screen = _screen(output)
    if against is None:
        counts = asyncio.run(_on_its_own(screen))
    else:
        secret = secret_of(settings_from(flags, config_path=config_path, pairs=pairs))
        counts = asyncio.run(_guarded(against, secret, screen=screen))
    if output == "json":
        print_json(counts)
    else:
        _print_counts(counts)
    if counts.wrong:
        raise Wrong("; ".join(counts.wrong))


def _screen(output: str) -> Screen:
    from jobsvc.cli.screen import Bar, Lines, Silent

    if output == "json":
        return Silent()
    return Bar() if in_terminal() else Lines()


async def _on_its_own(screen: Screen) -> Counts:
    async with _service() as (url, secret):
        return await _guarded(url, secret, screen=screen)


async def _guarded(url: str, secret: str, *, screen: Screen) -> Counts:
    """The counts, in bounded time, with every way to fail in words."""
    from jobsvc.client import ClientError

    try:
        async with asyncio.timeout(PATIENCE_S):
            return await _run(url, secret, screen=screen)
    except TimeoutError as error:
        raise Wrong(f"not done after {PATIENCE_S:g} s") from error
    except ClientError as error:
        raise Wrong(str(error)) from error


async def _run(url: str, secret: str, *, screen: Screen) -> Counts:
    """Watch, work and submit at once, until every job has ended."""
    from jobsvc.client import Client

    posts = read_posts()
    owner = f"demo-{uuid.uuid4().hex[:8]}"
    async with Client(url, token=_token(secret, "user", subject=owner), patience_s=ANSWER_S) as client:
        await client.active()  # A watch would wait for ever for a service that is not there.
        told = _Told()
        watching = asyncio.create_task(_watch(client, told, screen=screen))
        try:
            await _first(told.ready, watching)
            async with _working(url, secret, watching=watching):
                submitted = await _submit(client, posts)
                screen.expect(len({each.job.id for each in submitted}))
                told.expect({each.job.id for each in submitted})
                await _first(told.all_ended, watching)
            active = (await client.active()).jobs
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            screen.close()
    return _count(posts, submitted, told=told, active=len(active))


def read_posts() -> list[str]:
    """The post URLs that are shipped, in order."""
    text = files("jobsvc.cli").joinpath("demo_posts.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _count(posts: Sequence[str], submitted: Sequence[Submitted], *, told: _Told, active: int) -> Counts:
    # By a rule of its own, not by the service's: else the demo would only show that the service agrees with itself.
    distinct = {found.group(1) for post in posts if (found := _POST_ID.search(post))}
    jobs = {each.job.id for each in submitted}
    return Counts(
        submitted=len(posts),
        distinct_posts=len(distinct),
        jobs=len(jobs),
        deduplicated=sum(each.deduplicated for each in submitted),
        completed=sum(told.ended.get(job_id) == "completed" for job_id in jobs),
        active=active,
    )


def _print_counts(counts: Counts) -> None:
    click.echo()
    click.secho(f"submitted = {counts.submitted}", bold=True)
    click.secho(f"jobs = {counts.jobs} (distinct posts: {counts.distinct_posts})", bold=True)
    click.secho(f"deduplicated = {counts.deduplicated}", bold=True)
    click.secho(f"completed = {counts.completed}", bold=True)
    click.secho(f"active = {counts.active}", bold=True, fg="red" if counts.active else "green")


# --- Submitting ----------------------------------------------------------------------------------------------------


async def _submit(client: Client, posts: Sequence[str]) -> list[Submitted]:
    """Every post submitted, several at once, as a page full of impatient people would."""
    room = asyncio.Semaphore(SUBMITTED_AT_ONCE)

    async def submit(post: str) -> Submitted:
        async with room:
            return await client.create_or_attach(KIND, url=post, dedup={"on_active": "attach", "on_completed": "reuse"})

    return await asyncio.gather(*(submit(post) for post in posts))


# --- Working -------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _working(url: str, secret: str, *, watching: asyncio.Task[None]) -> AsyncGenerator[None]:
    """Sample workers run; if one cannot, neither can the demo."""
    workers = [_worker(url, secret, name=f"demo-worker-{number}") for number in range(1, WORKERS + 1)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    for each in running:
        each.add_done_callback(lambda ended: watching.cancel() if not ended.cancelled() and ended.exception() else None)
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)


def _worker(url: str, secret: str, *, name: str) -> Worker:
    from jobsvc.worker import Worker

    worker = Worker(
        url, token=_token(secret, "worker", subject=name), name=name, concurrency=JOBS_AT_ONCE, progress_s=0.1
    )
    worker.handles(KIND)(_read_post)
    return worker


async def _read_post(work: Work) -> dict[str, object]:
    """Stands for the long work that follows a post."""
    for percent, message in STEPS:
        work.progress(percent, message)
        await asyncio.sleep(STEP_S)
    work.progress(100.0, "done")
    return {"url": work.job.url, "replies": len(work.job.key or "")}


# --- Watching ------------------------------------------------------------------------------------------------------


class _Told:
    """What the stream has told so far."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.all_ended = asyncio.Event()
        self.ended: dict[str, str] = {}
        self._expected: set[str] | None = None

    def expect(self, jobs: set[str]) -> None:
        """It is over once these have ended; some may have already."""
        self._expected = jobs
        self._compare()

    def end(self, job_id: str, state: str) -> None:
        """That job has ended."""
        self.ended[job_id] = state
        self._compare()

    def _compare(self) -> None:
        if self._expected is not None and self._expected <= self.ended.keys():
            self.all_ended.set()


async def _watch(client: Client, told: _Told, *, screen: Screen) -> None:
    from jobsvc.client import Change, Ready

    async with contextlib.aclosing(client.watch(kind=KIND)) as stream:
        async for each in stream:
            if isinstance(each, Ready):
                told.ready.set()
            elif isinstance(each, Change):
                screen.show(each)
                if not each.job.active:
                    told.end(each.job.id, each.job.state)


async def _first(event: asyncio.Event, watching: asyncio.Task[None]) -> None:
    """What is waited for has come; if the watching ends before, its error is raised."""
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiter, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        waiter.cancel()


# --- A service of its own ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _service() -> AsyncGenerator[tuple[str, str]]:
    """A service on a free port of loopback, with a log that is gone afterwards: its URL and secret."""
    from jobsvc.app import running, serving
    from jobsvc.lines import configure_logging

    configure_logging("warning")
    with tempfile.TemporaryDirectory(prefix="jobsvc-demo-") as folder:
        settings = _settings(folder)
        async with running(settings) as service, serving(service) as url:
            yield url, settings.secret


def _settings(folder: str) -> Settings:
    from jobsvc.secretfile import with_made_secret
    from jobsvc.settings_loading import load_settings

    loaded = load_settings({"database": f"{folder}/demo.db", "host": "127.0.0.1", "port": 0, "drain_s": 0}, {})
    return with_made_secret(loaded).settings


def _token(secret: str, role: Role, *, subject: str) -> str:
    from jobsvc.tokens import issue

    return issue(secret, role, subject=subject, ttl_s=TOKEN_TTL_S, now=time.time_ns() // 1000)
