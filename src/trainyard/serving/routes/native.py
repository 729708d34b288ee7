"""The native routes: `/v1/generate`, `/v1/generate/batch`, and `/v1/stream`, piece by piece."""

from collections.abc import Sequence
from functools import partial

from trainyard.core import errors
from trainyard.core.http.hot import HotRoute, Reply, Request, Stream, hot_route
from trainyard.core.principal import Principal
from trainyard.serving.routes import answering, native_batch, sse
from trainyard.serving.service import ServingService
from trainyard.serving.types import Ask, Choice, GenerateRequest, GenerateResponse, Piece, generate
from trainyard.serving.types.generate import BatchRequest, BatchResponse, StreamEvent
from trainyard.serving.work import Work

DEFAULT_MAX_NEW_TOKENS = 256

RAISED = (
    errors.UnknownModel,
    errors.Conflict,
    errors.LimitReached,
    errors.QuotaExhausted,
    errors.UpstreamFailed,
    errors.DeadlineExceeded,
)
"""What every route that generates can answer."""


def hot_routes(service: ServingService) -> list[HotRoute]:
    """Make the routes."""
    return [_generate(service), _batch(service), _stream(service)]


def _generate(service: ServingService) -> HotRoute:
    async def generate_text(request: Request, body: GenerateRequest, principal: Principal) -> Reply | Stream:
        return await answering.answer(
            service,
            request,
            principal,
            body,
            ask(body),
            whole=_whole,
            writer=None,
            dialect="native",
            cache=body.cache,
        )

    return hot_route(
        "/v1/generate",
        generate_text,
        request_type=GenerateRequest,
        response_type=GenerateResponse,
        scope="generate",
        raises=RAISED,
        caches=True,
        dialect="native",
        summary="Continue a prompt",
        again=partial(answering.again, service),
    )


def _batch(service: ServingService) -> HotRoute:
    async def generate_batch(request: Request, body: BatchRequest, principal: Principal) -> Reply | Stream:
        return await native_batch.answer(service, request, body, principal, DEFAULT_MAX_NEW_TOKENS)

    return hot_route(
        "/v1/generate/batch",
        generate_batch,
        request_type=BatchRequest,
        response_type=BatchResponse,
        scope="generate",
        raises=RAISED,
        caches=True,
        dialect="native",
        summary="Continue several prompts",
    )


def _stream(service: ServingService) -> HotRoute:
    async def stream_text(request: Request, body: GenerateRequest, principal: Principal) -> Reply | Stream:
        return await answering.answer(
            service,
            request,
            principal,
            body,
            ask(body),
            whole=_whole,
            writer=EventWriter,
            dialect="native",
            cache=body.cache,
        )

    return hot_route(
        "/v1/stream",
        stream_text,
        request_type=GenerateRequest,
        response_type=StreamEvent,
        event_type=StreamEvent,
        scope="generate",
        raises=RAISED,
        caches=True,
        dialect="native",
        summary="Continue a prompt piece by piece, as server-sent events",
    )


def ask(body: GenerateRequest) -> Ask:
    """Bring a body into the words of the service.

    Raises:
        errors.InvalidRequest: Fields exclude each other.
    """
    return Ask(prompts=[body.prompt], param="prompt", **generate.sampling(body, DEFAULT_MAX_NEW_TOKENS))


class EventWriter:
    """Writes the events of `/v1/stream`: text, at the end why and how much."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def write(self, index: int, piece: Piece) -> bytes:
        """Write what is new."""
        if piece.finish_reason is None:
            return sse.data(StreamEvent(text=piece.text)) if piece.text else b""
        return sse.data(StreamEvent(text=piece.text, finish_reason=piece.finish_reason))

    def end(self) -> bytes:
        """Write the counts."""
        usage = self._work.usage
        return sse.data(
            StreamEvent(
                model=self._work.model,
                cached=self._work.is_cached,
                usage=generate.StreamUsage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
            )
        )


def _whole(work: Work, choices: Sequence[Choice]) -> GenerateResponse:
    return GenerateResponse(model=work.model, output=choices[0].piece.text, cached=work.is_cached)
