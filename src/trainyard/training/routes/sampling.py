"""`sample`, `sample/stream` and `embeddings`."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from trainyard.core import errors
from trainyard.core.http import dialects
from trainyard.core.http.leaving import while_connected
from trainyard.training import types
from trainyard.training.routes.access import NEEDS_STATE, RunId, Trainer
from trainyard.training.service import TrainingService


class TokenStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


_STREAM_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "model": types.TokenChunk,
        "description": "Server-sent events, one per token; when the engine dies the last one is a SignalError",
    },
    **NEEDS_STATE,
}


def add(routes: APIRouter, service: TrainingService) -> None:
    """Add the primitive that samples, in both forms, and the one that reads."""

    @routes.post("/runs/{run_id}/sample", tags=["primitives"], summary="Continue prompts", responses=NEEDS_STATE)
    async def sample(
        who: Trainer, run_id: RunId, request: types.SampleRequest, connection: Request
    ) -> types.SampleResponse:
        """Continue prompts with the weights of this moment; leaving cancels."""
        return await while_connected(connection, service.sampling.sample(who, run_id, request))

    @routes.post(
        "/runs/{run_id}/sample/stream",
        tags=["primitives"],
        summary="Continue a prompt, token by token",
        responses=_STREAM_ANSWER,
        response_class=TokenStream,
    )
    async def sample_stream(
        who: Trainer, run_id: RunId, request: types.StreamRequest, connection: Request
    ) -> TokenStream:
        """Send each token as it is drawn; leaving cancels."""
        chunks = await while_connected(connection, service.sampling.stream(who, run_id, request))
        events = _events(chunks, getattr(connection.state, "request_id", None))
        return TokenStream(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    @routes.post(
        "/runs/{run_id}/embeddings", tags=["primitives"], summary="Turn texts into vectors", responses=NEEDS_STATE
    )
    async def embeddings(
        who: Trainer, run_id: RunId, request: types.EmbeddingsRequest, connection: Request
    ) -> types.EmbeddingsResponse:
        """Pool the hidden states of texts under the weights of this moment; leaving cancels."""
        return await while_connected(connection, service.embedding.embeddings(who, run_id, request))


async def _events(chunks: AsyncIterator[types.TokenChunk], request_id: str | None) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield _event(chunk.model_dump())
    except errors.TrainyardError as error:
        yield _event(dialects.render(error, "signal", request_id).body)


def _event(body: object) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
