"""Saved adapters of the catalog: PEFT directories on top of local models."""

from collections.abc import Sequence
from dataclasses import replace

from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.ports.adapters import AdapterModel
from trainyard.serving.backends.base import Prepared, TextBackend
from trainyard.serving.types import Ask, EmbedAsk, Target, Vectors

_OWNER = "default/trainyard"


class AdapterBackend:
    """Implements `TextBackend` by asking the backend of local models for the base with the adapter on top."""

    def __init__(self, models: ModelRegistry, local: TextBackend) -> None:
        self._models = models
        self._local = local

    async def prepare(self, target: Target, ask: Ask) -> Sequence[Prepared]:
        """Prepare on the base model."""
        return await self._local.prepare(self._on_base(target), ask)

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Count by the base model's tokenizer."""
        return await self._local.count(self._on_base(target), ask)

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Embed with the adapter on top."""
        return await self._local.embed(self._on_base(target), ask, timeout_s)

    def _on_base(self, target: Target) -> Target:
        entry = self._models.entry(target.base_model)
        if entry.base is None or entry.path is None:  # the catalog was read again in between
            raise errors.UnknownModel(f"{entry.name} is no adapter any more; send the request again", param="model")
        base = self._models.entry(entry.base).name
        saved = AdapterModel(
            name=entry.name,
            base_model=base,
            run_id="",
            checkpoint_dir=str(entry.path),
            step=0,
            created_at=0.0,
            owner=_OWNER,
        )
        return replace(target, base_model=base, adapter=saved)
