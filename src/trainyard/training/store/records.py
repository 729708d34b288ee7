"""Rows of the training tables as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainyard.training.types import FileFacts, RunState


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run; its fields are items too, `record["status"]`, as Signal's registry has them.

    Attributes:
        config: The configuration as it takes effect, JSON-compatible.
        rolled_back_from, rolled_back_to: Steps before and after the last crash that took some away; None = none did.
        error: Why the run failed; None unless it did.
        created_at, updated_at, started_at, completed_at: Unix seconds.
    """

    run_id: str
    tenant: str
    user_id: str
    base_model: str
    config: Mapping[str, object]
    status: RunState
    current_step: int
    durable_step: int
    rolled_back_from: int | None
    rolled_back_to: int | None
    error: str | None
    created_at: float
    updated_at: float
    started_at: float | None
    completed_at: float | None

    def __getitem__(self, field: str) -> object:
        if field not in self.__slots__:
            raise KeyError(field)
        return getattr(self, field)


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """One saved checkpoint of a run.

    Attributes:
        name: Unique in its run; also the name of its directory below `checkpoints`.
        step: Optimiser steps behind the weights.
        manifest: File name -> digest and size.
        created_at: Unix seconds.
    """

    id: str
    run_id: str
    name: str
    mode: Literal["adapter", "merged"]
    step: int
    manifest: Mapping[str, FileFacts]
    download_count: int
    created_at: float

    @property
    def size_bytes(self) -> int:
        """Sum over the files."""
        return sum(facts.size for facts in self.manifest.values())
