"""The models that this server offers, from one `models.yaml` or from the package."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from trainyard.core import errors, hub_cache
from trainyard.core.settings import Settings
from trainyard.core.settings_sources import nearest

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?"

ModelName = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
Capability = Literal["generate", "chat", "embed"]


def _unquoted_off(value: object) -> object:
    """YAML reads an unquoted `off` as false."""
    return "off" if value is False else value


class ModelEntry(BaseModel):
    """One model of the catalog.

    Attributes:
        name: `org/name` or `name`; never a path.
        aliases: Further names for the same model.
        backend: `local` is served by an engine of ours, `fake` answers by fixed rules (for tests and demonstrations).
        path: Directory with `config.json` and safetensors; relative ones start at the catalog's directory. When left
            out, `name` is looked up in the hub's cache on this machine, and None means that it is not there.
        load: `eager` starts its engine with the server, `lazy` at the first use, `off` lists it but refuses calls.
        trainable: Whether runs can be made on it.
        gpu: Wish such as `l40s:1`; recorded, and applied where that GPU is.
        framework: Kept from Signal's files; the engine is the same for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ModelName
    aliases: tuple[ModelName, ...] = ()
    backend: Literal["local", "fake"] = "local"
    path: Path | None = None
    load: Annotated[Literal["eager", "lazy", "off"], BeforeValidator(_unquoted_off)] = "lazy"
    trainable: bool = True
    gpu: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}(:[1-9][0-9]?)?$")] | None = None
    family: str | None = Field(default=None, max_length=64)
    framework: Literal["transformers", "unsloth", "native"] = "native"
    capabilities: tuple[Capability, ...] = ("generate", "chat")


class _CatalogFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str | None = None
    models: tuple[ModelEntry, ...] = ()


def _embedded() -> _CatalogFile:
    pocket = ModelEntry(
        name="trainyard/pocket",
        aliases=("pocket",),
        path=Path(__file__).parents[1] / "engine" / "pocket",
        load="eager",
        family="pocket",
    )
    return _CatalogFile(default_model=pocket.name, models=(pocket,))


class ModelRegistry:
    """Finds models by name or alias.

    Attributes:
        entries: All models in the order of the file.
        default_model: Name of the model for requests that name none; None when there are no models.
    """

    def __init__(self, config_file: Path | str | None = None, *, hub: Path = hub_cache.DEFAULT) -> None:
        """Read the catalog once.

        Args:
            config_file: A `models.yaml`; None = the catalog that comes with the package; a missing file = no models.
            hub: Cache of the hub's client, for entries without a path.

        Raises:
            errors.ConfigError: The file cannot be used; the message names the entry and what would be right.
        """
        path = None if config_file is None else Path(config_file)
        content = _embedded() if path is None else _read(path, hub)
        self.entries: tuple[ModelEntry, ...] = content.models
        self._by_name = _index(content.models)
        self.default_model = self._default(content.default_model)

    @classmethod
    def from_settings(cls, settings: Settings) -> "ModelRegistry":
        """Read the catalog that the settings name; a file that is named must be there.

        Raises:
            errors.ConfigError: It is not, or it cannot be used.
        """
        file = settings.models_file
        if file is not None and not file.is_file():
            raise errors.ConfigError(f"models_file: there is no file {file}", param="models_file")
        return cls(file, hub=settings.hub_cache)

    def list_models(self) -> list[str]:
        """List the names, without aliases, in the order of the file."""
        return [entry.name for entry in self.entries]

    def get_model(self, name: str) -> dict[str, object] | None:
        """Describe a model as plain data; None when there is no such name."""
        entry = self._by_name.get(name)
        return entry.model_dump(mode="json") if entry else None

    def is_supported(self, name: str) -> bool:
        """Whether the name or alias is in the catalog."""
        return name in self._by_name

    def entry(self, name: str) -> ModelEntry:
        """Find a model by name or alias.

        Raises:
            errors.UnknownModel: It is not in the catalog; the message lists the names.
        """
        found = self._by_name.get(name)
        if found is None:
            valid = ", ".join(self.list_models()) or "none is configured"
            raise errors.UnknownModel(f"Model {name[:100]!r} is not supported; available: {valid}", param="model")
        return found

    def _default(self, wanted: str | None) -> str | None:
        if wanted is None:
            return self.entries[0].name if self.entries else None
        if wanted not in self._by_name:
            names = ", ".join(self.list_models()) or "none"
            raise errors.ConfigError(
                f"default_model {wanted!r} is not one of the models: {names}", param="default_model"
            )
        return self._by_name[wanted].name


def _read(path: Path, hub: Path) -> _CatalogFile:
    if not path.exists():
        return _CatalogFile()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}", param="models_file") from error
    except yaml.YAMLError as error:
        raise errors.ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}", param="models_file") from error
    try:
        parsed = _CatalogFile.model_validate({} if content is None else content)
    except ValidationError as error:
        raise errors.ConfigError(f"{path}: {_first_fault(error, content)}", param="models_file") from error
    return parsed.model_copy(update={"models": tuple(_placed(entry, path, hub) for entry in parsed.models)})


def _placed(entry: ModelEntry, file: Path, hub: Path) -> ModelEntry:
    """Find the directory of a local model and make sure that a model is there."""
    if entry.backend == "fake":
        if entry.path is not None:
            raise _unusable(file, entry, "a fake model has no path; leave it out")
        return entry
    if entry.path is None:
        found = hub_cache.find(entry.name, hub)
        if found is None and entry.load == "eager":
            raise _unusable(file, entry, f"it is not in {hub}; name its directory as path, or write load: lazy")
        return entry.model_copy(update={"path": found})
    directory = (file.parent / entry.path.expanduser()).absolute()
    if entry.load != "off" and not (directory / "config.json").is_file():
        hint = f"there is no config.json in {directory}; name the directory of a model, or write load: off"
        raise _unusable(file, entry, hint)
    return entry.model_copy(update={"path": directory})


def _unusable(file: Path, entry: ModelEntry, reason: str) -> errors.ConfigError:
    return errors.ConfigError(f"{file}: {entry.name}: {reason}", param="models_file")


def _index(entries: Iterable[ModelEntry]) -> dict[str, ModelEntry]:
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


def _first_fault(error: ValidationError, content: object) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    entry = _entry_name(content, first["loc"])
    prefix = f"{where}{f' ({entry})' if entry else ''}"
    if first["type"] != "extra_forbidden":
        return f"{prefix}: {first['msg']}"
    valid = list((ModelEntry if "models" in first["loc"] else _CatalogFile).model_fields)
    guess = nearest(str(first["loc"][-1]), valid)
    hint = f"did you mean '{guess}'?" if guess else f"valid keys: {', '.join(valid)}"
    return f"{prefix}: unknown key; {hint}"


def _entry_name(content: object, loc: tuple[int | str, ...]) -> str | None:
    if not (isinstance(content, dict) and len(loc) >= 2 and isinstance(loc[1], int)):
        return None
    entry = content["models"][loc[1]]
    return str(entry.get("name")) if isinstance(entry, dict) and entry.get("name") else None
