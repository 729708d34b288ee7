"""`POST /v1/generate/batch`: several prompts, one request, one answer per prompt."""

import msgspec

from trainyard.core.http import leaving
from trainyard.core.http.hot import Reply, Request, Stream
from trainyard.core.idempotency import Ticket
from trainyard.core.principal import Principal
from trainyard.serving.batch import Answered, Batch
from trainyard.serving.call import Call
from trainyard.serving.routes import answering
from trainyard.serving.service import ServingService
from trainyard.serving.types import Ask, generate
from trainyard.serving.types.generate import BatchError, BatchRequest, BatchResponse, BatchResult

_encode = msgspec.json.Encoder().encode


async def answer(
    service: ServingService, request: Request, body: BatchRequest, principal: Principal, default_max_tokens: int
) -> Reply | Stream:
    """Answer a batch.

    Raises:
        errors.TrainyardError: As `ServingService.open_batch` and `Batch.collect`.
    """
    call = answering.make_call(request, principal, is_stream=False, cache=body.cache)
    parameters = generate.sampling(body, default_max_tokens)
    asks = [Ask(prompts=[prompt], param=f"prompts[{at}]", **parameters) for at, prompt in enumerate(body.prompts)]

    async def make(ticket: Ticket | None) -> Reply:
        batch, answered = await leaving.while_connected(request, _collect(service, call, asks))
        try:
            results = [_result(one) for one in answered]
            content = _encode(BatchResponse(model=batch.model, results=results))
            await answering.settled(batch, content, ticket)
        except BaseException:
            await batch.fail()  # changes nothing when it was paid for
            raise
        return Reply(content, lines=batch.lines)

    return await answering.once(service, request, principal, body, make)


async def _collect(service: ServingService, call: Call, asks: list[Ask]) -> tuple[Batch, list[Answered]]:
    batch = await service.open_batch(call, asks)
    return batch, await batch.collect()


def _result(one: Answered) -> BatchResult:
    if one.piece is None:
        assert one.error is not None, "answered, or failed"
        error = BatchError(code=one.error.code, message=one.error.message)
        return BatchResult(
            output="", cached=False, prompt_tokens=0, completion_tokens=0, finish_reason=None, error=error
        )
    return BatchResult(
        output=one.piece.text,
        cached=one.is_cached,
        prompt_tokens=one.usage.prompt_tokens,
        completion_tokens=one.usage.completion_tokens,
        finish_reason=one.piece.finish_reason,
    )
