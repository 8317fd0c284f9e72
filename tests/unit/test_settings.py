import stat
from pathlib import Path

import pytest

from jobsvc.secretfile import with_made_secret, with_secret
from jobsvc.settings import UnusableSetting, is_loopback
from jobsvc.settings_loading import Loaded, load_settings


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    """
    Each setting comes from the strongest place that names it, and remembers which that was.
    """
    config = tmp_path / "jobsvc.toml"
    config.write_text("port = 1\nhost = '::1'\ntitle_characters_max = 7\n")

    loaded = load_settings(
        {"port": 3, "host": None}, {"JOBSVC_PORT": "2", "JOBSVC_HOST": "localhost"}, config_path=config
    )

    assert (3, "flag") == (loaded.settings.port, loaded.sources["port"])
    assert ("localhost", "environment") == (loaded.settings.host, loaded.sources["host"])
    assert (7, "file") == (loaded.settings.title_characters_max, loaded.sources["title_characters_max"])
    assert (15.0, "default") == (loaded.settings.heartbeat_s, loaded.sources["heartbeat_s"])


def test_variables_take_fractions_lists_mappings_and_switches() -> None:
    """
    What is not a number or text can be written in a variable too.
    """
    environ = {
        "JOBSVC_HEARTBEAT_S": "0.25",
        "JOBSVC_ALLOWED_HOSTS": "a.example, b.example",
        "JOBSVC_PROFILES": "video=strip-tracking,page=default",
        "JOBSVC_METRICS_OPEN": "true",
    }

    settings = load_settings({}, environ).settings

    assert 0.25 == settings.heartbeat_s
    assert ("a.example", "b.example") == settings.allowed_hosts
    assert {"video": "strip-tracking", "page": "default"} == settings.profiles
    assert settings.metrics_open


def test_an_empty_variable_counts_as_not_set() -> None:
    """
    A variable that a deployment leaves empty does not override anything.
    """
    environ = {"JOBSVC_PORT": "", "JOBSVC_SECRET": ""}

    loaded = load_settings({}, environ)

    assert (8080, "default") == (loaded.settings.port, loaded.sources["port"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JOBSVC_PORT", "70000", "JOBSVC_PORT: expected `int` <= 65535"),
        ("JOBSVC_LOG_LINES_PER_S_MAX", "-1", "JOBSVC_LOG_LINES_PER_S_MAX: expected `int` >= 0"),
        ("JOBSVC_DRAIN_NOTICE_S", "-1", "JOBSVC_DRAIN_NOTICE_S: expected `float` >= 0.0"),
        ("JOBSVC_PORT", "many", "JOBSVC_PORT: expected `int`"),
        ("JOBSVC_HEARTBEAT_S", "0", "JOBSVC_HEARTBEAT_S: expected `float` > 0.0"),
        ("JOBSVC_HEARTBEAT_S", "nan", "JOBSVC_HEARTBEAT_S"),
        ("JOBSVC_HEARTBEAT_S", "inf", "JOBSVC_HEARTBEAT_S: not a finite number"),
        ("JOBSVC_PROFILES", "page=best", "profiles: page: no profile 'best'"),
        ("JOBSVC_DATABASE", "postgresql://db/jobs", "PostgreSQL is not built yet"),
        ("JOBSVC_DATABASE", "mysql://db/jobs", "mysql is not a database that is known here"),
        ("JOBSVC_LEASE_MAX_S", "10", "lease_default_s: longer than lease_max_s"),
        ("JOBSVC_STREAM_BUFFER_HIGH_BYTES", "1", "stream_buffer_low_bytes"),
    ],
)
def test_an_unusable_value_is_named_with_its_place(name: str, value: str, said: str) -> None:
    """
    Who sets something that cannot be used is told which setting it was and what would do.
    """
    environ = {name: value}

    with pytest.raises(UnusableSetting) as refused:
        load_settings({}, environ)

    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["prot = 1", "port = [", "port = 'x'", "[port]\nx = 1"])
