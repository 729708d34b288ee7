"""Finding models by name, and reading the catalog again while the server runs."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.core import errors, hub_cache
from trainyard.core.catalog import file
from trainyard.core.catalog.entry import ModelEntry
from trainyard.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Change:
    """What another reading of the catalog changed, by name.

    Attributes:
        added: Models that were not there.
        removed: Models that are gone.
        changed: Models whose entry or upstream key is another one.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Catalog:
    """One validated reading of the file; never changed, only replaced."""

    entries: tuple[ModelEntry, ...]
    by_name: Mapping[str, ModelEntry]
    default_model: str | None
    chains: Mapping[str, tuple[ModelEntry, ...]]
    keys: Mapping[str, str]


class ModelRegistry:
    """Finds models by name or alias."""

    def __init__(
        self,
        config_file: Path | str | None = None,
        *,
        hub: Path = hub_cache.DEFAULT,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Read the catalog.

        Args:
            config_file: A `models.yaml`; None = the catalog that comes with the package; a missing file = no models.
            hub: Cache of the hub's client, for entries without a path.
            environ: Holds the keys of upstreams; the environment of this process when left out.

        Raises:
            errors.ConfigError: The file cannot be used; the message names the entry and what would be right.
        """
        self._file = None if config_file is None else Path(config_file)
        self._hub = hub
        self._environ = os.environ if environ is None else environ
        self._listeners: list[Callable[[Change], None]] = []
        self._catalog = self._read(self._file, may_be_missing=True)

    @classmethod
    def from_settings(cls, settings: Settings, *, environ: Mapping[str, str] | None = None) -> "ModelRegistry":
        """Read the catalog that the settings name; a file that is named must be there.

        Raises:
            errors.ConfigError: It is not, or it cannot be used.
        """
        path = settings.models_file
        if path is not None and not path.is_file():
            raise errors.ConfigError(f"models_file: there is no file {path}", param="models_file")
        return cls(path, hub=settings.hub_cache, environ=environ)

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        """All models in the order of the file."""
        return self._catalog.entries

    @property
    def default_model(self) -> str | None:
        """Name of the model for requests that name none; None when there are no models."""
        return self._catalog.default_model

    def reload(self, settings: Settings | None = None) -> Change:
        """Read the file again and put it in place of the old one as a whole; entries that are equal stay the same.

        Args:
            settings: Name the file from now on; when left out, it is the same as before.

        Raises:
            errors.ConfigError: The file cannot be used; nothing has changed.
        """
        path = self._file if settings is None else settings.models_file
        old, new = self._catalog, self._kept(self._read(path, may_be_missing=False))
        self._file = path
        change = _difference(old, new)
        self._catalog = new
        for listener in self._listeners:
            listener(change)
        return change

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Have a function called after every reading that succeeded, also one that changed nothing."""
        self._listeners.append(listener)

    def list_models(self) -> list[str]:
        """List the names, without aliases, in the order of the file."""
        return [entry.name for entry in self.entries]

    def get_model(self, name: str) -> dict[str, object] | None:
        """Describe a model as plain data; None when there is no such name."""
        entry = self._catalog.by_name.get(name)
        return entry.model_dump(mode="json") if entry else None

    def is_supported(self, name: str) -> bool:
        """Whether the name or alias is in the catalog."""
        return name in self._catalog.by_name

    def entry(self, name: str) -> ModelEntry:
        """Find a model by name or alias.

        Raises:
            errors.UnknownModel: It is not in the catalog; the message lists the names.
        """
        found = self._catalog.by_name.get(name)
        if found is None:
            valid = ", ".join(self.list_models()) or "none is configured"
            raise errors.UnknownModel(f"Model {name[:100]!r} is not supported; available: {valid}", param="model")
        return found

    def chain(self, name: str) -> tuple[ModelEntry, ...]:
        """List a model and its fallbacks, those of fallbacks included, in the order in which they are asked.

        Raises:
            errors.UnknownModel: As `entry`.
        """
        return self._catalog.chains[self.entry(name).name]

    def upstream_key(self, name: str) -> str | None:
        """Give the key for the upstream of a model, by its name; None when it needs none. Never log it."""
        return self._catalog.keys.get(name)

    def _read(self, path: Path | None, *, may_be_missing: bool) -> _Catalog:
        if path is None:
            content = file.embedded()
        elif may_be_missing and not path.exists():
            content = file.CatalogFile()
        else:
            content = file.read(path, self._hub)
        by_name = file.index(content.models)
        file.check_bases(by_name)
        return _Catalog(
            entries=content.models,
            by_name=by_name,
            default_model=_default(content.default_model, content.models, by_name),
            chains={entry.name: file.chain(entry, by_name) for entry in content.models},
            keys=file.upstream_keys(content.models, self._environ),
        )

    def _kept(self, new: _Catalog) -> _Catalog:
        """Put the old objects in place of equal new ones, so that what hangs on an entry outlives the reading."""
        old = self._catalog

        def kept(entry: ModelEntry) -> ModelEntry:
            before = old.by_name.get(entry.name)
            is_same = before == entry and old.keys.get(entry.name) == new.keys.get(entry.name)
            return before if before is not None and is_same else entry

        return _Catalog(
            entries=tuple(kept(entry) for entry in new.entries),
            by_name={name: kept(entry) for name, entry in new.by_name.items()},
            default_model=new.default_model,
            chains={name: tuple(kept(one) for one in chain) for name, chain in new.chains.items()},
            keys=new.keys,
        )


def _default(wanted: str | None, entries: tuple[ModelEntry, ...], by_name: Mapping[str, ModelEntry]) -> str | None:
    if wanted is None:
        return entries[0].name if entries else None
    if wanted not in by_name:
        names = ", ".join(entry.name for entry in entries) or "none"
        raise errors.ConfigError(f"default_model {wanted!r} is not one of the models: {names}", param="default_model")
    return by_name[wanted].name


def _difference(old: _Catalog, new: _Catalog) -> Change:
    before, after = ({entry.name: entry for entry in one.entries} for one in (old, new))
    return Change(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name, entry in after.items() if name in before and before[name] is not entry),
    )
