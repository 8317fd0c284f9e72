"""
What several verbs take and say: the settings options, the form of the output, lengths of time, two ways to fail.

What must never live here: a verb, or anything that only one verb needs.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final, TypeVar

import click
import msgspec

from jobsvc.oneline import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobsvc.settings_loading import Loaded

_Function = TypeVar("_Function", bound="Callable[..., object]")

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LENGTH: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class Wrong(click.ClickException):
    """Something is wrong with what was looked at, not with how it was asked: exit code 1."""

    exit_code = 1


class Misused(click.ClickException):
    """It cannot be done as asked: exit code 2."""

    exit_code = 2


class Length(click.ParamType[float]):
    """A length of time: ``90`` (seconds), ``1.5s``, ``30m``, ``1h30m``, ``7d``. Above 0, or 0 if that is *least*."""

    name = "duration"

    def __init__(self, *, least: float | None = None) -> None:
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """*value* in seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        length_s = _length_s(str(value))
        if length_s is None or (length_s <= 0 and length_s != self._least):
            self.fail(f"{value!r} is not a length of time; try 90s, 30m, 1h or 7d", param, ctx)
        return length_s


def settings_options(function: _Function) -> _Function:
    """The verb takes ``--config``, ``--database`` and ``--set``, for `settings_from`."""
    config = click.option(
        "--config",
        "config_path",
        metavar="FILE",
        envvar="JOBSVC_CONFIG",
        help="TOML file with settings; JOBSVC_* variables and flags win over it.",
    )
    database = click.option("--database", metavar="PATH_OR_URL", help="The log's file.  [default: jobsvc.db]")
    other = click.option(
        "--set",
        "pairs",
        metavar="NAME=VALUE",
        multiple=True,
        help="Any other setting, as if it were a flag of its own.",
    )
    return config(database(other(function)))


def output_option(function: _Function) -> _Function:
    """The verb takes ``-o text|json`` as ``output``."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Form of the output.",
    )
    return option(function)


def settings_from(flags: Mapping[str, object], *, config_path: str | None, pairs: tuple[str, ...]) -> Loaded:
    """
    The settings in force, flags and ``--set`` before variables before the file.

    Raises:
        Misused: One of them is unknown or cannot be used.
    """
    from jobsvc.settings import UnusableSetting
    from jobsvc.settings_loading import load_settings

    try:
        return load_settings({**_parsed(pairs), **flags}, os.environ, config_path=config_path)
    except UnusableSetting as error:
        raise Misused(str(error)) from error


def secret_of(loaded: Loaded) -> str:
    """
    The service's secret: the configured one, else the one beside the database.

    Raises:
        Misused: There is neither.
    """
    from jobsvc.secretfile import with_secret
    from jobsvc.settings import UnusableSetting

    try:
        secret = with_secret(loaded).settings.secret
    except UnusableSetting as error:
        raise Misused(str(error)) from error
    if not secret:
        raise Misused(
            f"no secret: set JOBSVC_SECRET, or name with --database a log that has been served;"
            f" there is no {loaded.settings.secret_path}"
        )
    return secret


def print_json(value: object) -> None:
    """*value* as one line of JSON on standard output."""
    click.echo(one_line(msgspec.json.encode(value)))


def in_terminal() -> bool:
    """True if a person reads standard output as it comes."""
    return sys.stdout.isatty()


def _parsed(pairs: tuple[str, ...]) -> dict[str, str]:
    """
    Names and values of ``--set``.

    Raises:
        Misused: There is no such setting, or no value.
    """
    from dataclasses import fields

    from jobsvc.settings import Settings

    known = {each.name for each in fields(Settings)}
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or name not in known:
            raise Misused(f"--set {pair}: want NAME=VALUE with the name of a setting; jobsvc config lists them")
        parsed[name] = value
    return parsed


def _length_s(text: str) -> float | None:
    """*text* in seconds, None if it is no length of time."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not _LENGTH.fullmatch(text):
        return None
    parts: list[tuple[str, str]] = _PART.findall(text)
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
