"""Adapters as models: what serving needs to know of training."""

from dataclasses import dataclass
from typing import Protocol

from trainyard.core.principal import Principal


@dataclass(frozen=True, slots=True)
class AdapterModel:
    """One trained adapter under the name by which it is called.

    Attributes:
        name: `run_<id>` for live weights, `run_<id>@<step>` or `run_<id>:<checkpoint>` for saved ones.
        base_model: Catalog name of the frozen model below it.
        run_id: The run that trained it.
        checkpoint_dir: Directory in PEFT's format for saved weights; None for live ones.
        step: Optimiser steps behind these weights.
        created_at: Unix time in seconds.
        owner: `tenant/user`.
    """

    name: str
    base_model: str
    run_id: str
    checkpoint_dir: str | None
    step: int
    created_at: float
    owner: str


class AdapterCatalog(Protocol):
    """Looks up adapters that a principal may call."""

    async def list_adapters(
        self, principal: Principal, *, deadline_s: float | None = None, idempotency_key: str | None = None
    ) -> list[AdapterModel]:
        """List the callable live runs (at least one optimiser step) of the principal; an admin sees his own too."""
        ...

    async def resolve_adapter(
        self, principal: Principal, name: str, *, deadline_s: float | None = None, idempotency_key: str | None = None
    ) -> AdapterModel | None:
        """Find an adapter by model name and make sure that its engine holds it.

        Returns:
            None when the name is not an adapter's, is unknown, has no step yet, or belongs to somebody else.
        """
        ...
