"""Configuration that changes while the server runs: when to read it again, and what of it can take effect."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from trainyard.core import errors
from trainyard.core.settings import Settings

RELOADED: Final = frozenset({"limits", "models_file"})
"""Sections and settings that take effect without a restart; the catalog behind `models_file` does too."""

KEPT: Final = frozenset({"limits.window_s"})
"""Settings of those sections that do not: what was counted in one window cannot be told apart by another."""

Stamp = tuple[int, int, int] | None


class FileWatch:
    """Notices that files have changed, once they have been left alone for one look."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = list(files)
        self._known = self._pending = self._stamps()

    def follow(self, files: Iterable[Path]) -> None:
        """Watch these files from now on; what is known of those that were watched before stays."""
        known, self._files = self._known, list(files)
        self._known = self._pending = {**self._stamps(), **{file: known[file] for file in self._files if file in known}}

    def has_changed(self) -> bool:
        """Look; true once per change, at the second look that finds the same, so that half a file is not read."""
        found = self._stamps()
        is_settled = found == self._pending
        self._pending = found
        if found == self._known or not is_settled:
            return False
        self._known = found
        return True

    def _stamps(self) -> Mapping[Path, Stamp]:
        return {file: _stamp(file) for file in self._files}


def _stamp(file: Path) -> Stamp:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def check_written(models_file: Path | None) -> None:
    """Refuse a catalog without a word in it, which an editor leaves for a moment before it writes.

    Raises:
        errors.ConfigError: The file is empty (no models at all have to be asked for), or has just gone.
    """
    try:
        is_written = models_file is None or bool(models_file.read_bytes().strip())
    except OSError as error:  # it was there a moment ago
        raise errors.ConfigError(f"{models_file} cannot be read: {error}", param="models_file") from error
    if not is_written:
        raise errors.ConfigError(f"{models_file} is empty; write 'models: []' for no models", param="models_file")


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """Name the settings that differ and are read at the start only."""
    before, after = _flat(old), _flat(new)
    changed = [name for name in after if before[name] != after[name]]
    return sorted(name for name in changed if name in KEPT or name.split(".")[0] not in RELOADED)


def _flat(settings: Settings) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.model_dump().items():
        if isinstance(value, dict):
            flat.update({f"{name}.{leaf}": inner for leaf, inner in value.items()})
        else:
            flat[name] = value
    return flat
