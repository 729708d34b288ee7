"""OpenAI's `/v1/embeddings`."""

import base64
from collections.abc import Sequence

import msgspec
import numpy as np

from trainyard.core import errors
from trainyard.core.http import leaving
from trainyard.core.http.hot import HotRoute, Reply, Request, Stream, hot_route
from trainyard.core.idempotency import Ticket
from trainyard.core.principal import Principal
from trainyard.serving.routes import answering, openai_asks
from trainyard.serving.routes.native import RAISED
from trainyard.serving.service import ServingService
from trainyard.serving.types import EmbedAsk
from trainyard.serving.types.openai_embeddings import (
    MAX_INPUTS,
    Embedding,
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingUsage,
)

_encode = msgspec.json.Encoder().encode


def hot(service: ServingService) -> HotRoute:
    """Make the route."""

    async def embeddings(request: Request, body: EmbeddingRequest, principal: Principal) -> Reply | Stream:
        ask = _ask(body)

        async def make(ticket: Ticket | None) -> Reply:
            call = answering.make_call(request, principal, is_stream=False, cache=None)
            made = await leaving.while_connected(request, service.embed(call, ask))
            try:
                content = _encode(_answer(body, made.model, made.vectors.vectors, made.vectors.prompt_tokens))
                await answering.settled(made, content, ticket)
            except BaseException:
                await made.fail()  # changes nothing when it was paid for
                raise
            return Reply(content, lines=made.lines)

        return await answering.once(service, request, principal, body, make)

    return hot_route(
        "/v1/embeddings",
        embeddings,
        request_type=EmbeddingRequest,
        response_type=EmbeddingResponse,
        scope="generate",
        raises=RAISED,
        dialect="openai",
        summary="Turn texts into vectors",
    )


def _ask(body: EmbeddingRequest) -> EmbedAsk:
    inputs = openai_asks.prompts(body.input, "input")
    if len(inputs) > MAX_INPUTS:
        raise errors.InvalidRequest(f"input has {len(inputs)} texts; at most {MAX_INPUTS} go at once", param="input")
    return EmbedAsk(model=body.model, inputs=inputs, param="input", dimensions=body.dimensions, end_user=body.user)


def _answer(body: EmbeddingRequest, model: str, vectors: Sequence[Sequence[float]], tokens: int) -> EmbeddingResponse:
    is_packed = body.encoding_format == "base64"
    return EmbeddingResponse(
        data=[
            Embedding(index=index, embedding=_packed(vector) if is_packed else list(vector))
            for index, vector in enumerate(vectors)
        ],
        model=model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _packed(vector: Sequence[float]) -> str:
    """Write numbers as OpenAI's client asks for them: little-endian float32 in base64."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
