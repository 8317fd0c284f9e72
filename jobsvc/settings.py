"""
The settings: one frozen record of everything that may be set, passed on as plain values.

What lives here: each setting with its meaning, unit, default and bound, and what follows from a few of them. Where they
come from is settings_loading.py's, which of them do not go together settings_checks.py's.

What must never live here: a reading. Nobody below the command line looks at the environment or at a file.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

_DAY_S: Final = 86_400

Count = Annotated[int, Meta(ge=1)]
"""A whole number from 1."""
CountOrNone = Annotated[int, Meta(ge=0)]
"""A whole number from 0."""
Seconds = Annotated[float, Meta(gt=0)]
"""A length of time in seconds, fractions allowed, above 0."""
SecondsOrNone = Annotated[float, Meta(ge=0)]
"""A length of time in seconds, fractions allowed, from 0."""


class UnusableSetting(ValueError):
    """A setting is unknown or has a value that cannot be used; the message names it, its source and what would do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    Everything that may be set. Each name is also the TOML key, and in upper case after ``JOBSVC_`` the variable.

    In a variable a list is written ``a,b`` and a mapping ``a=x,b=y``.
    """

    # --- Where it listens and what it keeps ----------------------------------------------------------------------

    host: str = "127.0.0.1"
    """Address to listen on. Anything but a loopback address needs a configured secret."""

    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """Port to listen on; 0 picks a free one."""

    database: str = "jobsvc.db"
    """The log's SQLite file, as a path or a ``sqlite:///`` URL. It is made if there is none."""

    secret: str = field(default="", repr=False)
    """Signs bearer tokens and leases. Empty: the one in the file beside the database, which is made if need be."""

    secret_previous: tuple[str, ...] = field(default=(), repr=False)
    """Secrets before the present one, at most 8: what they signed still counts, so that a rotation logs nobody out."""

    allowed_hosts: tuple[str, ...] = ()
    """
    Host names (without port) that requests may come for. Empty: on loopback every name of loopback; beyond it ``host``,
    this machine's own name, and any address, since a page can have a name lead here but no address (rebinding).
    """

    allowed_origins: tuple[str, ...] = ()
    """Origins, such as ``https://app.example``, whose pages may call, with cookies, and read. Empty: our own only."""

    cookie_secure: bool = False
    """TLS is in front of the service: the cookie is ``__Host-`` and Secure, and our own origin is an https one."""

    hsts_max_age_s: CountOrNone = 31_536_000
    """
    Behind TLS (``cookie_secure``) every answer tells browsers to come to this host over TLS alone for so long
    (Strict-Transport-Security). 0: it is not told.
    """

    metrics_open: bool = False
    """Let anybody read ``/metrics``, not only viewers and operators."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level of log lines that are written."""

    log_lines_per_s_max: CountOrNone = 50
    """Log lines a second of one event that callers can bring about, such as refusals; more are counted only."""

    drain_s: SecondsOrNone = 10.0
    """How long SIGTERM lets streams move elsewhere and requests finish. 0: they are cut at once."""

    drain_notice_s: SecondsOrNone = 0.25
    """How long after SIGTERM requests are still taken, with `/readyz` at 503, so that a balancer sees it in time."""

    # --- Who users are -------------------------------------------------------------------------------------------

    guest_ttl_s: Seconds = 30.0 * _DAY_S
    """How long a guest's token and cookie last."""

    guests_per_minute_max: Count = 60
    """New guests a minute from one address, or one /64 of IPv6; more are told to slow down."""

    guests_per_minute_total_max: CountOrNone = 60_000
    """New guests a minute from all addresses together; more are told to slow down. 0: no bound."""

    writes_per_minute_max: CountOrNone = 60_000
    """Writes a minute by one guest or user, each job of a batch counted; more are told to slow down. 0: no bound."""

    guest_kinds: tuple[str, ...] = ()
    """Kinds that guests and users may create. Empty: all."""

    guest_max_attempts_max: Count = 10
    """The most attempts that a guest or user may ask for."""

    guest_run_at_max_s: Seconds = 30.0 * _DAY_S
    """How far ahead a guest or user may schedule."""

    revocation_ttl_s: Seconds = 3_650.0 * _DAY_S
    """How long a revocation is kept. No token that lives longer is made, since it would count again after that."""

    link_code_ttl_s: Seconds = 600.0
    """How long the dashboard link printed at start may be used, once."""

    ticket_ttl_s: Seconds = 60.0
    """How long a stream's ticket may be used, once."""

    tickets_per_principal_max: Count = 100
    """Unused tickets of one principal; one more takes the place of the oldest."""

    tickets_total_max: Count = 10_000
    """Unused tickets of all together; one more takes the place of the oldest."""

    # --- Users of a platform: docs/identity.md -------------------------------------------------------------------

    idp_jwks: str = ""
    """The identity provider's public keys: an https URL (http on loopback), or a file. Empty: see ``idp_secret``."""

    idp_secret: str = field(default="", repr=False)
    """What the identity provider signs with, where it shares a secret instead of publishing keys. At least 32 bytes."""

    idp_issuer: str = ""
    """The ``iss`` that the provider's tokens must have."""

    idp_audience: tuple[str, ...] = ()
    """Of these, a token's ``aud`` must name one."""

    idp_algorithms: tuple[str, ...] = ()
    """Signatures that count. Empty: RS256 and ES256 by public keys, HS256 by a shared secret."""

    idp_leeway_s: Annotated[int, Meta(ge=0, le=5)] = 5
    """By how much the provider's clock and ours may differ."""

    idp_subject_claim: str = "sub"
    """The claim that says who the user is; the owner is ``user:`` and its value, 1 to 200 printable characters."""

    idp_role_claim: str = ""
    """The claim, text or a list, that may make a role of somebody. Empty: everybody is a user."""

    idp_roles: dict[str, str] = field(default_factory=dict, hash=False)
    """Value of that claim to role: operator, viewer, service or worker; the first that fits. All others are users."""

    idp_refresh_s: Seconds = 300.0
    """How often the provider's keys are fetched again, or their file looked at."""

    idp_refresh_min_s: Seconds = 5.0
    """How long forged tokens cause no further fetch, after one that brought no new key."""

    idp_timeout_s: Seconds = 5.0
    """The longest that a fetch of the keys may take."""

    idp_jwks_bytes_max: Count = 262_144
    """Bytes of the provider's list of keys."""

    idp_keys_max: Count = 100
    """Keys in that list."""

    # --- Connections ---------------------------------------------------------------------------------------------

    connections_max: Count = 20_000
    """Open connections, or as many as the process may have files open; one more is answered 503 and closed."""

    connection_idle_s: Seconds = 75.0
    """How long a connection may be open without a whole request, the first or the next."""

    body_wait_s: Seconds = 30.0
    """How long a request's body may take to come in."""

    bodies_per_principal_max: Count = 100
    """Bodies of one principal that are coming in at a time; the next request is told to slow down."""

    bodies_guests_max: Count = 900
    """Bodies of all guests that are coming in at a time."""

    bodies_total_max: Count = 1_000
    """Bodies that are coming in at a time. With ``body_bytes_max`` it bounds the service's memory."""

    waits_per_principal_max: Count = 1_000
    """Requests of one principal that are held for something to happen: reads, claims, creates that prefer to wait."""

    waits_guests_max: Count = 9_000
    """Requests of all guests together that are held."""

    waits_total_max: Count = 10_000
    """Requests that are held; one more is told to slow down, or, where it only prefers to wait, answered at once."""

    looks_total_max: Count = 3
    """Looks at the whole log under way at a time, one a principal: ``as_of`` of active jobs, differences, bisects."""

    looks_guests_max: Count = 2
    """Looks of all guests together under way at a time."""

    # --- What a request may hold ---------------------------------------------------------------------------------

    body_bytes_max: Count = 1_048_576
    """Bytes of a request's body."""

    json_depth_max: Count = 64
    """Levels of nesting in a body."""

    items_max: Count = 500
    """Jobs in a batch, reports in a request, and jobs in a claim."""

    key_characters_max: Annotated[int, Meta(ge=1, le=2_048)] = 2_048
    """Characters of a key, and of a URL as sent. The schema holds no more."""

    title_characters_max: Count = 200
    """Characters of a title."""

    kind_characters_max: Count = 64
    """Characters of a kind."""

    metadata_bytes_max: Count = 16_384
    """Bytes of a job's metadata as JSON."""

    progress_data_bytes_max: Count = 4_096
    """Bytes of the data in a progress report as JSON."""

    message_characters_max: Count = 1_000
    """Characters of a progress or error message, and of a reason."""

    worker_characters_max: Count = 200
    """Characters of a worker's name."""

    idempotency_key_characters_max: Annotated[int, Meta(ge=1, le=255)] = 255
    """Characters of an Idempotency-Key."""

    idempotency_ttl_s: Seconds = 1.0 * _DAY_S
    """How long the same Idempotency-Key gets the first answer again."""

    prefer_wait_max_s: SecondsOrNone = 60.0
    """The longest that a create with ``Prefer: wait`` is held."""

    read_wait_max_s: SecondsOrNone = 60.0
    """The longest that a read with ``wait_s`` is held, and a long-poll of the stream."""

    claim_wait_max_s: SecondsOrNone = 30.0
    """The longest that a claim waits for jobs."""

    page_rows_max: Annotated[int, Meta(ge=1, le=1_999)] = 500
    """Jobs or events in one page of a list, where nothing else is said; also what one read from the store brings."""

    active_page_max: Annotated[int, Meta(ge=1, le=1_000)] = 1_000
    """Jobs in one page of an operator's active list."""

    # --- What jobs may do ----------------------------------------------------------------------------------------

    profiles: dict[str, str] = field(default_factory=dict, hash=False)
    """Kind to the profile that makes its key from a URL. Kinds not named: ``x-post`` for x-post, else ``default``."""

    active_per_owner_max: Count = 1_000
    """Active jobs of one owner."""

    active_total_max: Count = 100_000
    """Active jobs of all owners together. Bounds the service's memory."""

    active_guests_max: Count = 90_000
    """Active jobs of all guests together, so that whatever guests do, there is room for users."""

    active_max_s: Seconds = 7.0 * _DAY_S
    """The longest that a job may be active; then it has expired."""

    lease_default_s: Annotated[float, Meta(ge=1, le=3_600)] = 30.0
    """A lease where the claim names none."""

    lease_max_s: Annotated[float, Meta(ge=1, le=3_600)] = 3_600.0
    """The longest lease that a claim may ask for."""

    progress_per_s: Seconds = 2.0
    """Progress events a second and job; more are merged, the latest wins."""

    events_per_job_max: Count = 9_000
    """Events after which a job's progress is kept in memory and written once, at its end."""

    # --- The ledger ----------------------------------------------------------------------------------------------

    queue_commands_max: Count = 10_000
    """Commands waiting for the writer; more are answered 503."""

    queue_commands_per_owner_max: Count = 2_500
    """Commands on one owner's jobs waiting for the writer, the jobs of a batch counted; more are told to slow down."""

    queue_commands_guests_max: Count = 9_000
    """Commands on all guests' jobs waiting for the writer."""

    commit_batch_max: Annotated[int, Meta(ge=1, le=256)] = 256
    """Commands in one transaction. A command gives at most four events; a claimed guest five for each active job."""

    handover_jobs_max: Annotated[int, Meta(ge=1, le=256)] = 100
    """Ended jobs of a claimed guest that move to the user in one transaction."""

    stats_recalled_events_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 20_000
    """Of the log's newest events so many are read again at the start, so that the statistics know of them."""

    stats_look_s: Seconds = 5.0
    """How often the statistics look at how many streams are open, and how far behind streams and projections are."""

    avoided_ended_jobs_max: Count = 10_000
    """Of so many ended jobs, the newest, is known how many duplicates they spared; of active ones it always is."""

    handover_wait_max_s: Seconds = 2.0
    """How long the answer to a claim waits for the ended jobs to have moved; the rest follow at once."""

    projection_parked_max: Count = 1_000
    """Jobs whose events a projection may have parked, each because of one that it could not take in; then it holds."""

    doctor_slice_events_max: Annotated[int, Meta(ge=1, le=2_000)] = 64
    """Events that the service's own rounds over the log look at in one step: about 7 µs each on the event loop."""

    doctor_pause_s: Seconds = 0.05
    """How long the rounds let others go on after each step. With 64 events a step they take 2 % of a core."""

    doctor_rest_s: Seconds = 600.0
    """How long after one round over the log the next begins."""

    doctor_disk_free_bytes_min: CountOrNone = 268_435_456
    """Bytes free on the log's disk below which the doctor finds fault."""

    doctor_lag_events_max: CountOrNone = 10_000
    """Events that a projection may be behind the log before the doctor finds fault."""

    ready_in_spite_of_findings: bool = False
    """Leave `/readyz` at 200 while projections have events parked or the doctor finds something; metrics tell."""

    # --- The archive ---------------------------------------------------------------------------------------------

    archive_older_than_s: SecondsOrNone = 30.0 * _DAY_S
    """Jobs of which nothing has happened for this long, and that have ended, are archived; 0 for never by itself."""

    archive_every_s: Seconds = 3_600.0
    """How often the service looks for such."""

    # --- The stream ----------------------------------------------------------------------------------------------

    heartbeat_s: Seconds = 15.0
    """Idle time after which a stream gets ``hb``."""

    streams_per_principal_max: Count = 8
    """Open streams of one principal; the oldest gets ``bye``."""

    streams_total_max: Count = 10_000
    """Open streams of all together; one more gets ``bye`` overload."""

    streams_guests_max: Count = 9_000
    """Open streams of all guests together; one more gets ``bye`` overload."""

    stream_jobs_max: Count = 100
    """How often ``job=`` may stand in a stream's query."""

    ring_events_max: Count = 8_192
    """Encoded events kept in memory for streams that resume; older ones are read from the store."""

    ring_bytes_max: Count = 67_108_864
    """
    Bytes of encoded events kept in memory for streams that resume; for those told the same, an eighth more, and as much
    of their snapshots.
    """

    snapshot_part_bytes_max: Count = 65_536
    """Bytes of one part of a snapshot; a single larger job is a part of its own."""

    stream_buffer_high_bytes: Count = 16_384
    """Bytes unread by a client above which it is sent nothing more, until it has read."""

    stream_buffer_low_bytes: CountOrNone = 4_096
    """Bytes unread by a client below which it is sent more again."""

    stream_kernel_bytes: Count = 65_536
    """Bytes unread by a client that the kernel holds beside those; Linux takes twice as many, and else megabytes."""

    stream_stall_s: Seconds = 30.0
    """How long a stream's client may read nothing of what waits for it before it is cut; twice that for any answer."""

    catching_up_at_once_max: Count = 8
    """How many pages of the log are read at a time for streams that resume further back than the ring."""

    @property
    def database_path(self) -> Path:
        """The log's file."""
        return _database_path(self.database)

    @property
    def secret_path(self) -> Path:
        """The secret's file beside the database."""
        path = self.database_path
        return path.with_name(f"{path.name}.secret")

    @property
    def has_provider(self) -> bool:
        """True if an identity provider proves users."""
        return bool(self.idp_jwks or self.idp_secret)

    @property
    def idp_algorithms_allowed(self) -> tuple[str, ...]:
        """The signatures of the identity provider that count."""
        return self.idp_algorithms or (("HS256",) if self.idp_secret else ("RS256", "ES256"))

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the service."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """True if *host*, a name or an address, is this machine as seen from itself only."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _database_path(database: str) -> Path:
    scheme, separator, rest = database.partition("://")
    if not database or "\x00" in database:
        raise UnusableSetting("database: not a path")
    if not separator:
        return Path(database)
    match scheme.lower():
        case "sqlite":
            return _database_path(rest.removeprefix("/"))
        case "postgres" | "postgresql":
            raise UnusableSetting("database: PostgreSQL is not built yet; name a file")
        case _:
            raise UnusableSetting(f"database: {scheme} is not a database that is known here; name a file")
