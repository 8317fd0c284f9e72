"""
What a URL's key promises: one key for each spelling of one address, never one key for two addresses.

The tables pin the rules as they stand; the properties say what holds for any text at all.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, get_args

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from jobsvc.domain import keys
from jobsvc.domain.keys import PROFILES, UnusableUrl, key_from_url, keys_for_any, profile_for

POST_ID: Final = "1850000000000000000"
POST_KEY: Final = f"x:post:{POST_ID}"

POST_HOSTS: Final = [prefix + site for prefix in ("", "www.", "m.", "mobile.") for site in ("x.com", "twitter.com")]
POST_PATHS: Final = ["/jack/status/", "/jack/statuses/", "/i/status/", "/i/web/status/"]
POST_TAILS: Final = [
    "",
    "/",
    "/photo/1",
    "/photo/4/",
    "/video/1",
    "?s=20&t=abc",
    "/?s=46",
    "/photo/1?s=20",
    "#m",
    "?",
    "?q=%zz#%",
]

# Pieces that mean something to a parser, so that text made of them comes near to a URL, or breaks one.
PIECES: Final = (
    "http: https: HTTP: // \\\\ x.com twitter.com www. example.com bücher.de 0x7f.1 [::1] :80 :443 :8080 "
    "/ /../ /./ %2E%2e . /a/status/20 /i/web/status/ #! # ? & = utm_source=a b=1 % %2 %7e %37 %4a é 日 ~ + | ' ;"
)
BREAKING_PIECES: Final = ["@", " ", "\t", "\n", "\x00", "\x9b", "\ud800"]

any_text: Final = st.one_of(
    st.text(st.characters(), max_size=40),
    st.lists(st.sampled_from(PIECES.split() + BREAKING_PIECES) | st.text(st.characters(), max_size=3), max_size=10).map(
        "".join
    ),
)
near_urls: Final = st.builds(
    lambda start, host, port, rest: f"{start}{host}{port}/{rest}",
    st.sampled_from(["http://", "https://", "HTTPS:", "http:\\\\"]),
    st.sampled_from(
        ["example.com", "www.example.com", "WWW.www.com", "bücher.de.", "1.2", "[::1]", "x.com", "m.x.com"]
    ),
    st.sampled_from(["", ":80", ":443", ":8080"]),
    st.lists(st.sampled_from(PIECES.split()) | st.text(max_size=3), max_size=12).map("".join),
)
any_profile: Final = st.sampled_from(sorted(PROFILES))
post_ids: Final = st.integers(min_value=1, max_value=2**64 - 1)
forms_of_a_post: Final = st.builds(
    lambda scheme, host, path, tail: (scheme + host + path, tail),
    st.sampled_from(["http://", "https://", "HTTPS://"]),
    st.sampled_from(POST_HOSTS),
    st.sampled_from(POST_PATHS),
    st.sampled_from(POST_TAILS),
)


def key_or_none(url: str, profile: str) -> str | None:
    """
    The key, or None where the URL is refused. Anything else that is raised gets through.
    """
    try:
        return key_from_url(url, profile=profile)
    except UnusableUrl:
        return None


# --- default -------------------------------------------------------------------------------------------------------

DEFAULT_KEYS: Final = [
    ("https://example.com/a", "https://example.com/a"),
    # Case: of scheme, host and escapes only.
    ("HTTPS://Example.COM/Path/A?Q=B", "https://example.com/Path/A?Q=B"),
    # Ports.
    ("http://example.com:80/", "http://example.com/"),
    ("https://example.com:443/", "https://example.com/"),
    ("http://example.com:443/", "http://example.com:443/"),
    ("https://example.com:08080/", "https://example.com:8080/"),
    ("https://example.com:/", "https://example.com/"),
    # Paths.
    ("https://example.com", "https://example.com/"),
    ("https://example.com?a=1", "https://example.com/?a=1"),
    ("https://example.com/a/./b/../c", "https://example.com/a/c"),
    ("https://example.com/../../a", "https://example.com/a"),
    ("https://example.com/%2e%2E/%2e/a", "https://example.com/a"),
    ("https://example.com/.%2e/a/.", "https://example.com/a/"),
    ("https://example.com/a//b", "https://example.com/a//b"),
    ("https://example.com/a/", "https://example.com/a/"),
    ("https://example.com\\a\\b", "https://example.com/a/b"),
    ("https:\\\\example.com/a", "https://example.com/a"),
    ("https:example.com", "https://example.com/"),
    ("https:///example.com", "https://example.com/"),
    # Fragments and queries.
    ("https://example.com/a#b", "https://example.com/a"),
    ("https://example.com/#?a", "https://example.com/"),
    ("https://example.com/?", "https://example.com/?"),
    ("https://example.com/?#a", "https://example.com/?"),
    ("https://example.com/?b=2&a=1&utm_source=x", "https://example.com/?b=2&a=1&utm_source=x"),
    # Escapes.
    ("https://example.com/%7euser/%41%2d%2E%5f?%7E=%3d", "https://example.com/~user/A-._?~=%3D"),
    ("https://example.com/a%2fb%3fc%23d", "https://example.com/a%2Fb%3Fc%23d"),
    ("https://example.com/a b?c d", "https://example.com/a%20b?c%20d"),
    ("https://example.com/a+b?c+d", "https://example.com/a+b?c+d"),
    ("https://example.com/ü?ü", "https://example.com/%C3%BC?%C3%BC"),
    ("https://example.com/%c3%bc", "https://example.com/%C3%BC"),
    ("https://example.com/%252e%252E/%2541", "https://example.com/%252e%252E/%2541"),
    ("https://example.com/100%", "https://example.com/100%"),
    ("https://example.com/%zz%4", "https://example.com/%zz%4"),
    ("https://example.com/%%37e", "https://example.com/%%37e"),
    ("https://example.com/%4%31", "https://example.com/%4%31"),
    ("https://example.com/%%34%31", "https://example.com/%%341"),
    # Hosts.
    ("https://BÜCHER.de/", "https://xn--bcher-kva.de/"),
    ("https://xn--BCHER-kva.de/", "https://xn--bcher-kva.de/"),
    ("https://faß.de/", "https://xn--fa-hia.de/"),
    ("https://example。com/", "https://example.com/"),
    ("https://ex%61mple%2ecom/", "https://example.com/"),
    ("https://example.com./", "https://example.com./"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://2130706433/", "http://127.0.0.1/"),
    ("http://0177.0.0.1./", "http://127.0.0.1/"),
    ("http://[0:0::0:1]:80/", "http://[::1]/"),
    ("http://[::FFFF:1.2.3.4]:81/", "http://[::ffff:102:304]:81/"),
    # White space, as browsers take it; and an empty user name, which is none.
    ("  https://example.com/a \n", "https://example.com/a"),
    ("ht\ntps://exam\tple.com/a\r\nb", "https://example.com/ab"),
    ("https://@example.com/", "https://example.com/"),
    ("https://:@example.com/", "https://example.com/"),
]


@pytest.mark.parametrize(("url", "key"), DEFAULT_KEYS)
def test_default_key_is_the_url_in_its_normal_form(url: str, key: str) -> None:
    """
    The default profile changes only what RFC 3986 and the WHATWG standard take for the same address.
    """
    assert key == key_from_url(url, profile="default")


# --- x-post --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", POST_HOSTS)
@pytest.mark.parametrize("path", POST_PATHS)
@pytest.mark.parametrize("tail", POST_TAILS)
def test_every_form_of_a_post_has_the_key_of_the_post(host: str, path: str, tail: str) -> None:
    """
    Host, user, verb, picture and query are ways of writing one post.
    """
    for scheme in ("https", "http"):
        assert POST_KEY == key_from_url(f"{scheme}://{host}{path}{POST_ID}{tail}", profile="x-post")


@pytest.mark.parametrize(
    "url",
    [
        f"HTTPS://WWW.X.COM/Jack/status/{POST_ID}",
        f"https://x.com:443/jack/status/{POST_ID}",
        f"http://x.com:80/jack/status/{POST_ID}",
        f"https://x.com./jack/status/{POST_ID}",
        f"https://x.com/jack/../i/./status/{POST_ID}",
        f"https://x.com/jack/%73tatus/%31{POST_ID[1:]}",
        f"https://x.com/%6Aück/status/{POST_ID}",
        f"https:\\\\x.com\\jack\\status\\{POST_ID}",
        f" https://x.com/jack/status/\n{POST_ID} ",
        f"https://x。com/jack/status/{POST_ID}",
        f"https://twitter.com/#!/jack/status/{POST_ID}",
        f"https://twitter.com/#!/jack/status/{POST_ID}/photo/1?s=20",
        f"https://x.com/jack/status/{POST_ID}?next=" + "é" * 1_000,
    ],
)
def test_odd_spellings_of_a_post_have_the_key_of_the_post(url: str) -> None:
    """
    What a browser would take to the post has the post's key.
    """
    assert POST_KEY == key_from_url(url, profile="x-post")


@pytest.mark.parametrize(
    "url",
    [
        "https://x.com/",
        "https://x.com/jack",
        "https://x.com/jack/status/",
        "https://x.com/jack/status/abc",
        "https://x.com/jack/status/12a",
        "https://x.com/jack/status/-12",
        "https://x.com/jack/status/١٢",
        "https://x.com/jack/status/0",
        "https://x.com/jack/status/012",
        "https://x.com/jack/status/123456789012345678901",
        "https://x.com/jack/Status/12",
        "https://x.com/jack/status/12/likes",
        "https://x.com/jack/status/12/photo",
        "https://x.com/jack/status/12/photo/a",
        "https://x.com/jack/status/12//",
        "https://x.com//status/12",
        "https://x.com/a/b/status/12",
        "https://x.com/i/web/statuses/12",
        "https://x.com/status/12",
        "https://x.com/?u=/jack/status/12",
        "https://x.com/home#!/jack/status/12",
        "https://x.com:8443/jack/status/12",
        "http://x.com:443/jack/status/12",
        "https://api.x.com/jack/status/12",
        "https://www.m.x.com/jack/status/12",
        "https://x.com.example/jack/status/12",
        "https://notx.com/jack/status/12",
        "https://x.org/jack/status/12",
        "https://t.co/abc",
    ],
)
def test_what_is_no_post_has_the_default_key(url: str) -> None:
    """
    The profile x-post guesses nothing: a URL that it does not know is treated as any other.
    """
    assert key_from_url(url, profile="default") == key_from_url(url, profile="x-post")


def test_the_largest_id_is_a_post() -> None:
    """
    Ids up to 20 digits, all that 64 bits hold, are recognised.
    """
    largest = 2**64 - 1

    assert f"x:post:{largest}" == key_from_url(f"https://x.com/a/status/{largest}", profile="x-post")


@given(one=post_ids, other=post_ids, form=forms_of_a_post, other_form=forms_of_a_post)
def test_two_posts_never_share_a_key(one: int, other: int, form: tuple[str, str], other_form: tuple[str, str]) -> None:
    """
    Keys are equal exactly where ids are, however each was written.
    """
    key = key_from_url(f"{form[0]}{one}{form[1]}", profile="x-post")

    other_key = key_from_url(f"{other_form[0]}{other}{other_form[1]}", profile="x-post")

    assert (one == other) == (key == other_key)


@given(form=forms_of_a_post, other_form=forms_of_a_post, post_id=post_ids)
def test_two_forms_of_one_post_share_a_key(form: tuple[str, str], other_form: tuple[str, str], post_id: int) -> None:
    """
    The spelling of a post never shows in its key.
    """
    spellings = [f"{start}{post_id}{tail}" for start, tail in (form, other_form)]

    found = {key_from_url(url, profile="x-post") for url in spellings}

    assert {f"x:post:{post_id}"} == found


@given(url=any_text | near_urls)
def test_no_other_address_has_the_key_of_a_post(url: str) -> None:
    """
    The default and strip-tracking keys begin with their scheme, so that none is ever taken for a post.
    """
    found = {key_or_none(url, profile) for profile in ("default", "strip-tracking")} - {None}

    assert all(key.startswith(("http://", "https://")) for key in found if key)


# --- strip-tracking ------------------------------------------------------------------------------------------------

STRIP_TRACKING_KEYS: Final = [
    ("http://www.example.com/a/?b=2&utm_source=x&a=1&gclid=y#z", "https://example.com/a/?a=1&b=2"),
    ("https://example.com/a", "https://example.com/a"),
    ("https://example.com/a/", "https://example.com/a/"),
    # Parameters: unknown ones stay, one name's values keep their order, empty ones are none.
    ("https://example.com/?ref=a&utm=b&a_utm_=c&GCLID=d", "https://example.com/?GCLID=d&a_utm_=c&ref=a&utm=b"),
    ("https://example.com/?a=2&b&a=1&a", "https://example.com/?a=2&a=1&a&b"),
    ("https://example.com/?&&a=1&", "https://example.com/?a=1"),
    ("https://example.com/?", "https://example.com/"),
    ("https://example.com/?fbclid&utm_anything=1", "https://example.com/"),
    ("https://example.com/?%75tm_source=x&%61=1", "https://example.com/?a=1"),
    ("https://example.com/?a=1%26utm_source=x", "https://example.com/?a=1%26utm_source=x"),
    ("https://example.com/?=1&a", "https://example.com/?=1&a"),
    # Ports: http's own goes with http; one that becomes https's own goes too.
    ("http://example.com:80/", "https://example.com/"),
    ("http://example.com:443/", "https://example.com/"),
    ("http://www.example.com:8080/", "https://example.com:8080/"),
    ("https://example.com:80/", "https://example.com:80/"),
    # www: only in front of a name that can stand without it, and not only once.
    ("https://www.com/", "https://www.com/"),
    ("https://www.com./", "https://www.com./"),
    ("https://www.www.com/", "https://www.com/"),
    ("https://www.www.example.com/", "https://example.com/"),
    ("https://wwwexample.com/", "https://wwwexample.com/"),
    ("https://m.example.com/", "https://m.example.com/"),
    ("http://[::1]:81/", "https://[::1]:81/"),
]


@pytest.mark.parametrize(("url", "key"), STRIP_TRACKING_KEYS)
def test_strip_tracking_key_leaves_out_how_the_reader_came(url: str, key: str) -> None:
    """
    Listed parameters, scheme, `www.` and the order of names do not show; all else does.
    """
    assert key == key_from_url(url, profile="strip-tracking")


@given(names=st.permutations(["a", "b", "utm_source", "utm_x", "fbclid", "z"]))
def test_order_of_names_never_shows_in_a_strip_tracking_key(names: list[str]) -> None:
    """
    Any order of the same parameters is one address.
    """
    url = "https://example.com/?" + "&".join(f"{name}=1" for name in names)

    assert "https://example.com/?a=1&b=1&z=1" == key_from_url(url, profile="strip-tracking")


def test_each_listed_tracking_parameter_is_dropped() -> None:
    """
    Every line of the list works, stands there once, and names no single letter or word that a site may need.
    """
    lines = [line for line in tracking_list().splitlines() if line and not line.startswith("#")]

    urls = [f"https://example.com/?{line.replace('*', 'any')}=1&keep=2" for line in lines]

    assert len(lines) == len(set(lines))
    assert all(len(line) > 2 and line.rstrip("*").replace("_", "").isalnum() for line in lines)
    assert {"https://example.com/?keep=2"} == {key_from_url(url, profile="strip-tracking") for url in urls}


def test_a_change_of_the_tracking_list_asks_for_a_new_rule_version() -> None:
    """
    Whoever changes which parameters are dropped has to come by here, and raise RULE_VERSION.
    """
    lines = sorted(line for line in tracking_list().splitlines() if line and not line.startswith("#"))

    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    assert (1, "8248abe572d5ee34") == (keys.RULE_VERSION, digest)


def tracking_list() -> str:
    """
    The list as it is shipped.
    """
    return files("jobsvc.domain").joinpath("tracking_parameters.txt").read_text(encoding="ascii")


# --- Refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "does not parse"),
        ("   ", "does not parse"),
        ("example.com/a", "does not parse"),
        ("//example.com/a", "does not parse"),
        ("https://", "does not parse"),
        ("https://exa mple.com/", "does not parse"),
        ("https://example.com:99999/", "does not parse"),
        ("https://1.2.3.4.5/", "does not parse"),
        ("https://[::1/", "does not parse"),
        ("https://xn--a/", "does not parse"),
        ("ftp://example.com/", "neither http nor https"),
        ("javascript:alert(1)", "neither http nor https"),
        ("blob:https://example.com/a", "neither http nor https"),
        ("example.com:80/", "neither http nor https"),
        ("x:post:20", "neither http nor https"),
        ("https://user@x.com/a/status/20", "user name or password"),
        ("https://:secret@x.com/a/status/20", "user name or password"),
        ("https://x.com%2F@evil.example/a/status/20", "user name or password"),
        ("https://example.com/\x00", "control character"),
        ("https://example.com/\x1b[2J", "control character"),
        ("https://example.com/\x7f", "control character"),
        ("https://example.com/\x9b", "control character"),
        ("https://example.com/\ud800", "surrogate"),
        ("https://x.com/a/status/20?" + "a" * 2_048, "2,048 is the most"),
    ],
)
def test_an_unusable_url_is_refused_with_a_reason(url: str, words: str, profile: str) -> None:
    """
    Whatever the profile, the refusal says what is wrong without repeating what was sent.
    """
    with pytest.raises(UnusableUrl) as caught:
        key_from_url(url, profile=profile)

    assert words in caught.value.reason
    assert str(caught.value) == caught.value.reason
    assert "secret" not in caught.value.reason


def test_the_longest_url_has_a_key() -> None:
    """
    2,048 characters are taken, and a lower bound from the settings counts instead.
    """
    url = "https://example.com/".ljust(2_048, "a")

    assert url == key_from_url(url, profile="default")
    with pytest.raises(UnusableUrl, match="100 is the most"):
        key_from_url(url, profile="default", characters_max=100)


def test_a_key_that_encoding_makes_too_long_is_refused() -> None:
    """
    The bound holds for the key too, which may be longer than the URL.
    """
    encoded_longer = "https://example.com/" + "é" * 1_000
    one_longer_with_https = "http://example.com/".ljust(2_048, "a")

    for url, profile in [(encoded_longer, "default"), (one_longer_with_https, "strip-tracking")]:
        with pytest.raises(UnusableUrl, match="once percent-encoded"):
            key_from_url(url, profile=profile)


def test_an_unknown_profile_is_no_fault_of_the_url() -> None:
    """
    A profile that does not exist is a mistake in the settings, not an unusable URL.
    """
    with pytest.raises(KeyError):
        key_from_url("https://example.com/", profile="strip")


# --- Any text at all -----------------------------------------------------------------------------------------------


@given(url=any_text | near_urls, profile=any_profile)
def test_any_text_has_a_plain_key_or_is_refused(url: str, profile: str) -> None:
    """
    A key is printable ASCII without spaces or a fragment; nothing but UnusableUrl is ever raised.
    """
    key = key_or_none(url, profile)

    assert key is None or (key.isascii() and key.isprintable() and not {" ", "#"} & set(key))


@given(url=near_urls, profile=any_profile)
@example(url="http://e.io/%%37e", profile="default")
@example(url="http://e.io/%4%34%31", profile="default")
@example(url="http://e.io:443/?%%37e&%26", profile="strip-tracking")
@example(url="http://www.www.e.io/", profile="strip-tracking")
def test_a_key_that_is_a_url_is_its_own_key(url: str, profile: str) -> None:
    """
    Normalising twice is normalising once.
    """
    key = key_or_none(url, profile)
    assume(key is not None and not key.startswith("x:"))

    again = key_or_none(str(key), profile)

    assert key == again


@given(url=near_urls)
def test_equal_default_keys_stay_equal_under_every_profile(url: str) -> None:
    """
    What the default profile takes for one address, the others do too, posts in a fragment apart.
    """
    key = key_or_none(url, "default")
    assume(key is not None and "#!" not in url)

    for profile in PROFILES:
        assert key_or_none(str(key), profile) == key_or_none(url, profile)


@given(host=st.text(min_size=1, max_size=12), profile=any_profile)
def test_any_host_keeps_its_key_once_it_has_one(host: str, profile: str) -> None:
    """
    Punycode and number forms of hosts are normal after one pass, whatever the host was.
    """
    key = key_or_none(f"https://{host}.example/", profile)

    assert key is None or key == key_or_none(key, profile)


# --- Which profile -------------------------------------------------------------------------------------------------


def test_profiles_are_the_ones_that_have_a_name() -> None:
    """
    The type and the table list the same profiles.
    """
    assert set(get_args(keys.Profile)) == set(PROFILES)


@pytest.mark.parametrize(
    ("kind", "profiles", "profile"),
    [
        ("x-post", {}, "x-post"),
        ("x-post", {"x-post": "default"}, "default"),
        ("page", {}, "default"),
        ("page", {"page": "strip-tracking", "other": "x-post"}, "strip-tracking"),
    ],
)
def test_a_kind_has_the_profile_that_the_settings_say(kind: str, profiles: dict[str, str], profile: str) -> None:
    """
    Settings win; without them x-post has its own profile and all other kinds the default one.
    """
    assert profile == profile_for(kind, profiles)


def test_a_url_without_a_kind_has_each_profile_s_key_once() -> None:
    """
    Looking up by URL alone tries each profile in use, and asks for no key twice.
    """
    post = "http://x.com/a/status/20?s=1"
    page = "https://example.com/"

    assert ("x:post:20", post) == keys_for_any(post, ["x-post", "default", "x-post"])
    assert (page,) == keys_for_any(page, ["x-post", "default", "strip-tracking"])
    assert () == keys_for_any(page, [])


def test_a_url_without_a_kind_is_found_even_if_one_profile_s_key_is_too_long() -> None:
    """
    A job saved under one profile is found although another profile refuses the URL, unless all refuse it.
    """
    tail = "é" * 1_000

    assert ("x:post:20",) == keys_for_any(f"https://x.com/a/status/20?{tail}", ["default", "x-post"])
    with pytest.raises(UnusableUrl, match="once percent-encoded"):
        keys_for_any(f"https://example.com/?{tail}", ["default", "x-post"])
    with pytest.raises(UnusableUrl, match="does not parse"):
        keys_for_any("example.com", [])


def test_the_profiles_in_use_are_those_of_every_kind() -> None:
    """
    The two that need no setting, and each that one names.
    """
    assert {"default", "x-post"} == keys.profiles_in_use({})
    assert {"default", "x-post", "strip-tracking"} == keys.profiles_in_use({"page": "strip-tracking"})
