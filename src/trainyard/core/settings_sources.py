"""Where settings come from: names, files, environment and flags, and what stands nearest to a misspelt name."""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml
from pydantic import BaseModel

from trainyard.core import errors

_ENV_PREFIX = "TRAINYARD_"
_DEFAULT_FILE = "trainyard.yaml"
_OF_THE_CLIENT = frozenset({"URL", "API_KEY", "CA", "REQUIRE", "TEST_THREADS", "CONFIG", "WRITE_SNAPSHOTS"})
"""TRAINYARD_* variables that are no settings of the server: those of the client and of the tests."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One setting: its dotted name, its raw value, where that came from.

    Attributes:
        source: `default`, the path of a file, the name of a variable, or `flag`.
        is_secret: Whether the value must be masked when shown.
    """

    name: str
    value: object
    source: str
    is_secret: bool = False

    @property
    def shown(self) -> str | None:
        """The value as text, masked when it is a secret; None when there is none."""
        if self.value is None:
            return None
        return "********" if self.is_secret else str(self.value)


def collect(
    model: type[BaseModel], flags: Mapping[str, object], config_file: Path | None, environ: Mapping[str, str] | None
) -> list[Origin]:
    """Find the winning value of every setting of `model`, sorted as the model declares them.

    Raises:
        errors.ConfigError: A source names an unknown setting or the file cannot be read.
    """
    known = dict(_leaves(model))
    found = {name: Origin(name, default, "default", secret) for name, (default, secret) in known.items()}
    for source in (_file(config_file), _environment(environ), _flags(flags)):
        for name, (value, origin) in source.items():
            if name not in known:
                raise errors.ConfigError(_unknown(name, origin, list(known)), param=name)
            found[name] = Origin(name, value, origin, known[name][1])
    return list(found.values())


def merged(origins: list[Origin]) -> dict[str, object]:
    """Nest the values that are not defaults, as the model's constructor takes them."""
    nested: dict[str, object] = {}
    for origin in origins:
        if origin.source == "default":
            continue
        *sections, leaf = origin.name.split(".")
        target = nested
        for section in sections:
            target = cast(dict[str, object], target.setdefault(section, {}))
        target[leaf] = origin.value
    return nested


def nearest(name: str, valid: list[str]) -> str | None:
    """Find the valid name that a misspelt one most probably means, also when only its last part fits."""
    by_leaf = {candidate.rpartition(".")[2]: candidate for candidate in reversed(valid)}  # the first of a name wins
    for pool in (valid, list(by_leaf)):
        close = difflib.get_close_matches(name if pool is valid else name.rpartition(".")[2], pool, n=1, cutoff=0.6)
        if close:
            return by_leaf.get(close[0], close[0]) if pool is not valid else close[0]
    return None


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[object, bool]]]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _leaves(type(default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", (default, not field.repr)


def _file(config_file: Path | None) -> dict[str, tuple[object, str]]:
    path = config_file or Path(_DEFAULT_FILE)
    if config_file is None and not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}", param="config") from error
    except yaml.YAMLError as error:
        raise errors.ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}", param="config") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise errors.ConfigError(f"{path} holds no mapping of settings; write lines such as 'server: {{port: 8000}}'")
    return {name: (value, str(path)) for name, value in _flattened(content)}


def _flattened(content: Mapping[object, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _environment(environ: Mapping[str, str] | None) -> dict[str, tuple[object, str]]:
    found: dict[str, tuple[object, str]] = {}
    for variable, value in (os.environ if environ is None else environ).items():
        rest = variable.removeprefix(_ENV_PREFIX)
        if rest != variable and rest not in _OF_THE_CLIENT:
            found[rest.lower().replace("__", ".")] = (None if value == "" else value, variable)
    return found


def _flags(flags: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    return {name: (value, "flag") for name, value in flags.items() if value is not None}


def _unknown(name: str, origin: str, known: list[str]) -> str:
    below = [candidate for candidate in known if candidate.startswith(f"{name}.")]
    if below:
        return f"'{name}' (from {origin}) is a section, not a value; its settings: {', '.join(below)}"
    guess = nearest(name, known)
    hint = f"did you mean '{guess}'?" if guess else f"valid settings: {', '.join(known)}"
    return f"unknown setting '{name}' (from {origin}); {hint}"
