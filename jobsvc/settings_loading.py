"""
Where the settings come from: flags, else ``JOBSVC_*`` variables, else a TOML file, else the default.

They are read once, at start. Each value remembers its source, which ``jobsvc config`` shows. The secrets in the file
beside the database are secretfile.py's.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_origin, get_type_hints

import msgspec

from jobsvc.settings import Settings, UnusableSetting
from jobsvc.settings_checks import check

Source = Literal["flag", "environment", "file", "default", "secret file"]
"""Where a value came from. ``secret file`` is the file beside the database; only secrets of ours can come from it."""

ENVIRONMENT_PREFIX: Final = "JOBSVC_"
MASK: Final = "***"
SECRET_NAMES: Final = frozenset({"secret", "secret_previous", "idp_secret"})
"""Settings that are never shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """
    Settings in force, and where each came from.

    Attributes:
        settings: The values.
        sources: By name of setting.
    """

    settings: Settings
    sources: Mapping[str, Source]

    def shown(self) -> dict[str, dict[str, object]]:
        """What may be printed: ``{name: {value, source}}``, secrets masked, a secret that is not set as null."""
        return {
            name: {"value": _masked(name, getattr(self.settings, name)), "source": source}
            for name, source in self.sources.items()
        }


def _masked(name: str, value: object) -> object:
    if name not in SECRET_NAMES:
        return value
    return MASK if value else None


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], *, config_path: str | Path | None = None
) -> Loaded:
    """
    The settings in force: each from its flag, else its variable, else the file, else its default.

    Args:
        flags: By name of setting; None stands for a flag that was not given.
        environ: The environment; an empty variable counts as not set.
        config_path: The TOML file, None for none.

    Raises:
        UnusableSetting: The file cannot be read or names a setting that there is not, or a value cannot be used.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    written = {} if config_path is None else _read_file(Path(config_path))
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for name, kind in _kinds().items():
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        sources[name] = "default"
        if name in given:
            values[name], sources[name] = _convert(f"--{name.replace('_', '-')}", given[name], kind=kind), "flag"
        elif environ.get(variable):
            values[name], sources[name] = _convert(variable, environ[variable], kind=kind), "environment"
        elif name in written:
            values[name], sources[name] = _convert(f"{config_path}: {name}", written[name], kind=kind), "file"
    settings = Settings(**values)
    check(settings)
    return Loaded(settings=settings, sources=sources)


def _kinds() -> dict[str, Any]:
    """The settings by name, in order, with their types."""
    hints = get_type_hints(Settings, include_extras=True)
    return {each.name: hints[each.name] for each in fields(Settings)}


def _convert(place: str, value: object, *, kind: Any) -> Any:  # noqa: ANN401  # a type as a value, and a value of it
    """*value* as *kind*; text is taken apart where lists and mappings are wanted."""
    try:
        converted = msgspec.convert(_taken_apart(value, kind), kind, strict=False)
    except msgspec.ValidationError as error:
        raise UnusableSetting(f"{place}: {str(error).replace('Expected', 'expected')}") from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise UnusableSetting(f"{place}: not a finite number")
    return converted


def _taken_apart(value: object, kind: Any) -> object:  # noqa: ANN401  # as above
    """Text as the list or mapping that it writes out, anything else as it is."""
    shape = get_origin(kind)
    if not isinstance(value, str) or shape not in {tuple, dict}:
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if shape is tuple:
        return parts
    pairs = [part.partition("=") for part in parts]
    return {name.strip(): target.strip() for name, _, target in pairs}


def _read_file(path: Path) -> dict[str, object]:
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableSetting(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UnusableSetting(f"{path}: {error}") from error
    unknown = sorted(written.keys() - _kinds().keys())
    if unknown:
        raise UnusableSetting(f"{path}: no such setting: {', '.join(unknown)}")
    return written
