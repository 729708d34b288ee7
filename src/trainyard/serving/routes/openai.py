"""OpenAI's `/v1/chat/completions` and `/v1/completions`, whole or as server-sent events, and `/v1/embeddings`."""

from collections.abc import Awaitable
from functools import partial

from trainyard.core import errors
from trainyard.core.http.hot import HotRoute, Reply, Request, Stream, hot_route
from trainyard.core.principal import Principal
from trainyard.serving.routes import answering, openai_asks, openai_chat, openai_embeddings, openai_text
from trainyard.serving.routes.models import router
from trainyard.serving.routes.native import RAISED
from trainyard.serving.routes.openai_head import Head
from trainyard.serving.service import ServingService
from trainyard.serving.types import ChatRequest, CompletionRequest
from trainyard.serving.types.openai_answers import ChatChunk, ChatResponse, CompletionResponse
from trainyard.serving.work import Work

__all__ = ["hot_routes", "router"]


def hot_routes(service: ServingService) -> list[HotRoute]:
    """Make the routes that generate and embed; `router` has `/v1/models`."""
    return [_chat(service), _completion(service), openai_embeddings.hot(service)]


def _chat(service: ServingService) -> HotRoute:
    async def chat_completions(request: Request, body: ChatRequest, principal: Principal) -> Reply | Stream:
        def head(work: Work) -> Head:
            return Head.make("chatcmpl", service.clock, work, body.stream_options)

        made = answering.answer(
            service,
            request,
            principal,
            body,
            openai_asks.of_chat(body),
            whole=lambda work, choices: openai_chat.response(head(work), work, choices),
            writer=(lambda work: openai_chat.ChunkWriter(head(work), work)) if body.stream else None,
            dialect="openai",
        )
        return await (made if body.response_format is None else _naming_form(made))

    return hot_route(
        "/v1/chat/completions",
        chat_completions,
        request_type=ChatRequest,
        response_type=ChatResponse,
        event_type=ChatChunk,
        scope="generate",
        raises=RAISED,
        caches=True,
        dialect="openai",
        summary="Answer a chat; with `stream` as server-sent events",
        again=partial(answering.again, service),
    )


def _completion(service: ServingService) -> HotRoute:
    async def completions(request: Request, body: CompletionRequest, principal: Principal) -> Reply | Stream:
        def head(work: Work) -> Head:
            return Head.make("cmpl", service.clock, work, body.stream_options)

        return await answering.answer(
            service,
            request,
            principal,
            body,
            openai_asks.of_completion(body),
            whole=lambda work, choices: openai_text.response(head(work), work, choices),
            writer=(lambda work: openai_text.ChunkWriter(head(work), work)) if body.stream else None,
            dialect="openai",
        )

    return hot_route(
        "/v1/completions",
        completions,
        request_type=CompletionRequest,
        response_type=CompletionResponse,
        event_type=CompletionResponse,
        scope="generate",
        raises=RAISED,
        caches=True,
        dialect="openai",
        summary="Continue a prompt; with `stream` as server-sent events",
        again=partial(answering.again, service),
    )


async def _naming_form(made: Awaitable[Reply | Stream]) -> Reply | Stream:
    """Call a form of answers by the name of its field here."""
    try:
        return await made
    except errors.InvalidRequest as error:
        if error.code != "invalid_grammar":
            raise
        raise errors.InvalidRequest(error.message, code=error.code, param="response_format", data=error.data) from error
