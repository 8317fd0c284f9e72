import json
from dataclasses import fields
from pathlib import Path

from click.testing import CliRunner

from jobsvc.cli import main
from jobsvc.secretfile import with_made_secret
from jobsvc.settings import Settings
from jobsvc.settings_loading import load_settings


def test_every_setting_is_shown_with_its_source(tmp_path: Path) -> None:
    """
    As JSON, each setting is its value and where that came from.
    """
    config = tmp_path / "jobsvc.toml"
    config.write_text("drain_s = 1.5\n")
    arguments = ["config", "--config", str(config), "--port", "1", "--set", "title_characters_max=9", "-o", "json"]

    printed = CliRunner().invoke(main, arguments, env={"JOBSVC_HEARTBEAT_S": "0.5"})

    shown = json.loads(printed.output)
    assert [each.name for each in fields(Settings)] == list(shown)
    assert {"value": 1, "source": "flag"} == shown["port"]
    assert {"value": 9, "source": "flag"} == shown["title_characters_max"]
    assert {"value": 0.5, "source": "environment"} == shown["heartbeat_s"]
    assert {"value": 1.5, "source": "file"} == shown["drain_s"]
    assert {"value": "127.0.0.1", "source": "default"} == shown["host"]


def test_no_secret_is_printed_in_any_form(tmp_path: Path) -> None:
    """
    Whether configured or in its file, a secret is only said to be there.
    """
    database = str(tmp_path / "jobs.db")
    secret = with_made_secret(load_settings({"database": database}, {})).settings.secret
    arguments = ["config", "--database", database]

    in_file = CliRunner().invoke(main, [*arguments, "-o", "json"])
    as_text = CliRunner().invoke(main, arguments, env={"JOBSVC_SECRET": "hush-hush"})

    assert {"value": "***", "source": "secret file"} == json.loads(in_file.output)["secret"]
    assert "secret=*** (environment)" in as_text.output.splitlines()
    assert secret not in in_file.output
    assert "hush" not in as_text.output


def test_lists_and_mappings_are_printed_as_a_variable_would_write_them() -> None:
    """
    What the text form shows can be put into a variable as it is.
    """
    environ = {"JOBSVC_ALLOWED_HOSTS": "a,b", "JOBSVC_PROFILES": "page=default"}

    printed = CliRunner().invoke(main, ["config"], env=environ)

    lines = printed.output.splitlines()
    assert "allowed_hosts=a,b (environment)" in lines
    assert "profiles=page=default (environment)" in lines


def test_what_cannot_be_used_is_exit_code_2(tmp_path: Path) -> None:
    """
    An unknown setting, an unusable value and a missing file are wrong usage, each named.
    """
    cases = {
        ("--set", "colour=red"): "colour=red",
        ("--set", "port"): "NAME=VALUE",
        ("--set", "heartbeat_s=-1"): "heartbeat-s",
        ("--config", str(tmp_path / "none.toml")): "none.toml",
        ("--database", "postgresql://db/jobs"): "PostgreSQL is not built yet",
    }

    printed = {said: CliRunner().invoke(main, ["config", *arguments]) for arguments, said in cases.items()}

    assert {2} == {each.exit_code for each in printed.values()}
    assert [] == [said for said, each in printed.items() if said not in each.output]
