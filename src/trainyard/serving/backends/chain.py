"""The backend in front of all backends: finds the one of a model, and asks the next model when one fails."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import structlog
from msgspec import structs

from trainyard.core import errors
from trainyard.core.catalog import ModelEntry, ModelRegistry
from trainyard.serving.backends.base import Prepared, TextBackend
from trainyard.serving.backends.remote.meters import UpstreamMetrics
from trainyard.serving.types import Ask, EmbedAsk, Piece, Target, Vectors

_log = structlog.get_logger("serving")

_FAILURES = (errors.Unavailable, errors.UpstreamFailed, errors.DeadlineExceeded)
_LEAST_TIME_S = 0.05
"""With less than this left of a request's time, nobody else is asked."""


class ChainBackend:
    """Implements `TextBackend` for every model of the catalog.

    A model with fallbacks is asked first; when it fails before anything of an answer is out, the next one is. The
    answer then names the model that gave it. A request that is at fault itself is not tried elsewhere.

    Args:
        models: The catalog, which knows the fallbacks.
        backends: By the catalog's word for them.
        metrics: Counts fallbacks.
    """

    def __init__(self, models: ModelRegistry, backends: Mapping[str, TextBackend], metrics: UpstreamMetrics) -> None:
        self._models = models
        self._backends = backends
        self._metrics = metrics

    async def prepare(self, target: Target, ask: Ask) -> Sequence[Prepared]:
        """Prepare on the model, or on the first fallback that is up."""
        rest = self._fallbacks(target)
        if not rest:
            return await self._own(target).prepare(target, ask)
        return [await self._first(target, structs.replace(ask, prompts=[prompt]), rest) for prompt in ask.prompts]

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Count for the model itself; a fallback's vectors would lie in another space."""
        return await self._own(target).count(target, ask)

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Embed with the model itself; a fallback's vectors would lie in another space."""
        return await self._own(target).embed(target, ask, timeout_s)

    async def next_up(self, target: Target, ask: Ask, rest: Sequence[ModelEntry]) -> "_Found | None":
        """Prepare the one prompt of a request on the first of some fallbacks that takes it; None when none does."""
        for at, entry in enumerate(rest):
            other = replace(target, base_model=entry.name, adapter=None)
            try:
                prepared = await self._backends[entry.backend].prepare(other, ask)
            except (*_FAILURES, errors.InvalidRequest) as error:
                _log.info("fallback refused", model=target.name, fallback=entry.name, code=error.code)
            else:
                return _Found(prepared[0], entry.name, rest[at + 1 :])
        return None

    def fell_back(self, model: str, answered_by: str, error: errors.TrainyardError) -> None:
        """Count and log that another model is asked."""
        self._metrics.fallback(model, answered_by)
        _log.warning("fallback", model=model, fallback=answered_by, code=error.code)

    async def _first(self, target: Target, ask: Ask, rest: Sequence[ModelEntry]) -> Prepared:
        try:
            return _ChainPrompt(
                self, target, ask, _Found((await self._own(target).prepare(target, ask))[0], None, rest)
            )
        except _FAILURES as error:
            found = await self.next_up(target, ask, rest)
            if found is None or found.name is None:
                raise
            self.fell_back(target.name, found.name, error)
            return _ChainPrompt(self, target, ask, found)

    def _fallbacks(self, target: Target) -> Sequence[ModelEntry]:
        """List who is asked next; a trained run has nobody who could stand in for it."""
        return self._models.chain(target.name)[1:] if self._models.is_supported(target.name) else ()

    def _own(self, target: Target) -> TextBackend:
        return self._backends[self._models.entry(target.base_model).backend]


@dataclass(frozen=True, slots=True)
class _Found:
    """Who is asked.

    Attributes:
        name: Of the fallback; None = the model itself.
        rest: Who follows.
    """

    prepared: Prepared
    name: str | None
    rest: Sequence[ModelEntry]


@dataclass(slots=True)
class _ChainPrompt:
    """Implements `Prepared` over a chain; `ask` has one prompt."""

    backend: ChainBackend
    target: Target
    ask: Ask
    first: _Found
    _drawn_by: list[Prepared] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt for the model that is asked first."""
        return self.first.prepared.prompt_tokens

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer."""
        return self.first.prepared.max_tokens

    @property
    def keeps_time(self) -> bool:
        """False: not all who may be asked do."""
        return False

    @property
    def drawn(self) -> int:
        """Tokens that all who were asked have drawn so far."""
        return sum(prepared.drawn for prepared in self._drawn_by)

    async def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Generate one answer; another model is asked only before the first piece."""
        ends_at_s, now = time.monotonic() + timeout_s, self.first
        while True:
            is_out = False
            try:
                left_s = ends_at_s - time.monotonic()
                async with aclosing(now.prepared.stream(choice, left_s)) as made:
                    async for piece in made:
                        is_out = True
                        yield _named(piece, now)
                return
            except _FAILURES as error:
                if is_out:
                    raise
                now = await self._after(error, now, ends_at_s)

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        """Generate one answer to its end."""
        ends_at_s, now = time.monotonic() + timeout_s, self.first
        while True:
            if not any(one is now.prepared for one in self._drawn_by):  # choices share what is asked first
                self._drawn_by.append(now.prepared)
            try:
                return _named(await now.prepared.collect(choice, ends_at_s - time.monotonic()), now)
            except _FAILURES as error:
                now = await self._after(error, now, ends_at_s)

    async def _after(self, error: errors.TrainyardError, now: _Found, ends_at_s: float) -> _Found:
        """Find who is asked next, or raise what happened."""
        if ends_at_s - time.monotonic() < _LEAST_TIME_S:
            raise error
        found = await self.backend.next_up(self.target, self.ask, now.rest)
        if found is None or found.name is None:
            raise error
        self.backend.fell_back(self.target.name, found.name, error)
        return found


def _named(piece: Piece, found: _Found) -> Piece:
    """Say in a piece who gave it, and what he read, since that was counted for another model."""
    if found.name is None:
        return piece
    read = found.prepared.prompt_tokens if piece.prompt_tokens is None else piece.prompt_tokens
    return structs.replace(piece, model=found.name, prompt_tokens=read)
