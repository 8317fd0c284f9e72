"""
The key that a URL stands for: two spellings of one address give one key, so that they make one job.

What lives here: the profiles, pure functions from a parsed URL to its key. URLs are parsed by one parser for ever, the
one that follows the WHATWG standard as browsers do, since another parser would give other keys.

What must never live here: a request to the URL. Redirects and short links are not followed, and the worker gets the URL
as it was sent. Nor a guess: what is not known for certain to be one address stays two keys.

Source: RFC 3986 section 6.2 (normalisation), https://url.spec.whatwg.org (parsing).
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

import can_ada

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RULE_VERSION: Final[int] = 1
"""
Which rules gave a key. Goes up with any change, here or in tracking_parameters.txt, that gives some URL another key;
while jobs keyed by the older rules are active, both keys have to be looked up.
"""

CHARACTERS_MAX: Final = 2_048
"""
How long a URL may be as it is sent, and how long its key may be.
"""

Profile = Literal["default", "x-post", "strip-tracking"]


class UnusableUrl(ValueError):
    """
    The URL has no key.

    Attributes:
        reason: What is wrong and what would be right, in words for the caller. Never quotes the URL.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def key_from_url(url: str, *, profile: str, characters_max: int = CHARACTERS_MAX) -> str:
    """
    The key of *url* under *profile*: equal for all spellings that the profile takes for one address.

    A key of `default` or `strip-tracking` is a URL itself, and its own key. Keys are ASCII without control characters.

    Args:
        url: As the caller sent it, any text.
        profile: A name in PROFILES.
        characters_max: The bound on the URL and on its key.

    Raises:
        UnusableUrl: Not http or https, does not parse, carries a user name or password, holds control characters, or is
            too long, as sent or once percent-encoded.
        KeyError: There is no such profile; the settings should have refused it.

    Cost: 1 to 3 microseconds for a URL of 60 characters.
    """
    key = PROFILES[profile](_parsed(url, characters_max))
    if len(key) > characters_max:
        raise _encoded_too_long(characters_max)
    return key


def keys_for_any(url: str, profiles: Iterable[str], *, characters_max: int = CHARACTERS_MAX) -> tuple[str, ...]:
    """
    The distinct keys that *url* has under *profiles*, in their order: what to look up when the kind is not known.

    A key that is too long under one profile is left out as long as another profile gives one that is not, since a job
    with that other key may exist.

    Raises:
        UnusableUrl: As for `key_from_url`, under all of the profiles.
        KeyError: There is no such profile.
    """
    parsed = _parsed(url, characters_max)
    keys = dict.fromkeys(PROFILES[profile](parsed) for profile in profiles)
    usable = tuple(key for key in keys if len(key) <= characters_max)
    if keys and not usable:
        raise _encoded_too_long(characters_max)
    return usable


def profile_for(kind: str, profiles: Mapping[str, str]) -> str:
    """
    The name of the profile that *kind* uses: what *profiles* says, else `x-post` for the kind `x-post`, else `default`.

    Args:
        kind: Of the job.
        profiles: Kind to profile name, from the settings.
    """
    return profiles.get(kind, "x-post" if kind == "x-post" else "default")


def profiles_in_use(profiles: Mapping[str, str]) -> frozenset[str]:
    """
    The names of all profiles that some kind uses, given what *profiles* says of kinds.
    """
    return frozenset({"default", "x-post", *profiles.values()})


# --- Parsing -------------------------------------------------------------------------------------------------------

# Tab, LF and CR are missing on purpose: browsers drop them, so that a URL broken over two lines still works. A browser
# would encode the others, but the URL is also kept as sent and shown, and PostgreSQL cannot store U+0000.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _parsed(url: str, characters_max: int) -> can_ada.URL:
    if len(url) > characters_max:
        raise UnusableUrl(f"The URL has {len(url):,} characters; {characters_max:,} is the most.")
    if _UNPRINTABLE.search(url):
        raise UnusableUrl("The URL holds a control character or half of a surrogate pair; percent-encode or drop it.")
    try:
        parsed = can_ada.parse(url)
    except ValueError:
        raise UnusableUrl("The URL does not parse; send a whole one, such as https://example.com/page.") from None
    if parsed.protocol not in {"https:", "http:"}:
        raise UnusableUrl("The URL is neither http nor https; send a whole one, such as https://example.com/page.")
    if parsed.has_credentials():
        raise UnusableUrl("The URL carries a user name or password; leave out what stands before the @.")
    return parsed


