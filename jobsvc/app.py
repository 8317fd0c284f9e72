"""
The composition root: settings to store, store to ledger, ledger to feed and sweeper, all of it to routes.

Everything is made here once and handed on as plain values; nothing reaches for a global. Starting goes down the list,
stopping up again: streams and waits end, then nobody new comes, then what was queued is written, then the store closes.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobsvc.archiver import Archiver
from jobsvc.avoided import Avoided
from jobsvc.clock import SystemClock
from jobsvc.desk import Limits
from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import Principal
from jobsvc.feed import Feed
from jobsvc.handovers import Handovers
from jobsvc.http.acts import Acts
from jobsvc.http.browsers import Browsers
from jobsvc.http.edge import dispatching
from jobsvc.http.gauge import Gauge
from jobsvc.http.identity import Identity
from jobsvc.http.limits import Limits as RequestLimits
from jobsvc.http.revocations import Revocations
from jobsvc.http.routes import ROUTES
from jobsvc.http.server import Server, allow_files, fast_path_works
from jobsvc.http.service import Service
from jobsvc.http.streams import Streams
from jobsvc.http.wire import HandOver
from jobsvc.ledger import Ledger
from jobsvc.lines import tell_loop_faults
from jobsvc.metrics import Metrics
from jobsvc.observe import observing
from jobsvc.operate.doctor import bounds_of
from jobsvc.operate.owner import announcement
from jobsvc.operate.recalling import recall
from jobsvc.operate.rounds import Rounds
from jobsvc.operate.views import CATCH_UP
from jobsvc.store.sqlite import SqliteStore
from jobsvc.sweeper import Sweeper
from jobsvc.tally import Tally
from jobsvc.telemetry import log, log_failure
from jobsvc.tokens import Bearer
from projections.runner import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from jobsvc.clock import Clock
    from jobsvc.http.edge import Route
    from jobsvc.http.provider import Provider
    from jobsvc.settings import Settings
    from jobsvc.store.seam import Parked, Store

EXIT_DONE: Final = 0
EXIT_STORE_BEYOND_REPAIR: Final = 70

_COLLECTOR_THRESHOLDS: Final = (50_000, 20, 50)
"""Allocations before a young collection, and how many of each before the next older."""

_SWITCH_INTERVAL_S: Final = 0.0005
"""
How long the event loop may keep the interpreter from the store's thread while that thread wants it.

Each statement of a commit gives the interpreter up and takes it again; at the default of 5 ms a busy loop would make
every commit of a dozen statements wait 60 ms.
"""


def limits_of(settings: Settings) -> Limits:
    """The ledger's bounds as the settings say."""
    return Limits(
        queue_commands_max=settings.queue_commands_max,
        queue_commands_per_owner_max=settings.queue_commands_per_owner_max,
        queue_commands_guests_max=settings.queue_commands_guests_max,
        batch_commands_max=settings.commit_batch_max,
        active_per_owner_max=settings.active_per_owner_max,
        active_total_max=settings.active_total_max,
        active_guests_max=settings.active_guests_max,
        active_max_us=int(settings.active_max_s * SECOND_US),
        progress_interval_us=int(SECOND_US / settings.progress_per_s),
        events_per_job_max=settings.events_per_job_max,
        idempotency_ttl_us=int(settings.idempotency_ttl_s * SECOND_US),
    )


@asynccontextmanager
async def running(
    settings: Settings, *, clock: Clock | None = None, store: Store | None = None, by_itself: bool = True
) -> AsyncIterator[Service]:
    """
    A service that takes commands, without a socket; stopped in order when the block ends.

    Args:
        settings: With a secret.
        clock: The machine's, if not given.
        store: The one that the settings name, if not given.
        by_itself: Bring about what comes due, move what was left undone, keep projections and make the doctor's rounds;
            False where a recording is only shown.
    """
    clock = clock or SystemClock()
    store = store or SqliteStore(settings.database_path)
    metrics = Metrics()
    ledger = Ledger(store, clock, limits_of(settings), metrics=metrics)
    await ledger.start()
    feed = Feed(store, ledger.memory, ring_events_max=settings.ring_events_max, ring_bytes_max=settings.ring_bytes_max)
    feed.start()
    tally = Tally(since=clock.now())
    avoided = Avoided(is_active=lambda job_id: job_id in ledger.memory.jobs, ended_max=settings.avoided_ended_jobs_max)
    ledger.on_commit += [feed.publish, observing(metrics), tally.add, avoided.take]
    earlier = recall(tally, store, until=ledger.memory.position, events_max=settings.stats_recalled_events_max)
    recalling = asyncio.create_task(earlier, name="recalling")
    sweeper = Sweeper(ledger, store, clock)
    if by_itself:
        sweeper.start()
    revocations = Revocations(store, ledger, clock, ttl_s=settings.revocation_ttl_s)
    streams = Streams(
        feed,
        ledger,
        settings,
        clock=clock,
        metrics=metrics,
        revocations=revocations,
        hand_over=await _hand_over(),
    )
    runner = Runner(
        store,
        CATCH_UP if by_itself else (),
        tell=_tell_parked,
        recent=feed.ring.recent,
        parked_max=settings.projection_parked_max,
    )
    await runner.start()
    ledger.on_commit.append(runner.notice)
    gauge = Gauge(tally, ledger, streams, runner, every_s=settings.stats_look_s)
    gauge.start()
    handovers = Handovers(ledger, store, jobs_max=settings.handover_jobs_max)
    ledger.on_spent.append(revocations.note_claimed)
    archiver = Archiver(
        ledger, store, clock, older_than_s=settings.archive_older_than_s, every_s=settings.archive_every_s
    )
    if by_itself:
        await handovers.start()
        archiver.start()
    provider = _provider_of(settings, clock)
    identity = Identity(settings, clock, revocations, provider=provider)
    if provider is not None:
        provider.start(on_withdrawn=identity.forget_all)
    acts = Acts()
    rounds = _rounds_of(settings, store, clock, ledger)
    if by_itself:
        rounds.start()
    try:
        yield Service(
            settings,
            clock,
            store,
            ledger,
            feed,
            identity,
            revocations,
            streams,
            handovers,
            runner,
            metrics,
            RequestLimits(settings, clock),
            Browsers(settings.allowed_origins, hsts_max_age_s=settings.cookie_secure and settings.hsts_max_age_s),
            acts,
            tally,
            gauge,
            avoided,
            rounds,
            archiver,
        )
    finally:
        recalling.cancel()
        for stop in (gauge.stop, rounds.stop, acts.stop, streams.stop, archiver.stop, handovers.stop):
            await stop()
        if provider is not None:
            await provider.stop()
        await runner.stop()
        await sweeper.stop()
        await ledger.stop()


