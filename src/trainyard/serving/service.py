"""The use cases of serving: which models there are, and text from one of them."""

import asyncio
from collections.abc import Sequence

from trainyard.core import errors
from trainyard.core.catalog import ModelEntry, ModelRegistry
from trainyard.core.clock import Clock
from trainyard.core.ports.adapters import AdapterCatalog, AdapterModel
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics
from trainyard.engine.base import Engines
from trainyard.engine.tokenizer import Tokenizers
from trainyard.serving.backends.base import Prepared, TextBackend
from trainyard.serving.backends.fake import FakeBackend
from trainyard.serving.backends.local import LocalBackend
from trainyard.serving.types import Ask, ModelView, Target, fields
from trainyard.serving.work import GenerationMetrics, Work

RUN_PREFIX = "run_"
TIMEOUT_S = 600.0
_SHOWN_NAMES = 20


class ServingService:
    """Finds models for their callers and prepares work on them.

    Args:
        models: The catalog.
        engines: Do the work of local models.
        tokenizers: Count the prompts of local models.
        adapters: Trained runs that are models too.
        clock: For deadlines and the age of the catalog.
        metrics: Where requests and tokens are counted.
        timeout_s: Longest time for one request, from its arrival to its last token.
    """

    def __init__(
        self,
        models: ModelRegistry,
        engines: Engines,
        tokenizers: Tokenizers,
        adapters: AdapterCatalog,
        clock: Clock,
        *,
        metrics: Metrics | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._models = models
        self._adapters = adapters
        self.clock = clock
        self._metrics = GenerationMetrics(metrics or Metrics())
        self._timeout_s = timeout_s
        self._started_at = clock.now()
        self._backends: dict[str, TextBackend] = {
            "local": LocalBackend(engines, tokenizers),
            "fake": FakeBackend(),
        }

    async def prepare(self, principal: Principal, ask: Ask) -> Work:
        """Find the model and see that every prompt fits; nothing is generated yet.

        Raises:
            errors.UnknownModel: The caller has no model of that name; the message lists his.
            errors.InvalidRequest: The model is off (`model_off`), too many answers are asked for, or a prompt does not
                fit (`context_length_exceeded`).
            errors.Unavailable: The model is not up.
            errors.DeadlineExceeded: It did not come up in time.
        """
        began_s = self.clock.monotonic()
        if len(ask.prompts) * ask.n > fields.MAX_STREAMS:
            raise errors.InvalidRequest(
                f"{len(ask.prompts)} prompts x n = {ask.n} is more than {fields.MAX_STREAMS} answers at once", param="n"
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                target, prepared = await self._prepare(principal, ask)
        except TimeoutError as error:
            raise errors.DeadlineExceeded("The model did not come up in time; send the request again") from error
        ends_at_s = began_s + self._timeout_s
        return Work(target, ask, prepared, self.clock, self._metrics, began_s, ends_at_s)

    async def list_models(self, principal: Principal) -> list[ModelView]:
        """List the catalog and the caller's own live runs, without those whose base model has left the catalog."""
        runs = await self._adapters.list_adapters(principal, deadline_s=self._timeout_s)
        there = [run for run in runs if self._models.is_supported(run.base_model)]
        return [*(self._view(entry) for entry in self._models.entries), *(self._view_run(run) for run in there)]

    async def show_model(self, principal: Principal, name: str) -> ModelView:
        """Describe one model by name or alias.

        Raises:
            errors.UnknownModel: The caller has no model of that name.
        """
        if name.startswith(RUN_PREFIX):
            return self._view_run(await self._adapter(principal, name))
        return self._view(await self._entry(principal, name))

    async def _prepare(self, principal: Principal, ask: Ask) -> tuple[Target, Sequence[Prepared]]:
        target = await self._resolve(principal, ask.model)
        entry = self._models.entry(target.base_model)
        if entry.load == "off":
            callable_ = _some([one.name for one in self._models.entries if one.load != "off"])
            raise errors.InvalidRequest(
                f"{entry.name} is switched off on this server (load: off); available: {callable_}",
                code="model_off",
                param="model",
            )
        return target, await self._backends[entry.backend].prepare(target, ask)

    async def _resolve(self, principal: Principal, name: str | None) -> Target:
        wanted = name or self._models.default_model
        if wanted is None:
            raise errors.UnknownModel("This server has no models; add one to its models.yaml", param="model")
        if wanted.startswith(RUN_PREFIX):
            adapter = await self._adapter(principal, wanted)
            return Target(adapter.name, adapter.base_model, adapter)
        entry = await self._entry(principal, wanted)
        return Target(entry.name, entry.name)

    async def _entry(self, principal: Principal, name: str) -> ModelEntry:
        if not self._models.is_supported(name):
            raise await self._unknown(principal, name)
        return self._models.entry(name)

    async def _adapter(self, principal: Principal, name: str) -> AdapterModel:
        found = await self._adapters.resolve_adapter(principal, name, deadline_s=self._timeout_s)
        if found is None:
            raise await self._unknown(principal, name)
        return found

    async def _unknown(self, principal: Principal, name: str) -> errors.UnknownModel:
        names = _some([view.name for view in await self.list_models(principal)])
        hint = "; a run can be called once its first optim_step has returned" if name.startswith(RUN_PREFIX) else ""
        return errors.UnknownModel(
            f"The model {name[:100]!r} does not exist or is not yours{hint}; available: {names}", param="model"
        )

    def _view(self, entry: ModelEntry) -> ModelView:
        return ModelView(
            name=entry.name,
            owner="trainyard",
            created_at=self._started_at,
            status="off" if entry.load == "off" else "available",
            backend=entry.backend,
            capabilities=entry.capabilities,
            aliases=entry.aliases,
            root=entry.name,
            step=None,
            is_default=entry.name == self._models.default_model,
        )

    def _view_run(self, run: AdapterModel) -> ModelView:
        base = self._models.entry(run.base_model)
        return ModelView(
            name=run.name,
            owner=run.owner.split("/", 1)[-1],
            created_at=run.created_at,
            status="off" if base.load == "off" else "available",
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
