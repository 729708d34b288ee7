"""Text from the weights of a run, at once or token by token."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.engine import generation
from trainyard.engine.base import Engine
from trainyard.engine.tokenizer import Tokenizer, beside_loop
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Sessions
from trainyard.training.store import RunRecord
from trainyard.training.types import RunState, SampleRequest, SampleResponse, StreamRequest, TokenChunk
from trainyard.training.types.config import MAX_SEED

_CALLABLE = (RunState.ACTIVE, RunState.PAUSED, RunState.COMPLETED)


class Sampling:
    """Samples from live weights: a request uses those of the moment it is admitted, to its end."""

    def __init__(self, parts: Parts, sessions: Sessions) -> None:
        self._parts = parts
        self._sessions = sessions

    async def sample(self, principal: Principal, run_id: str, request: SampleRequest) -> SampleResponse:
        """Continue every prompt, all at once in the engine.

        Raises:
            errors.InvalidRequest: A prompt and its answer do not fit the model's context.
            errors.Conflict: The run never became active, code `run_not_active`.
            errors.Unavailable: The engine is away.
        """
        record, tokenizer = await self._prepare(principal, run_id)
        prompts = {f"prompts[{index}]": prompt for index, prompt in enumerate(request.prompts)}
        wanted = await self._requests(record, tokenizer, request, prompts, with_logprobs=request.return_logprobs)

        async def collect(one: generation.TextRequest) -> generation.TextPiece:
            return await self._sessions.call(record, lambda engine: generation.collect_text(engine, tokenizer, one))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(collect(one)) for one in wanted]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # they share one cause; the others were cancelled
        return _response([task.result() for task in tasks], tokenizer, with_logprobs=request.return_logprobs)

    async def stream(self, principal: Principal, run_id: str, request: StreamRequest) -> AsyncIterator[TokenChunk]:
        """Continue one prompt; the first token is drawn before this returns, so that errors come as errors.

        Closing the iterator cancels in the engine.

        Raises:
            As `sample`; the iterator raises errors.Unavailable when the engine dies.
        """
        record, tokenizer = await self._prepare(principal, run_id)
        prompts = {"prompt": request.prompt}
        (wanted,) = await self._requests(record, tokenizer, request, prompts, with_logprobs=True)

        async def start(engine: Engine) -> tuple[generation.TextPiece, AsyncGenerator[generation.TextPiece, None]]:
            pieces = generation.stream_text(engine, tokenizer, wanted)
            return await anext(pieces), pieces

        first, rest = await self._sessions.call(record, start)
        return _chunks(first, rest)

    async def _prepare(self, principal: Principal, run_id: str) -> tuple[RunRecord, Tokenizer]:
        record = await callable_run(self._sessions, principal, run_id)
        return record, await self._parts.tokenizers.load(record.base_model)

    async def _requests(
        self,
        record: RunRecord,
        tokenizer: Tokenizer,
        request: SampleRequest | StreamRequest,
        prompts: Mapping[str, str],
        *,
        with_logprobs: bool,
    ) -> list[generation.TextRequest]:
        """Say to the engine what is wanted; `prompts` goes from the name of the field to its text."""
        context = (await (await self._parts.engines.get(record.base_model)).info()).max_positions
        encoded = await beside_loop(
            sum(map(len, prompts.values())), lambda: [tokenizer.encode(text) for text in prompts.values()]
        )
        return [
            generation.TextRequest(
                prompt_ids=ids,
                max_tokens=_max_tokens(request, len(ids), param, context, record.base_model),
                temperature=request.temperature,
                top_p=request.top_p,
                seed=None if request.seed is None else (request.seed + index) % (MAX_SEED + 1),
                logprobs=0 if with_logprobs else -1,
                run_id=record.run_id,
            )
            for index, (param, ids) in enumerate(zip(prompts, encoded, strict=True))
        ]


async def callable_run(sessions: Sessions, principal: Principal, run_id: str) -> RunRecord:
    """Find a run whose weights can be used.

    Raises:
        errors.Conflict: The run never became active, code `run_not_active`.
    """
    record = await sessions.find(principal, run_id)
    if record.status not in _CALLABLE:
        raise errors.Conflict(
            f"{run_id} is {record.status} and has no weights to sample from; create a new run",
            code="run_not_active",
            data={"status": str(record.status)},
        )
    return record


def _max_tokens(
    request: SampleRequest | StreamRequest, prompt_tokens: int, param: str, context: int, base_model: str
) -> int:
    room = context - prompt_tokens
    asked = request.max_tokens if "max_tokens" in request.model_fields_set else min(request.max_tokens, room)
    if prompt_tokens < 1 or asked < 1 or asked > room:
        raise errors.InvalidRequest(
            f"{param} has {prompt_tokens} tokens and max_tokens is {request.max_tokens}; together they may be "
            f"{context}, the context of {base_model}, with at least one each",
            code="context_length_exceeded",
            param=param,
            data={"prompt_tokens": prompt_tokens, "max_tokens": request.max_tokens, "context": context},
        )
    return asked


def _response(pieces: list[generation.TextPiece], tokenizer: Tokenizer, *, with_logprobs: bool) -> SampleResponse:
    return SampleResponse(
        outputs=[piece.text for piece in pieces],
        token_ids=[piece.token_ids for piece in pieces],
        tokens=[tokenizer.tokens(piece.token_ids) for piece in pieces],
        logprobs=[piece.logprobs for piece in pieces] if with_logprobs else None,
        finish_reasons=[str(piece.finish_reason) for piece in pieces],
        weights_versions=[piece.weights_version for piece in pieces],
    )


async def _chunks(
    first: generation.TextPiece, rest: AsyncGenerator[generation.TextPiece, None]
) -> AsyncGenerator[TokenChunk, None]:
    async with aclosing(rest):
        for chunk in _events(first):
            yield chunk
        async for piece in rest:
            for chunk in _events(piece):
                yield chunk


def _events(piece: generation.TextPiece) -> list[TokenChunk]:
    """Give one event per token; text that became certain with several tokens stands on the last of them."""
    is_finished = piece.finish_reason is not None
    if not piece.tokens:
        return [TokenChunk(token=piece.text, token_id=None, logprob=None, is_finished=is_finished)]
    last = len(piece.tokens) - 1
    return [
        TokenChunk(
            token=piece.text if index == last else "",
            token_id=token.token_id,
            logprob=None if math.isnan(token.logprob) else token.logprob,
            is_finished=is_finished and index == last,
        )
        for index, token in enumerate(piece.tokens)
    ]