def _encoded_too_long(characters_max: int) -> UnusableUrl:
    return UnusableUrl(f"The URL is too long once percent-encoded; {characters_max:,} characters is the most.")


# --- Escapes -------------------------------------------------------------------------------------------------------

_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

# A '%' or '%4' that is no escape stays as it is, and so does an escape right after it: decoding '%37' in '%%37e' would
# make '%7e', another address, which the next pass would decode to '~'.
_ESCAPE: Final = re.compile(r"(?<!%)(?<!%[0-9A-Fa-f])%[0-9A-Fa-f]{2}")


def _with_normal_escapes(text: str) -> str:
    # The parser has already resolved dot segments, '%2e' among them, so that decoding cannot make a new one.
    return _ESCAPE.sub(_normal_escape, text) if "%" in text else text


def _normal_escape(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if character in _UNRESERVED else escape[0].upper()


# --- default -------------------------------------------------------------------------------------------------------


def _default_key(url: can_ada.URL) -> str:
    # The parser has done the rest. An empty query ('/?') stays apart from none, and so does 'example.com.' from
    # 'example.com': RFC 3986 section 6.2.3 takes neither pair for one address.
    return _with_normal_escapes(url.href.partition("#")[0])


# --- x-post --------------------------------------------------------------------------------------------------------

_X_HOSTS: Final = frozenset(
    f"{prefix}{site}.com{root}"
    for prefix in ("", "www.", "m.", "mobile.")
    for site in ("x", "twitter")
    for root in ("", ".")
)

# X ignores the user part (it may be stale, 'i' or made up), so the key leaves it out. An id is a number of at most 64
# bits, so '0123' is none: reading it as 123 would be a guess.
_X_POST: Final = re.compile(r"/(?:i/web/status|[^/]+/status(?:es)?)/([1-9][0-9]{0,19})(?:/(?:photo|video)/[0-9]+)?/?")


def _x_post_key(url: can_ada.URL) -> str:
    # No default key begins with 'x:', as each begins with its scheme: a post's key is never that of another address.
    if url.host in _X_HOSTS:
        post = _X_POST.fullmatch(_with_normal_escapes(_x_route(url)))
        if post:
            return f"x:post:{post[1]}"
    return _default_key(url)


def _x_route(url: can_ada.URL) -> str:
    # Until 2012 the path stood in the fragment ('/#!/jack/status/20'). Dropped with it, all such posts would be one.
    if url.pathname == "/" and url.hash.startswith("#!"):
        return url.hash[2:].partition("?")[0]
    return url.pathname


# --- strip-tracking ------------------------------------------------------------------------------------------------

# Not from 'www.com', where it is the name itself. Repeated, so that a key is its own key.
_WWW: Final = re.compile(r"(?:www\.)+(?=[^.]+\.[^.])")


def _strip_tracking_key(url: can_ada.URL) -> str:
    host = _WWW.sub("", url.hostname, count=1) if url.hostname.startswith("www.") else url.hostname
    # Port 443 of an http URL is the default one as soon as the scheme is https.
    port = "" if url.port in {"", "443"} else f":{url.port}"
    query = _without_tracking(_with_normal_escapes(url.search[1:]))
    return f"https://{host}{port}{_with_normal_escapes(url.pathname)}{query}"


def _without_tracking(query: str) -> str:
    # Sorted by name alone, since the order of values under one name can mean something. '&&' holds no parameter.
    kept = sorted((pair for pair in query.split("&") if pair and not _is_tracking(_name(pair))), key=_name)
    return "?" + "&".join(kept) if kept else ""


def _name(pair: str) -> str:
    return pair.partition("=")[0]


def _is_tracking(name: str) -> bool:
    return name in _TRACKING_NAMES or name.startswith(_TRACKING_PREFIXES)


def _listed(text: str) -> tuple[frozenset[str], tuple[str, ...]]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = frozenset(line for line in lines if not line.endswith("*"))
    return names, tuple(line[:-1] for line in lines if line.endswith("*"))


_TRACKING_NAMES, _TRACKING_PREFIXES = _listed(
    files("jobsvc.domain").joinpath("tracking_parameters.txt").read_text(encoding="ascii")
)

PROFILES: Final[Mapping[str, Callable[[can_ada.URL], str]]] = {
    "default": _default_key,
    "x-post": _x_post_key,
    "strip-tracking": _strip_tracking_key,
}
"""
Each profile by name: a function from a URL, parsed and found usable, to its key. None of them ever raises.
"""
