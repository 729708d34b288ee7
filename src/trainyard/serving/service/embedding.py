"""Letting requests for vectors in."""

import asyncio

import structlog

from trainyard.core import errors
from trainyard.core.db.writer import Write
from trainyard.core.metering.base import Charge
from trainyard.core.metering.types import Job, Used
from trainyard.serving.call import Call
from trainyard.serving.service.parts import Parts
from trainyard.serving.types import EmbedAsk, Target, Vectors

_log = structlog.get_logger("serving")


class Embedded:
    """Vectors that are to be paid for; exactly one of `settle` and `fail` ends it.

    Attributes:
        vectors: The answer.
        model: Canonical name of the model.
    """

    def __init__(
        self, parts: Parts, call: Call, target: Target, ask: EmbedAsk, charge: Charge, vectors: Vectors
    ) -> None:
        self.vectors = vectors
        self.model = target.name
        self._parts, self._call, self._target, self._ask, self._charge = parts, call, target, ask, charge

    @property
    def lines(self) -> bytes:
        """Of the answer: where the caller stands with his limits."""
        return self._charge.lines

    async def settle(self, *also: Write) -> None:
        """Pay, in one transaction with what else has to be durable before the answer goes out.

        Raises:
            errors.Unavailable: It could be written nowhere; nothing was charged, and the answer must not go out.
        """
        tokens = self.vectors.prompt_tokens
        try:
            await self._charge.settle(Used(prompt_tokens=tokens, completion_tokens=0), *also)
        except errors.TrainyardError:
            await self._charge.refund()
            raise
        self._parts.metrics.requests.of(self._target.base_model, "done").inc()
        self._parts.metrics.tokens.of(self._target.base_model, "prompt").inc(tokens)
        self._call.note(model=self.model, outcome="done", prompt_tokens=tokens)
        if self._ask.end_user:
            self._call.note(end_user=self._ask.end_user)

    async def fail(self) -> None:
        """End it without pay; changes nothing when it was paid for."""
        await self._charge.refund()


async def embed(
    parts: Parts, call: Call, target: Target, ask: EmbedAsk, timeout_s: float, limit: asyncio.Timeout
) -> Embedded:
    """Let a request in and compute its vectors; who leaves meanwhile pays, since what computes them goes on.

    Args:
        parts: What does the work, and lets in.
        call: Its circumstances.
        target: The model.
        ask: The texts.
        timeout_s: For the work.
        limit: Around this call; when it is over, that is an error, and the caller has not left.

    Raises:
        errors.TrainyardError: As `TextBackend.count`, `Meter.open` and `TextBackend.embed`; nobody pays, then.
    """
    began_s = parts.clock.monotonic()
    tokens = await parts.backend.count(target, ask)
    job = Job(
        route=call.route,
        model=target.name,
        request_id=call.request_id,
        prompt_tokens=tokens,
        max_completion_tokens=0,
        prices=target.prices,
        began_s=began_s,
    )
    charge = await parts.meter.open(call.principal, job)
    try:
        vectors = await parts.backend.embed(target, ask, timeout_s)
    except asyncio.CancelledError:
        if limit.expired():
            await charge.refund()
        else:
            await _leave(charge, call, tokens)
        raise
    except BaseException as error:
        await charge.refund()
        if isinstance(error, errors.TrainyardError):
            parts.metrics.requests.of(target.base_model, "failed").inc()
        raise
    return Embedded(parts, call, target, ask, charge, vectors)


async def _leave(charge: Charge, call: Call, tokens: int) -> None:
    try:
        await charge.settle(Used(prompt_tokens=tokens, completion_tokens=0, outcome="cancelled"))
    except errors.Unavailable as error:  # there is nobody to be told
        _log.warning("not_charged", request_id=call.request_id, reason=error.message)
