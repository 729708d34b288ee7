"""Which models there are, and which one a request means."""

from collections.abc import Callable, Sequence
from typing import Literal

from trainyard.core import errors
from trainyard.core.catalog import ModelEntry, ModelRegistry
from trainyard.core.ports.adapters import AdapterCatalog, AdapterModel
from trainyard.core.principal import Principal
from trainyard.serving.service.revisions import Revisions
from trainyard.serving.types import ModelView, Target

RUN_PREFIX = "run_"
COMMON_SCOPE = "*"
"""Prefix scope of everybody, where the settings allow it; no tenant has this name."""

_SHOWN_NAMES = 20
_MAX_TARGETS = 10_000  # one per model and tenant


class Models:
    """Finds models for their callers.

    Args:
        registry: The catalog.
        adapters: Trained runs that are models too.
        revisions: Tells versions of models apart.
        started_at: Unix seconds, the age of the catalog's models.
        timeout_s: Longest time for a look into the runs.
        share_prefixes: `all` lets prompts of all tenants share computed beginnings.
        is_up: Whether what does the work of a model answers, by its name.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        adapters: AdapterCatalog,
        revisions: Revisions,
        *,
        started_at: float,
        timeout_s: float,
        share_prefixes: Literal["tenant", "all"],
        is_up: Callable[[str], bool],
    ) -> None:
        self._registry = registry
        self._adapters = adapters
        self._revisions = revisions
        self._started_at = started_at
        self._timeout_s = timeout_s
        self._share_prefixes = share_prefixes
        self._is_up = is_up
        self._targets: dict[tuple[str, str], tuple[ModelEntry, Target]] = {}

    async def target(self, principal: Principal, name: str | None) -> Target:
        """Find what a request means.

        Raises:
            errors.UnknownModel: The caller has no model of that name; the message lists his.
            errors.InvalidRequest: Code `model_off`.
        """
        wanted = name or self._registry.default_model
        if wanted is None:
            raise errors.UnknownModel("This server has no models; add one to its models.yaml", param="model")
        scope = self._scope(principal)
        if wanted.startswith(RUN_PREFIX):
            adapter = await self._adapter(principal, wanted)
            entry = self._callable(self._registry.entry(adapter.base_model))
            revision = await self._revisions.of_run(entry, adapter)
            return Target(adapter.name, entry.name, adapter, revision, entry.prices, scope)
        entry = self._callable(await self._entry(principal, wanted))
        known = self._targets.get((entry.name, scope))
        if known is not None and known[0] is entry:
            return known[1]
        return self._target(entry, scope)

    def still(self, principal: Principal, name: str | None, target: Target) -> bool:
        """Whether a name of the catalog means for this caller what it meant before; says no when it is not sure."""
        wanted = name or self._registry.default_model
        if wanted is None or not self._registry.is_supported(wanted):
            return False
        entry = self._registry.entry(wanted)
        known = self._targets.get((entry.name, self._scope(principal)))
        return known is not None and known[0] is entry and known[1] is target

    async def list(self, principal: Principal) -> list[ModelView]:
        """List the catalog and the caller's own live runs, without those whose base model has left the catalog."""
        runs = await self._adapters.list_adapters(principal, deadline_s=self._timeout_s)
        there = [run for run in runs if self._registry.is_supported(run.base_model)]
        return [*(self._view(entry) for entry in self._registry.entries), *(self._view_run(run) for run in there)]

    async def show(self, principal: Principal, name: str) -> ModelView:
        """Describe one model by name or alias.

        Raises:
            errors.UnknownModel: The caller has no model of that name.
        """
        if name.startswith(RUN_PREFIX):
            return self._view_run(await self._adapter(principal, name))
        return self._view(await self._entry(principal, name))

    def _scope(self, principal: Principal) -> str:
        return COMMON_SCOPE if self._share_prefixes == "all" else principal.tenant

    def _target(self, entry: ModelEntry, scope: str) -> Target:
        """Describe a model of the catalog, and remember it for as long as its entry is the same."""
        revision = entry.revision
        if entry.base is not None:
            revision = f"{self._callable(self._registry.entry(entry.base)).revision}/{revision}"
        made = Target(entry.name, entry.name, None, revision, entry.prices, scope)
        if entry.base is None:  # what an adapter stands on may change without it
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            self._targets[entry.name, scope] = entry, made
        return made

    def _callable(self, entry: ModelEntry) -> ModelEntry:
        if entry.load != "off":
            return entry
        callable_ = _some([one.name for one in self._registry.entries if one.load != "off"])
        raise errors.InvalidRequest(
            f"{entry.name} is switched off on this server (load: off); available: {callable_}",
            code="model_off",
            param="model",
        )

    async def _entry(self, principal: Principal, name: str) -> ModelEntry:
        if not self._registry.is_supported(name):
            raise await self._unknown(principal, name)
        return self._registry.entry(name)

    async def _adapter(self, principal: Principal, name: str) -> AdapterModel:
        found = await self._adapters.resolve_adapter(principal, name, deadline_s=self._timeout_s)
        if found is None:
            raise await self._unknown(principal, name)
        return found

    async def _unknown(self, principal: Principal, name: str) -> errors.UnknownModel:
        names = _some([view.name for view in await self.list(principal)])
        hint = "; a run can be called once its first optim_step has returned" if name.startswith(RUN_PREFIX) else ""
        return errors.UnknownModel(
            f"The model {name[:100]!r} does not exist or is not yours{hint}; available: {names}", param="model"
        )

    def _status(self, entry: ModelEntry) -> Literal["available", "off", "unavailable"]:
        if entry.load == "off":
            return "off"
        return "available" if self._is_up(entry.name) else "unavailable"

    def _view(self, entry: ModelEntry) -> ModelView:
        return ModelView(
            name=entry.name,
            owner="trainyard",
            created_at=self._started_at,
            status=self._status(entry),
            backend=entry.backend,
            capabilities=entry.capabilities,
            aliases=entry.aliases,
            root=entry.base or entry.name,
            step=None,
            is_default=entry.name == self._registry.default_model,
        )

    def _view_run(self, run: AdapterModel) -> ModelView:
        base = self._registry.entry(run.base_model)
        return ModelView(
            name=run.name,
            owner=run.owner.split("/", 1)[-1],
            created_at=run.created_at,
            status=self._status(base),
            backend=base.backend,
            capabilities=base.capabilities,
            aliases=(),
            root=base.name,
            step=run.step,
        )


def _some(names: Sequence[str]) -> str:
    """List names for a message, which stays short however many runs somebody has."""
    shown = ", ".join(names[:_SHOWN_NAMES]) or "none"
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more (GET /v1/models)" if more > 0 else shown
