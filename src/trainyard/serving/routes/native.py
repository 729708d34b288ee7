"""`POST /v1/generate`: a prompt in, `{model, output, cached}` out."""

from starlette.requests import Request

from trainyard.core import errors
from trainyard.core.http.hot import HotRoute, hot_route
from trainyard.core.http.leaving import while_connected
from trainyard.core.principal import Principal
from trainyard.serving.service import ServingService
from trainyard.serving.types import Ask, GenerateRequest, GenerateResponse, fields

DEFAULT_MAX_NEW_TOKENS = 256

RAISED = (errors.UnknownModel, errors.DeadlineExceeded)
"""What every route that generates can answer."""


def hot_routes(service: ServingService) -> list[HotRoute]:
    """Make the route."""

    async def generate(request: Request, body: GenerateRequest, principal: Principal) -> GenerateResponse:
        work = await service.prepare(principal, _ask(body))
        choices = await while_connected(request, work.collect())
        return GenerateResponse(model=work.target.name, output=choices[0].piece.text, cached=False)

    return [
        hot_route(
            "/v1/generate",
            generate,
            request_type=GenerateRequest,
            response_type=GenerateResponse,
            scope="generate",
            raises=RAISED,
            dialect="native",
            summary="Continue a prompt",
        )
    ]


def _ask(body: GenerateRequest) -> Ask:
    return Ask(
        model=body.model,
        prompts=[body.prompt],
        param="prompt",
        max_tokens=body.max_new_tokens,
        default_max_tokens=DEFAULT_MAX_NEW_TOKENS,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or 1.0,
        top_k=body.top_k or 0,
        stop=fields.stop_tuple(body.stop),
        seed=body.seed,
    )
