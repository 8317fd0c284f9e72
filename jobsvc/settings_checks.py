"""
Which settings do not go together: what is wrong with each alone its type says, what is wrong in connection stands here.

What must never live here: a value, or where it came from.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from jobsvc.domain.keys import PROFILES
from jobsvc.settings import Settings, UnusableSetting, is_loopback

SECRET_CHARACTERS_ENOUGH: Final = 32
"""Who holds one token can try out a shorter secret until it fits; serve warns of it. (RFC 7518, section 3.2.)"""

KEY_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"}
)
"""Signatures by a public key."""
SECRET_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
"""Signatures by a shared secret."""
_MAPPED: Final = frozenset({"user", "service", "worker", "operator", "viewer"})
"""Roles that a claim of the identity provider may give."""
SECRETS_PREVIOUS_MAX: Final = 8
"""Each is one more that a forged token has to be compared with."""

_ORIGIN: Final = re.compile(
    r"(?:http://(?!.*:80$)|https://(?!.*:443$))(?:[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::\d{1,5})?",
    re.ASCII,
)
"""Scheme and host in lower case, a port only where it is not the scheme's: else it would never equal what is sent."""


def check(settings: Settings) -> None:
    """
    Nothing that is wrong only in connection with something else is left.

    Raises:
        UnusableSetting: Something is.
    """
    _ = settings.database_path
    for origin in settings.allowed_origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise UnusableSetting(
                f"allowed_origins: {origin}: not an origin as browsers write it, for example https://app.example"
            )
    for kind, profile in settings.profiles.items():
        if profile not in PROFILES:
            raise UnusableSetting(f"profiles: {kind}: no profile {profile!r}; there are {', '.join(sorted(PROFILES))}")
    if len(settings.secret_previous) > SECRETS_PREVIOUS_MAX:
        raise UnusableSetting(f"secret_previous: more than {SECRETS_PREVIOUS_MAX}")
    _check_provider(settings)
    if settings.lease_default_s > settings.lease_max_s:
        raise UnusableSetting("lease_default_s: longer than lease_max_s")
    if settings.stream_buffer_low_bytes >= settings.stream_buffer_high_bytes:
        raise UnusableSetting("stream_buffer_low_bytes: not below stream_buffer_high_bytes")


def _check_provider(settings: Settings) -> None:
    """
    The identity provider is whole or not there at all.

    Raises:
        UnusableSetting: Something is missing, or would let somebody in whom the provider did not name.
    """
    if not settings.has_provider:
        if settings.idp_issuer or settings.idp_audience:
            raise UnusableSetting("idp_issuer, idp_audience: want idp_jwks or idp_secret beside them")
        return
    if settings.idp_jwks and settings.idp_secret:
        raise UnusableSetting("idp_jwks, idp_secret: a provider publishes keys or shares a secret, not both")
    if not settings.idp_issuer or not settings.idp_audience:
        raise UnusableSetting("idp_issuer, idp_audience: both are needed, or tokens for others would count here")
    known = SECRET_ALGORITHMS if settings.idp_secret else KEY_ALGORITHMS
    if not set(settings.idp_algorithms_allowed) <= known:
        raise UnusableSetting(f"idp_algorithms: of {', '.join(sorted(known))}")
    if settings.idp_secret and len(settings.idp_secret.encode()) < SECRET_CHARACTERS_ENOUGH:
        raise UnusableSetting(f"idp_secret: less than {SECRET_CHARACTERS_ENOUGH} bytes can be guessed")
    if settings.idp_secret and settings.idp_secret in {settings.secret, *settings.secret_previous}:
        raise UnusableSetting("idp_secret: is our own secret too, with which the provider could make any role")
    if bool(settings.idp_role_claim) != bool(settings.idp_roles) or not set(settings.idp_roles.values()) <= _MAPPED:
        raise UnusableSetting(f"idp_role_claim, idp_roles: a claim, and value=role with {', '.join(sorted(_MAPPED))}")
    _check_key_url(settings.idp_jwks)


def _check_key_url(place: str) -> None:
    scheme, separator, _ = place.partition("://")
    if not separator or scheme.lower() == "https":
        return
    host = urlsplit(place).hostname or ""
    if scheme.lower() != "http" or not is_loopback(host):
        raise UnusableSetting(
            "idp_jwks: an https URL, or http on loopback, or a file: who can change keys can be anybody"
        )