def test_a_file_with_anything_unknown_or_unreadable_is_refused(tmp_path: Path, text: str) -> None:
    """
    A misspelt setting in a file is an error, never silently the default.
    """
    config = tmp_path / "jobsvc.toml"
    config.write_text(text)

    with pytest.raises(UnusableSetting) as refused:
        load_settings({}, {}, config_path=config)

    assert str(config) in str(refused.value)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    """
    A file that was named has to be there.
    """
    config = tmp_path / "none.toml"

    with pytest.raises(UnusableSetting, match=r"none\.toml: No such file"):
        load_settings({}, {}, config_path=config)


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    """
    Neither what config prints nor a repr in a traceback tells a secret.
    """
    secrets = {"secret": "hush-hush", "secret_previous": "hushed-before", "idp_secret": "also-hushed" * 3}
    loaded = load_settings({"idp_issuer": "i", "idp_audience": "a", **secrets}, {})

    shown = f"{loaded.shown()} {loaded!r}"

    assert {"value": "***", "source": "flag"} == loaded.shown()["secret"]
    assert "hush" not in shown


def test_a_secret_is_made_once_beside_the_database_for_its_owner_only(tmp_path: Path) -> None:
    """
    The made secret stays the same at the next start, and only the service's own user can read it.
    """
    loaded = load_settings({"database": str(tmp_path / "new" / "jobs.db")}, {})

    first = with_made_secret(loaded)
    second = with_made_secret(loaded)

    path = tmp_path / "new" / "jobs.db.secret"
    assert 43 == len(first.settings.secret)
    assert (first.settings.secret, "secret file") == (second.settings.secret, second.sources["secret"])
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(path.parent.iterdir())


def test_a_configured_secret_wins_over_the_file(tmp_path: Path) -> None:
    """
    A secret in the settings is the secret, and no file is made or read.
    """
    loaded = load_settings(
        {"database": str(tmp_path / "jobs.db"), "host": "192.0.2.1"}, {"JOBSVC_SECRET": "configured"}
    )

    same = with_made_secret(loaded)

    assert "configured" == same.settings.secret
    assert [] == list(tmp_path.iterdir())


def test_without_a_secret_only_loopback_is_served(tmp_path: Path) -> None:
    """
    A service that others can reach never makes up its own secret, not even where one was made before.
    """
    database = str(tmp_path / "jobs.db")
    with_made_secret(load_settings({"database": database}, {}))

    with pytest.raises(UnusableSetting, match=r"192\.0\.2\.1 needs a configured secret"):
        with_made_secret(load_settings({"database": database, "host": "192.0.2.1"}, {}))


def test_reading_makes_no_secret(tmp_path: Path) -> None:
    """
    Verbs that only need a secret if there is one leave nothing behind.
    """
    loaded = load_settings({"database": str(tmp_path / "jobs.db")}, {})

    same = with_secret(loaded)

    assert loaded is same
    assert [] == list(tmp_path.iterdir())


def _with_secret_file(tmp_path: Path, content: bytes, *, mode: int) -> Loaded:
    path = tmp_path / "jobs.db.secret"
    path.write_bytes(content)
    path.chmod(mode)
    return load_settings({"database": f"sqlite:///{tmp_path}/jobs.db"}, {})


@pytest.mark.parametrize(("content", "mode"), [(b"x" * 40, 0o644), (b"\n", 0o600), (b"\xff", 0o600)])
def test_a_secret_file_that_leaked_or_is_empty_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    """
    A secret that others may have read, or that is none, signs nothing.
    """
    loaded = _with_secret_file(tmp_path, content, mode=mode)

    with pytest.raises(UnusableSetting, match=r"jobs\.db\.secret"):
        with_secret(loaded)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "LOCALHOST."])
