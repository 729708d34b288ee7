"""What every use case of training stands on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from trainyard.core.blobs import BlobStore
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import Clock
from trainyard.core.settings import Settings
from trainyard.engine.base import Engines
from trainyard.engine.tokenizer import Tokenizers
from trainyard.training.store import RunRegistry

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Parts:
    """The stores, engines and settings, handed to each use case."""

    registry: RunRegistry
    models: ModelRegistry
    engines: Engines
    tokenizers: Tokenizers
    blobs: BlobStore
    settings: Settings
    clock: Clock

    async def stored(self, method: Callable[Params, Answer], /, *args: Params.args, **kwargs: Params.kwargs) -> Answer:
        """Run a method of the registry in the database's threads."""
        return await self.registry.database.call(method, *args, **kwargs)

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return self.settings.data_dir.absolute()

    def run_dir(self, run_id: str) -> Path:
        """The directory of one run; `state` and `checkpoints` lie below it."""
        return self.data_dir / "runs" / run_id
