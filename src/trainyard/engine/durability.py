"""The durable state of a run: one file that is replaced whole, and a marker of how far memory is ahead of it.

`state.safetensors` is written under a temporary name, flushed to the disk and renamed, so that at any moment the old
or the new state is there, complete. `progress` is 64 bytes overwritten in place by one system call: it survives the
death of the process (which is what it is for), not a power cut, after which it may be older than the truth.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainyard.core import errors
from trainyard.engine.types import RunSpec

STATE, PROGRESS = "state.safetensors", "progress"
_FORMAT = "trainyard-run-1"
_PROGRESS_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class StateSnapshot:
    """A run at one step, copied out of the way of training.

    Attributes:
        step: Optimiser steps done; position of the schedule.
        calls: `forward_backward` calls done; position of the dropout masks.
        tensors: "adapter" and "optimiser.*", on the CPU.
    """

    directory: Path
    spec: RunSpec
    step: int
    calls: int
    tensors: dict[str, Tensor]


def directory(spec: RunSpec) -> Path:
    """Name the state directory of a run, made when absent."""
    path = Path(spec.state_dir)
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_state(snapshot: StateSnapshot) -> None:
    """Replace the durable state by this one; after a crash at any point the old or the new one is there."""
    meta = {
        "format": _FORMAT,
        "step": str(snapshot.step),
        "calls": str(snapshot.calls),
        "spec": msgspec.json.encode(snapshot.spec).decode(),
    }
    write_file(snapshot.directory / STATE, save(snapshot.tensors, metadata=meta))


def write_file(path: Path, content: bytes) -> None:
    """Put content in place of a file in one atomic, flushed step; a refused one leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half a state would take room on the disk that has none
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush the names in a directory, so that a rename survives a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_state(path: Path) -> StateSnapshot | None:
    """Read the durable state of a directory; None when it holds none.

    Raises:
        errors.Conflict: code `state_unreadable`, when the file is there but damaged or of another version.
    """
    file = path / STATE
    if not file.exists():
        return None
    shown = f"{path.parent.name}/{path.name}/{STATE}"  # not the whole path: the caller reads it
    try:
        with safe_open(file, framework="pt") as opened:
            meta: dict[str, Any] = opened.metadata() or {}
            if meta.get("format") != _FORMAT:
                raise errors.Conflict(
                    f"{shown} has format {meta.get('format')!r}, not {_FORMAT!r}", code="state_unreadable"
                )
            spec = msgspec.json.decode(meta["spec"], type=RunSpec)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, msgspec.DecodeError, KeyError) as cause:
        raise errors.Conflict(f"{shown} is damaged: {cause}", code="state_unreadable") from cause
    return StateSnapshot(path, spec, int(meta["step"]), int(meta["calls"]), tensors)


class ProgressMarker:
    """Says at which step the run stands in memory and whether gradients are held; costs one small write.

    Its room on the disk is taken when it is made (OSError when there is none), so that a disk that fills up later does
    not stop a run between its weights and its marker.
    """

    def __init__(self, directory: Path) -> None:
        self._handle = os.open(directory / PROGRESS, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(self._handle, 0, _PROGRESS_BYTES)  # what is written there already stays
        except OSError:
            os.close(self._handle)
            raise

    def write(self, step: int, *, pending: bool) -> None:
        """Overwrite the marker."""
        line = f'{{"step": {step}, "pending": {"true" if pending else "false"}}}'
        os.pwrite(self._handle, line.ljust(_PROGRESS_BYTES).encode(), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


def mark_progress(directory: Path, step: int, *, pending: bool) -> None:
    """Write the marker once, without keeping the file open."""
    with contextlib.closing(ProgressMarker(directory)) as marker:
        marker.write(step, pending=pending)


def read_progress(directory: Path) -> tuple[bool, int]:
    """Read (gradients were held, step in memory) of the process before; (False, 0) when none left a marker."""
    try:
        found = msgspec.json.decode((directory / PROGRESS).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return False, 0
    return bool(found["pending"]), int(found["step"])