def test_loopback_is_known_in_all_its_names(host: str) -> None:
    """
    Every spelling of this machine as seen from itself counts.
    """
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "::", "localhost.example", "10.0.0.1", ""])
def test_nothing_else_is_loopback(host: str) -> None:
    """
    An address that others can reach, or a name that only looks local, does not count.
    """
    assert not is_loopback(host)


def test_previous_secrets_are_few_and_never_shown() -> None:
    """
    Nine are refused, and those that there are stand masked.
    """
    loaded = load_settings({}, {"JOBSVC_SECRET": "s", "JOBSVC_SECRET_PREVIOUS": "a,b"})

    assert ("a", "b") == loaded.settings.secret_previous
    assert "***" == loaded.shown()["secret_previous"]["value"]
    with pytest.raises(UnusableSetting, match="more than 8"):
        load_settings({}, {"JOBSVC_SECRET_PREVIOUS": ",".join("abcdefghi")})


PROVIDER = {"idp_jwks": "https://login.example/jwks", "idp_issuer": "https://login.example", "idp_audience": "jobsvc"}
SHARED = {"idp_secret": "x" * 32, "idp_issuer": "https://login.example", "idp_audience": "jobsvc"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"idp_issuer": "https://login.example"}, "idp_issuer, idp_audience"),
        (PROVIDER | {"idp_issuer": ""}, "both are needed"),
        (PROVIDER | {"idp_audience": ""}, "both are needed"),
        (PROVIDER | SHARED, "not both"),
        (PROVIDER | {"idp_jwks": "http://login.example/jwks"}, "https"),
        (PROVIDER | {"idp_jwks": "ftp://127.0.0.1/jwks"}, "https"),
        (PROVIDER | {"idp_algorithms": "none"}, "idp_algorithms"),
        (PROVIDER | {"idp_algorithms": "RS256,HS256"}, "idp_algorithms"),
        (SHARED | {"idp_algorithms": "RS256"}, "idp_algorithms"),
        (SHARED | {"idp_secret": "x" * 31}, "idp_secret"),
        (SHARED | {"secret": "x" * 32}, "our own secret"),
        (SHARED | {"secret": "y", "secret_previous": "x" * 32}, "our own secret"),
        (PROVIDER | {"idp_role_claim": "groups"}, "idp_roles"),
        (PROVIDER | {"idp_roles": "a=operator"}, "idp_roles"),
        (PROVIDER | {"idp_role_claim": "groups", "idp_roles": "a=guest"}, "idp_roles"),
        (PROVIDER | {"idp_leeway_s": "6"}, "idp-leeway-s"),
    ],
)
def test_an_identity_provider_is_whole_and_lets_nobody_else_in(flags: dict[str, str], said: str) -> None:
    """
    What would accept tokens for others, keys that anybody can change, or a role nobody gave is refused at start.
    """
    with pytest.raises(UnusableSetting, match=said):
        load_settings(flags, {})


@pytest.mark.parametrize(
    ("flags", "algorithms"),
    [
        (PROVIDER, ("RS256", "ES256")),
        (PROVIDER | {"idp_jwks": "http://127.0.0.1:9/jwks", "idp_algorithms": "PS256"}, ("PS256",)),
        (PROVIDER | {"idp_jwks": "keys/jwks.json"}, ("RS256", "ES256")),
        (SHARED, ("HS256",)),
    ],
)
def test_a_provider_s_algorithms_go_with_its_keys(flags: dict[str, str], algorithms: tuple[str, ...]) -> None:
    """
    Public keys never count as shared secrets, nor the other way round.
    """
    settings = load_settings(flags, {}).settings

    assert settings.has_provider
    assert algorithms == settings.idp_algorithms_allowed


def test_the_provider_s_secret_is_never_shown() -> None:
    """
    It can make any user.
    """
    assert "***" == load_settings(SHARED, {}).shown()["idp_secret"]["value"]
