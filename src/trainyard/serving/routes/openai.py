"""OpenAI's `/v1/chat/completions` and `/v1/completions`, whole or as server-sent events."""

from collections.abc import Sequence

from trainyard.core import errors
from trainyard.core.http.hot import HotRoute, Reply, Request, Stream, hot_route
from trainyard.core.principal import Principal
from trainyard.serving.routes import answering, openai_chat, openai_text
from trainyard.serving.routes.models import router
from trainyard.serving.routes.native import RAISED
from trainyard.serving.routes.openai_head import Head
from trainyard.serving.service import ServingService
from trainyard.serving.types import Ask, Chat, ChatRequest, CompletionRequest, Prompt, fields
from trainyard.serving.types.openai import StreamOptions
from trainyard.serving.types.openai_answers import ChatChunk, ChatResponse, CompletionResponse
from trainyard.serving.work import Work

__all__ = ["hot_routes", "router"]

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for completions; chats may use what the context leaves


def hot_routes(service: ServingService) -> list[HotRoute]:
    """Make the two routes that generate; `router` has `/v1/models`."""

    async def chat_completions(request: Request, body: ChatRequest, principal: Principal) -> Reply | Stream:
        def head(work: Work) -> Head:
            return Head.make("chatcmpl", service.clock, work, body.stream_options)

        return await answering.answer(
            service,
            request,
            principal,
            body,
            _ask_chat(body),
            whole=lambda work, choices: openai_chat.response(head(work), work, choices),
            writer=(lambda work: openai_chat.ChunkWriter(head(work), work)) if body.stream else None,
            dialect="openai",
        )

    async def completions(request: Request, body: CompletionRequest, principal: Principal) -> Reply | Stream:
        def head(work: Work) -> Head:
            return Head.make("cmpl", service.clock, work, body.stream_options)

        return await answering.answer(
            service,
            request,
            principal,
            body,
            _ask_completion(body),
            whole=lambda work, choices: openai_text.response(head(work), work, choices),
            writer=(lambda work: openai_text.ChunkWriter(head(work), work)) if body.stream else None,
            dialect="openai",
        )

    return [
        hot_route(
            "/v1/chat/completions",
            chat_completions,
            request_type=ChatRequest,
            response_type=ChatResponse,
            event_type=ChatChunk,
            scope="generate",
            raises=RAISED,
            dialect="openai",
            summary="Answer a chat; with `stream` as server-sent events",
        ),
        hot_route(
            "/v1/completions",
            completions,
            request_type=CompletionRequest,
            response_type=CompletionResponse,
            event_type=CompletionResponse,
            scope="generate",
            raises=RAISED,
            dialect="openai",
            summary="Continue a prompt; with `stream` as server-sent events",
        ),
    ]


def _ask_chat(body: ChatRequest) -> Ask:
    _check_stream_options(body.stream, body.stream_options)
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise errors.InvalidRequest(
            "max_tokens and max_completion_tokens differ; send one of them", param="max_completion_tokens"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise errors.InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    return Ask(
        model=body.model,
        prompts=[Chat([message.as_turn() for message in body.messages])],
        param="messages",
        n=body.n or 1,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        default_max_tokens=1_000_000,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or 1.0,
        top_k=body.top_k or 0,
        stop=fields.stop_tuple(body.stop),
        seed=body.seed,
        logprobs=(body.top_logprobs or 0) if body.logprobs else -1,
        end_user=body.user,
    )


def _ask_completion(body: CompletionRequest) -> Ask:
    _check_stream_options(body.stream, body.stream_options)
    if body.echo:
        raise errors.InvalidRequest("echo is not available; put the prompt before the answer yourself", param="echo")
    return Ask(
        model=body.model,
        prompts=_prompts(body.prompt),
        param="prompt",
        n=body.n or 1,
        max_tokens=body.max_tokens,
        default_max_tokens=COMPLETION_MAX_TOKENS,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or 1.0,
        top_k=body.top_k or 0,
        stop=fields.stop_tuple(body.stop),
        seed=body.seed,
        logprobs=-1 if body.logprobs is None else body.logprobs,
        end_user=body.user,
    )


def _check_stream_options(stream: bool | None, options: StreamOptions | None) -> None:
    if options is not None and not stream:
        raise errors.InvalidRequest("stream_options needs stream: true", param="stream_options")


def _prompts(prompt: str | Sequence[str | int | list[int]]) -> list[Prompt]:
    if isinstance(prompt, str):
        return [prompt]
    ids = [one for one in prompt if isinstance(one, int)]
    if len(ids) == len(prompt):
        return [ids]
    several: list[Prompt] = [one for one in prompt if not isinstance(one, int)]
    if len(several) < len(prompt) or len({type(one) for one in several}) > 1:
        raise errors.InvalidRequest(
            "prompt must be a text, a list of texts, a list of token ids, or a list of such lists; not a mixture",
            param="prompt",
        )
    if not all(several):
        raise errors.InvalidRequest("A prompt is empty; give at least one character or token id", param="prompt")
    return several
