"""The use cases of serving: which models there are, and text from one of them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import Clock
from trainyard.core.idempotency import Idempotency
from trainyard.core.metering.base import Meter
from trainyard.core.ports.adapters import AdapterCatalog
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics
from trainyard.engine.base import Engines
from trainyard.serving import deadline
from trainyard.serving.backends.base import TextBackend
from trainyard.serving.batch import Batch
from trainyard.serving.cache.answers import Answers
from trainyard.serving.call import Call
from trainyard.serving.meters import GenerationMetrics
from trainyard.serving.service import embedding
from trainyard.serving.service.batching import Batching
from trainyard.serving.service.embedding import Embedded
from trainyard.serving.service.models import Models
from trainyard.serving.service.opening import Opening
from trainyard.serving.service.parts import Parts, Request
from trainyard.serving.service.repeating import Repeating
from trainyard.serving.service.revisions import Revisions
from trainyard.serving.types import Ask, EmbedAsk, ModelView, Target, fields
from trainyard.serving.work import Work

__all__ = ["TIMEOUT_S", "ServingService"]

TIMEOUT_S = 600.0


def _always_up(_model: str) -> bool:
    return True


class ServingService:
    """Finds models for their callers and lets requests in.

    Attributes:
        backend: Does the work of every model.
        meter: Lets requests in.
        clock: The server's.
        idempotency: Remembers requests that may be sent again, if anything does.
        repeating: Answers hits that come again.

    Args:
        models: The catalog.
        backend: Does the work of every model.
        engines: Those of local models; tell versions of live runs apart.
        adapters: Trained runs that are models too.
        meter: Lets requests in by the limits of their callers, and writes down what they used.
        clock: For deadlines and the age of the catalog.
        answers: The cache; None = nothing is kept.
        idempotency: Remembers requests that may be sent again; None = such requests are refused.
        metrics: Where requests and tokens are counted.
        timeout_s: Longest time for one request, from its arrival to its last token.
        share_prefixes: `all` lets prompts of all tenants share computed beginnings; `tenant` those of one.
        is_up: Whether what does the work of a model answers, by its name.
    """

    def __init__(
        self,
        models: ModelRegistry,
        backend: TextBackend,
        engines: Engines,
        adapters: AdapterCatalog,
        meter: Meter,
        clock: Clock,
        *,
        answers: Answers | None = None,
        idempotency: Idempotency | None = None,
        metrics: Metrics | None = None,
        timeout_s: float = TIMEOUT_S,
        share_prefixes: Literal["tenant", "all"] = "tenant",
        is_up: Callable[[str], bool] = _always_up,
    ) -> None:
        self.clock = clock
        self.idempotency = idempotency
        self._answers = answers
        self._timeout_s = timeout_s
        self.backend = backend
        self.meter = meter
        self._models = Models(
            models,
            adapters,
            Revisions(engines),
            started_at=clock.now(),
            timeout_s=timeout_s,
            share_prefixes=share_prefixes,
            is_up=is_up,
        )
        parts = Parts(backend, meter, answers, clock, GenerationMetrics(metrics or Metrics()))
        self._parts = parts
        self.repeating = Repeating(parts, self._models)
        self._opening = Opening(parts)
        self._batching = Batching(parts)

    async def start(self) -> None:
        """Begin what runs in the background; before the first request."""
        if self._answers is not None:
            await self._answers.start()

    async def aclose(self) -> None:
        """Write what waits, and end; after the last request."""
        if self._answers is not None:
            await self._answers.aclose()
        if self.idempotency is not None:
            await self.idempotency.aclose()

    async def open(self, call: Call, ask: Ask) -> Work:
        """Find the model and let the request in; whoever calls this has to end the work.

        Raises:
            errors.UnknownModel: The caller has no model of that name; the message lists his.
            errors.InvalidRequest: The model is off (`model_off`), too many answers are asked for, a prompt does not fit
                (`context_length_exceeded`), or the model cannot do it (`unsupported_parameter`).
            errors.LimitReached: A limit of the caller's key or tenant is reached.
            errors.QuotaExhausted: A quota of them is used up.
            errors.Unavailable: The model is not up.
            errors.DeadlineExceeded: It did not come up in time.
        """
        began_s = self.clock.monotonic()
        if len(ask.prompts) * ask.n > fields.MAX_STREAMS:
            raise errors.InvalidRequest(
                f"{len(ask.prompts)} prompts x n = {ask.n} is more than {fields.MAX_STREAMS} answers at once", param="n"
            )
        try:
            return await deadline.within(self._timeout_s, self._open(call, ask, began_s))
        except TimeoutError as error:
            raise _not_up() from error

    async def open_batch(self, call: Call, asks: Sequence[Ask]) -> Batch:
        """Find the model and let several prompts in, all or none; whoever calls this has to end the batch.

        Args:
            call: The circumstances.
            asks: One prompt and one answer each, all to the same model.

        Raises:
            errors.TrainyardError: As `open`.
        """
        began_s = self.clock.monotonic()
        try:
            return await deadline.within(self._timeout_s, self._open_batch(call, asks, began_s))
        except TimeoutError as error:
            raise _not_up() from error

    async def embed(self, call: Call, ask: EmbedAsk) -> Embedded:
        """Find the model, let the request in and compute its vectors; whoever calls this has to end the work.

        Raises:
            errors.TrainyardError: As `open`.
        """
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                target = await self.target(call.principal, ask.model)
                return await embedding.embed(self._parts, call, target, ask, self._timeout_s, limit)
        except TimeoutError as error:
            raise errors.DeadlineExceeded("The vectors took too long; send fewer texts") from error

    async def target(self, principal: Principal, model: str | None) -> Target:
        """Find what a name means.

        Raises:
            errors.UnknownModel: As `open`.
            errors.InvalidRequest: Code `model_off`.
        """
        return await self._models.target(principal, model)

    async def list_models(self, principal: Principal) -> list[ModelView]:
        """List the catalog and the caller's own live runs, without those whose base model has left the catalog."""
        return await self._models.list(principal)

    async def show_model(self, principal: Principal, name: str) -> ModelView:
        """Describe one model by name or alias.

        Raises:
            errors.UnknownModel: The caller has no model of that name.
        """
        return await self._models.show(principal, name)

    async def _open(self, call: Call, ask: Ask, began_s: float) -> Work:
        target = await self._models.target(call.principal, ask.model)
        return await self._opening.open(Request(call, ask, target, began_s, began_s + self._timeout_s))

    async def _open_batch(self, call: Call, asks: Sequence[Ask], began_s: float) -> Batch:
        target = await self._models.target(call.principal, asks[0].model)
        request = Request(call, asks[0], target, began_s, began_s + self._timeout_s)
        return await self._batching.open(request, asks)


def _not_up() -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded("The model did not come up in time; send the request again")
