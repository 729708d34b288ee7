"""Reading `models.yaml`: every fault is one line that names the entry and what would be right."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from trainyard.core import errors, hub_cache
from trainyard.core.catalog.entry import ModelEntry
from trainyard.core.settings_sources import nearest

POCKET = "trainyard/pocket"
"""Name of the model that comes with the package."""
_POCKET_DIRECTORY = Path(__file__).parents[2] / "engine" / "pocket"


class CatalogFile(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str | None = None
    models: tuple[ModelEntry, ...] = ()


def embedded() -> CatalogFile:
    """Give the catalog that comes with the package."""
    pocket = ModelEntry(
        name=POCKET,
        aliases=("pocket",),
        path=_POCKET_DIRECTORY,
        load="eager",
        family="pocket",
    )
    return CatalogFile(default_model=pocket.name, models=(pocket,))


def read(path: Path, hub: Path) -> CatalogFile:
    """Read a file and find the directories of its models.

    Raises:
        errors.ConfigError: It cannot be used.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}", param="models_file") from error
    except yaml.YAMLError as error:
        raise errors.ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}", param="models_file") from error
    try:
        parsed = CatalogFile.model_validate({} if content is None else content)
    except ValidationError as error:
        raise errors.ConfigError(f"{path}: {_first_fault(error, content)}", param="models_file") from error
    return parsed.model_copy(update={"models": tuple(_placed(entry, path, hub) for entry in parsed.models)})


def index(entries: Iterable[ModelEntry]) -> dict[str, ModelEntry]:
    """Find entries by name and alias.

    Raises:
        errors.ConfigError: A name stands for two, or is kept for runs.
    """
    by_name: dict[str, ModelEntry] = {}
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if name in by_name:
                raise errors.ConfigError(
                    f"the name {name!r} stands for both {by_name[name].name} and {entry.name}; "
                    "names and aliases are unique",
                    param="models_file",
                )
            if name.startswith("run_"):
                raise errors.ConfigError(
                    f"the name {name!r} begins with run_, which is kept for trained adapters", param="models_file"
                )
            by_name[name] = entry
    return by_name


def check_bases(by_name: Mapping[str, ModelEntry]) -> None:
    """See that every adapter lies on a local model that can be called.

    Raises:
        errors.ConfigError: One does not.
    """
    for entry in by_name.values():
        if entry.base is None:
            continue
        base = by_name.get(entry.base)
        if base is None or base.backend != "local":
            local = ", ".join(sorted({one.name for one in by_name.values() if one.backend == "local"})) or "none"
            raise _unusable(entry, f"base {entry.base!r} is not a local model of this catalog; these are: {local}")
        if base.load == "off" and entry.load != "off":
            raise _unusable(entry, f"its base {base.name} is off; write load: off here too, or switch the base on")


def chain(entry: ModelEntry, by_name: Mapping[str, ModelEntry]) -> tuple[ModelEntry, ...]:
    """List a model and everything that is asked in its place, nearest first.

    Raises:
        errors.ConfigError: A fallback does not exist, is off, cannot do the same, or leads back.
    """
    found: list[ModelEntry] = []
    _follow(entry, entry, by_name, found, ())
    return tuple(found)


def _follow(
    first: ModelEntry,
    entry: ModelEntry,
    by_name: Mapping[str, ModelEntry],
    found: list[ModelEntry],
    above: tuple[str, ...],
) -> None:
    if entry.name in above:
        raise _unusable(first, f"its fallbacks lead back: {' -> '.join((*above, entry.name))}")
    if entry in found:
        return
    found.append(entry)
    for name in entry.fallbacks:
        other = by_name.get(name)
        if other is None:
            raise _unusable(entry, f"its fallback {name!r} is not one of the models: {', '.join(sorted(by_name))}")
        if other.load == "off":
            raise _unusable(entry, f"its fallback {other.name} is off")
        lacking = [one for one in entry.capabilities if one not in other.capabilities]
        if lacking:
            raise _unusable(entry, f"its fallback {other.name} lacks the capability {lacking[0]}")
        _follow(first, other, by_name, found, (*above, entry.name))


def upstream_keys(entries: Iterable[ModelEntry], environ: Mapping[str, str]) -> dict[str, str]:
    """Read the keys of upstreams, by name of the model.

    Raises:
        errors.ConfigError: A variable that an entry names is not set.
    """
    keys = {}
    for entry in entries:
        if entry.api_key_env is None or entry.load == "off":
            continue
        key = environ.get(entry.api_key_env, "").strip()
        if not key:
            raise _unusable(entry, f"the environment variable {entry.api_key_env} (api_key_env) is not set")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise _unusable(
                entry, f"the environment variable {entry.api_key_env} holds no key: spaces or control codes"
            )
        keys[entry.name] = key
    return keys


def _placed(entry: ModelEntry, file: Path, hub: Path) -> ModelEntry:
    """Find the directory of a model and make sure that a model is there."""
    if entry.is_remote:
        return entry.model_copy(update={"trainable": False})
    if entry.backend == "fake":
        return entry
    if entry.path is None and entry.name == POCKET:
        return entry.model_copy(update={"path": _POCKET_DIRECTORY})
    if entry.path is None:
        found = hub_cache.find(entry.name, hub)
        if found is None and entry.load == "eager":
            raise _unusable(entry, f"it is not in {hub}; name its directory as path, or write load: lazy", file)
        return entry.model_copy(update={"path": found})
    directory = (file.parent / entry.path.expanduser()).absolute()
    wanted = "config.json" if entry.backend == "local" else "adapter_config.json"
    if entry.load != "off" and not (directory / wanted).is_file():
        what = "a model" if entry.backend == "local" else "an adapter"
        hint = f"there is no {wanted} in {directory}; name the directory of {what}, or write load: off"
        raise _unusable(entry, hint, file)
    trainable = entry.trainable and entry.backend == "local"
    return entry.model_copy(update={"path": directory, "trainable": trainable})


def _unusable(entry: ModelEntry, reason: str, file: Path | None = None) -> errors.ConfigError:
    return errors.ConfigError(f"{f'{file}: ' if file else ''}{entry.name}: {reason}", param="models_file")


def _first_fault(error: ValidationError, content: object) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    entry = _entry(content, first["loc"])
    name = entry.get("name") if entry else None
    prefix = f"{where}{f' ({name})' if name else ''}"
    if first["type"] != "extra_forbidden":
        return f"{prefix}: {first['msg'].removeprefix('Value error, ')}"
    valid = list((ModelEntry if "models" in first["loc"] else CatalogFile).model_fields)
    guess = nearest(str(first["loc"][-1]), valid)
    hint = f"did you mean '{guess}'?" if guess else f"valid keys: {', '.join(valid)}"
    return f"{prefix}: unknown key; {hint}"


def _entry(content: object, loc: tuple[int | str, ...]) -> dict[str, Any] | None:
    if not (isinstance(content, dict) and len(loc) >= 2 and isinstance(loc[1], int)):
        return None
    entry = content["models"][loc[1]]
    return entry if isinstance(entry, dict) else None
