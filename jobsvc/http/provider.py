"""
The identity provider: users who prove themselves with a token of the platform that they come from.

A token counts if a key of the provider signed it, by an algorithm that the settings list, for this issuer and this
audience, and its time has come and is not over. Its header chooses among the provider's keys and nothing else: what it
says of keys elsewhere (jku, jwk, x5u) is never looked at. Whoever comes this way is a user, unless the settings make
another role of a claim. What must never live here: our own tokens (tokens.py), or where keys come from (jwks.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from joserfc import jws
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry

from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import Principal
from jobsvc.http.jwks import Jwks
from jobsvc.tokens import TOKEN_CHARACTERS_MAX, Bearer, UnusableToken, moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from joserfc.jws import CompactSignature
    from joserfc.jwt import ClaimsOption

    from jobsvc.clock import Clock
    from jobsvc.domain.words import Role
    from jobsvc.http.jwks import Key
    from jobsvc.settings import Settings

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Kinds of tokens that say who somebody is; a logout token, say, is signed by the same keys."""
_SUBJECT: Final = re.compile(r"[!-~]{1,200}")
_HEADER_BYTES_MAX: Final = 4_096
_UNREADABLE: Final = (JoseError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What comes of a text that somebody made up."""


class Provider:
    """Proves those who come with a token of the platform's. One per service, if the settings name a provider."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._registry = jws.JWSRegistry(algorithms=settings.idp_algorithms_allowed, strict_check_header=False)
        self._registry.max_header_length = _HEADER_BYTES_MAX
        self._shared = [OctKey.import_key(settings.idp_secret)] if settings.idp_secret else []
        self._jwks = Jwks(settings, clock) if settings.idp_jwks else None

    def start(self, *, on_withdrawn: Callable[[], None]) -> None:
        """The provider's keys are being fetched; *on_withdrawn* is called whenever one is listed no more."""
        if self._jwks is not None:
            self._jwks.on_withdrawn.append(on_withdrawn)
            self._jwks.start()

    async def stop(self) -> None:
        """Nothing is asked of the provider any more."""
        if self._jwks is not None:
            await self._jwks.stop()

    async def read(self, token: str, *, now: int) -> Bearer:
        """
        All that *token* says.

        Raises:
            UnusableToken: The provider did not sign it for us, or its time has not come or is over.

        Cost: one verification of a signature, up to 0.2 ms; a fetch of the keys, now and then, if none of them fits.
        """
        try:
            signed = self._taken_apart(token)
            if not await self._is_signed(signed):
                raise UnusableToken
            return self._bearer(_claims(signed.payload), now=now)
        except ExpiredTokenError as error:
            raise UnusableToken("the token has expired", expired=True) from error
        except _UNREADABLE as error:
            raise UnusableToken from error

    def _taken_apart(self, token: str) -> CompactSignature:
        if not token.isascii() or len(token) > TOKEN_CHARACTERS_MAX:
            raise UnusableToken
        signed = jws.extract_compact(token.encode("ascii"), registry=self._registry)
        header = signed.headers()
        if "crit" in header:
            raise UnusableToken
        self._registry.check_header(header)
        self._registry.get_alg(header["alg"])
        if str(header.get("typ", "jwt")).lower() not in _TYPES:
            raise UnusableToken
        return signed

    # Signature

    async def _is_signed(self, signed: CompactSignature) -> bool:
        """True if a key of the provider's fits the signature; its keys are fetched again if none does."""
        if self._jwks is None:
            return self._verified(signed, self._shared)
        key_id, algorithm = signed.headers().get("kid"), signed.headers()["alg"]
        if self._verified(signed, self._jwks.fitting(key_id, algorithm)):
            return True
        # Also where the key's id is known: another key may go by it now. Twice: the first may be a fetch that somebody
        # else had begun before the key was there.
        for _ in range(2):
            if not await self._jwks.refresh():
                break
            if self._verified(signed, self._jwks.fitting(key_id, algorithm)):
                return True
        return False

    def _verified(self, signed: CompactSignature, keys: Sequence[Key | OctKey]) -> bool:
        return any(self._verifies(signed, key) for key in keys)

    def _verifies(self, signed: CompactSignature, key: Key | OctKey) -> bool:
        try:
            return jws.validate_compact(signed, key, registry=self._registry)
        except JoseError:
            # Of another curve or use than the algorithm's: another of the keys may be the one.
            return False

    # Claims

    def _bearer(self, claims: dict[str, Any], *, now: int) -> Bearer:
        """
        Who *claims* say the bearer is.

        Raises:
            JoseError, UnusableToken: They are another's, or not of this time, or name nobody.
        """
        settings = self._settings
        named: dict[str, ClaimsOption] = {
            "iss": {"essential": True, "value": settings.idp_issuer},
            "aud": {"essential": True, "values": list(settings.idp_audience)},
            "exp": {"essential": True},
        }
        JWTClaimsRegistry(now=now // SECOND_US, leeway=settings.idp_leeway_s, **named).validate(claims)
        subject = claims.get(settings.idp_subject_claim)
        if not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None:
            raise UnusableToken("the token names nobody that can be an owner here")
        issued_at = None if "iat" not in claims else moment_of(claims["iat"])
        return Bearer(self._principal(claims, subject), moment_of(claims["exp"]), claims.get("jti"), issued_at)

    def _principal(self, claims: dict[str, Any], subject: str) -> Principal:
        """A user, whose name can be nobody's that we issue otherwise; or what the settings make of a claim."""
        said = claims.get(self._settings.idp_role_claim) if self._settings.idp_role_claim else None
        values = said if isinstance(said, list) else [said]
        for value, role in self._settings.idp_roles.items():
            if value in values:
                return _principal(cast("Role", role), subject)
        return _principal("user", subject)


def _principal(role: Role, subject: str) -> Principal:
    if role != "user":
        return Principal(role, subject)
    # Always put before it: two subjects of the provider can never be one owner.
    owner = f"user:{subject}"
    return Principal(role, owner, owner)


def _claims(payload: bytes) -> dict[str, Any]:
    claims = msgspec.json.decode(payload)
    if not isinstance(claims, dict):
        raise UnusableToken
    return claims