def _rounds_of(settings: Settings, store: Store, clock: Clock, ledger: Ledger) -> Rounds:
    return Rounds(
        store,
        settings.database_path,
        clock,
        bounds=bounds_of(settings),
        slice_events=settings.doctor_slice_events_max,
        pause_s=settings.doctor_pause_s,
        rest_s=settings.doctor_rest_s,
        trusted=lambda: ledger.accepting,
    )


def _provider_of(settings: Settings, clock: Clock) -> Provider | None:
    if not settings.has_provider:
        return None
    from jobsvc.http.provider import Provider  # noqa: PLC0415  # brings 10 MB of cryptography that few need

    return Provider(settings, clock)


async def _hand_over() -> HandOver:
    """How streams leave aiohttp: whole, if that works here."""
    works = await HandOver.works()
    if not works:
        log("stream.parked")
    return HandOver(frees=works)


async def _fast_path(service: Service) -> bool:
    """True if connections begin on the fast path, which they do if that works here."""
    works = await fast_path_works(service)
    if not works:
        log("fast_path.off")
    return works


def _tell_parked(projection: str, failure: Exception, parked: Parked | None) -> None:
    if parked is None:
        log_failure("projection.held", failure, projection=projection)
    else:
        log_failure("projection.parked", failure, projection=projection, job_id=parked.job_id, position=parked.position)


@asynccontextmanager
async def serving(service: Service, *, routes: tuple[Route, ...] = ROUTES) -> AsyncIterator[str]:
    """*service* reachable over HTTP at the URL that the block is given; no new connections once it ends."""
    settings = service.settings
    server = Server(dispatching(routes, service), service, fast=await _fast_path(service))
    runner = web.ServerRunner(server, shutdown_timeout=settings.drain_s)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024, reuse_address=True)
        await site.start()
        url = _url_of(runner, settings.host)
        await service.store.announce(announcement(url, settings.allowed_hosts))
        yield url
    finally:
        await runner.cleanup()


async def run(settings: Settings, *, announce: Callable[[str], None], link: bool = False) -> int:
    """
    The service until SIGTERM or SIGINT, then drained; the exit code.

    Args:
        settings: With a secret.
        announce: Told ``listening on http://HOST:PORT`` when ready.
        link: Also announce a dashboard link with a one-use code.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    tell_loop_faults(asyncio.get_running_loop())
    allow_files(settings.connections_max)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings) as service, serving(service) as url:
        _calm_collector()
        announce(f"listening on {url}")
        if link:
            announce(f"dashboard: {url}/#code={link_code(service)}")
        log("service.started", position=service.ledger.memory.position, epoch=service.ledger.memory.epoch)
        failed = await _until(stop, service.ledger)
        log("service.draining", count=len(service.streams))
        # Also where no stream keeps it: whoever asks /readyz in time is told before the door closes.
        notice = asyncio.sleep(0 if failed else settings.drain_notice_s)
        await asyncio.gather(service.streams.drain(settings.drain_s), service.acts.stop(), notice)
    log("service.stopped")
    return EXIT_STORE_BEYOND_REPAIR if failed else EXIT_DONE


def _calm_collector() -> None:
    """What was made until now is for good, and cycles are rare: the collector looks seldom, and never at those."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


async def _until(stop: asyncio.Event, ledger: Ledger) -> bool:
    """True if the store failed beyond repair, or the writer ended, before anybody asked to stop."""
    asked = asyncio.create_task(stop.wait())
    assert ledger.fatal is not None  # noqa: S101  # set by start
    assert ledger.writer is not None  # noqa: S101  # the same
    waiting: set[asyncio.Future[Any]] = {asked, ledger.fatal, ledger.writer}
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    return asked not in done


def link_code(service: Service) -> str:
    """A one-use code that makes an operator of whoever opens the dashboard with it."""
    operator = Principal("operator", "dashboard")
    code, _ = service.identity.links.make(Bearer(operator, expires_at=0))
    return code


def _url_of(runner: web.BaseRunner, host: str) -> str:
    address = runner.addresses[0]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{address[1]}"
