"""
Who is asking: bearer tokens, the guest's cookie, a stream's ticket; and new guests.

Default is deny: a request without a valid credential is nobody's. What a principal may do with a job is decided in the
domain; here is only who it is, which roles a route takes being the route table's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from jobsvc.domain.errors import InvalidCommand
from jobsvc.http.bearers import KnownBearers
from jobsvc.http.codes import OneUseCodes
from jobsvc.http.origins import Origins
from jobsvc.http.problems import Unauthenticated
from jobsvc.tokens import Bearer, UnusableToken, issue, read_bearer

if TYPE_CHECKING:
    from jobsvc.clock import Clock
    from jobsvc.http.provider import Provider
    from jobsvc.http.request import Request
    from jobsvc.http.revocations import Revocation, Revocations
    from jobsvc.settings import Settings

_BEARERS_MAX: Final = 10_000
_LINKS_MAX: Final = 100
_COOKIE_ROLES: Final = frozenset({"guest", "user"})


class Credential(Struct, frozen=True):
    """A proved principal: who, until when, by what text, and whether a browser sent it by itself (``cookie``)."""

    bearer: Bearer
    text: str
    cookie: bool


class Proved(NamedTuple):
    """What the sender of one Authorization header was proved to be, before who was forgotten since."""

    authorization: str
    credential: Credential
    times_forgotten: int


class Identity:
    """Proves principals and makes guests. One per service."""

    def __init__(
        self, settings: Settings, clock: Clock, revocations: Revocations, *, provider: Provider | None = None
    ) -> None:
        """
        Nobody is known yet.

        Args:
            settings: The secrets, and how much may be.
            clock: By which tokens expire.
            revocations: Whose tokens count no more.
            provider: Who proves the platform's users, if anybody does.
        """
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._revocations = revocations
        revocations.on_revoked.append(self._forget)
        self._bearers = KnownBearers(bearers_max=_BEARERS_MAX)
        self._times_forgotten = 0
        """So that who is just being proved is not believed by what has been forgotten meanwhile."""
        self.origins = Origins(settings)
        self.links = OneUseCodes(
            clock,
            purpose="link",
            ring=(settings.secret, *settings.secret_previous),
            ttl_s=settings.link_code_ttl_s,
            per_principal_max=_LINKS_MAX,
            total_max=_LINKS_MAX,
        )
        self.tickets = OneUseCodes(
            clock,
            purpose="ticket",
            ring=(settings.secret, *settings.secret_previous),
            ttl_s=settings.ticket_ttl_s,
            per_principal_max=settings.tickets_per_principal_max,
            total_max=settings.tickets_total_max,
        )

    # Proving

    async def prove(self, request: Request) -> Credential:
        """
        Who sent *request*. Where cookie and Authorization both come, Authorization wins.

        Cost: a dict's for a bearer that is known, and no turn of the loop; one look-up in the store for a new one.

        Raises:
            Unauthenticated: Neither proves anybody.
            AccessDenied: A write under a cookie that another site's page may have caused.
        """
        authorization = request.head.authorization
        if authorization is not None:
            scheme, _, text = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated
            times = self._times_forgotten
            credential = Credential(await self._bearer(text.strip()), text, cookie=False)
            if request.connection is not None:
                request.connection.proved = Proved(authorization, credential, times)
            return credential
        cookie = request.aiohttp.cookies.get(self.origins.cookie_name(request))
        if cookie is None:
            raise Unauthenticated
        bearer = await self._bearer(cookie)
        if bearer.principal.role not in _COOKIE_ROLES:
            raise Unauthenticated
        self.origins.check_origin(request)
        return Credential(bearer, cookie, cookie=True)

    def remembered(self, request: Request) -> Credential | None:
        """
        What ``prove`` would say, if the same was just said on this connection: most callers keep theirs.
        """
        connection = request.connection
        if connection is None or connection.proved is None:
            return None
        authorization, credential, times = connection.proved
        if times != self._times_forgotten or request.head.authorization != authorization:
            return None
        return credential if credential.bearer.expires_at > self._clock.now() else None

    async def redeem(self, ticket: str) -> Credential | None:
        """
        Whom a stream's *ticket* stands for, once, as long as the token that it was made for counts.

        None if it was used or has run out.

        Raises:
            Unauthenticated: It is made up, or what it stands for was revoked.
        """
        bearer = self.tickets.spend(ticket)
        if bearer is None or bearer.expires_at <= self._clock.now():
            return None
        if await self._revocations.covers(bearer):
            raise Unauthenticated("this token was revoked")
        return Credential(bearer, ticket, cookie=False)

    async def guest_of(self, token: str) -> Bearer:
        """
        The guest whose *token* somebody shows who is not that guest any more.

        Raises:
            InvalidCommand: It is no token of a guest: made up, run out, or spent.
        """
        try:
            bearer = await self._bearer(token)
        except Unauthenticated as refusal:
            raise InvalidCommand(f"guest_token: {refusal.message}", pointer="/guest_token") from refusal
        if bearer.principal.role != "guest":
            raise InvalidCommand("guest_token is not the token of a guest", pointer="/guest_token")
        return bearer

    async def _bearer(self, text: str) -> Bearer:
        known = self._bearers.get(text)
        if known is not None and known.expires_at > self._clock.now():
            return known
        times = self._times_forgotten
        try:
            bearer = await self._read(text)
        except UnusableToken as error:
            raise Unauthenticated(str(error)) from error
        if await self._revocations.covers(bearer):
            raise Unauthenticated("this token was revoked")
        if times == self._times_forgotten:
            self._bearers.add(text, bearer)
        return bearer

    async def _read(self, text: str) -> Bearer:
        """
        What a token says, ours or the provider's: it has the signature of one of the two, and is held to that one.

        Raises:
            UnusableToken: It has neither, or does not count.
        """
        settings, now = self._settings, self._clock.now()
        try:
            return read_bearer(settings.secret, text, now=now, previous=settings.secret_previous)
        except UnusableToken as error:
            if self._provider is None or error.expired:
                raise
        return await self._provider.read(text, now=now)

    def forget_all(self) -> None:
        """Everybody has to be proved again: a key that may have signed what was believed counts no more."""
        self._bearers.clear()
        self._times_forgotten += 1

    def _forget(self, revocation: Revocation, _farewell: str) -> None:
        self._bearers.forget(revocation)
        self._times_forgotten += 1

    # Guests

    def make_guest(self, guest_id: str) -> tuple[str, str, int]:
        """(owner, token, expires_at) of a new guest."""
        now, ttl_s = self._clock.now(), self._settings.guest_ttl_s
        owner = f"guest:{guest_id}"
        token = issue(self._settings.secret, "guest", subject=owner, ttl_s=ttl_s, now=now)
        bearer = read_bearer(self._settings.secret, token, now=now)
        # Nobody can have revoked what nobody has heard of: its first request asks no store.
        self._bearers.add(token, bearer)
        return owner, token, bearer.expires_at

    def make_operator(self, subject: str, ttl_s: float) -> str:
        """A token of an operator, for the page that was opened by the link printed at start."""
        return issue(self._settings.secret, "operator", subject=subject, ttl_s=ttl_s, now=self._clock.now())
