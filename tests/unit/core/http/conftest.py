"""A small application with a route of every kind, and keys for it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.testclient import TestClient

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http import auth, error_bodies, hot
from trainyard.core.http import tls as tls_module
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.keys import APIKeyManager
from trainyard.core.principal import Principal
from trainyard.core.settings import ServerSettings, Settings

Trainer = Annotated[Principal, Depends(auth.principal("train"))]

ERRORS: dict[str, Exception] = {
    "model": errors.UnknownModel("no such model", param="model"),
    "missing": errors.NotFound("no such run"),
    "foreign": errors.Forbidden("not yours"),
    "conflict": errors.Conflict("nothing to apply", code="no_gradients", data={"step": 3}),
    "limit": errors.LimitReached("five runs", retry_after_s=0.2),
    "away": errors.Unavailable("restarting", code="engine_restarting", retry_after_s=2.5),
    "slow": TimeoutError(),
    "bug": KeyError("sk-" + "a" * 43),
    "http": HTTPException(418, "teapot"),
    "http500": HTTPException(500, "inside"),
    "group": ExceptionGroup("tasks", [errors.NotFound("in a task")]),
    "groups": ExceptionGroup("tasks", [errors.NotFound("one"), errors.NotFound("two")]),
    "surrogate": UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    "detail": errors.InvalidRequest("bad", param="x", data={"errors": [{"loc": ["body", "x"], "msg": "bad"}]}),
}


class RunBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rank: int = Field(ge=1, le=8)
    note: str | None = None
    parts: list[dict[str, int]] = []


class ChatBody(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    n: Annotated[int, msgspec.Meta(ge=1, le=4)] = 1
    stops: list[Annotated[str, msgspec.Meta(max_length=3)]] = []
    stream: bool = False


class LimitedBody(msgspec.Struct):
    prompt: str


class ChatAnswer(msgspec.Struct):
    output: str


class ChatEvent(msgspec.Struct):
    piece: str


def _signal() -> APIRouter:
    routes = APIRouter(prefix="/runs", tags=["training"])

    @routes.post("")
    async def create(body: RunBody, who: Trainer) -> dict[str, Any]:
        return {"rank": body.rank, "user": who.user}

    @routes.get("/{run_id}/fail/{kind}")
    async def fail(run_id: str, kind: str, who: Trainer) -> None:
        raise ERRORS[kind]

    @routes.get("/{run_id}/stream")
    async def stream(run_id: str, who: Trainer) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "one"
            raise RuntimeError("broken in the middle")

        return StreamingResponse(pieces())

    @routes.post("/{run_id}/raw", responses=error_bodies.responses("signal", errors.Conflict))
    async def raw(run_id: str, request: Request, who: Trainer) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    return routes


def _native() -> APIRouter:
    routes = APIRouter(prefix="/v1/things")

    @routes.get("/fail/{kind}")
    async def fail(kind: str, who: Annotated[Principal, Depends(auth.principal("generate"))]) -> None:
        raise ERRORS[kind]

    return routes


async def chat(request: hot.Request, body: ChatBody, who: Principal) -> ChatAnswer | Response:
    if body.prompt in ERRORS:
        raise ERRORS[body.prompt]
    if body.prompt == "plain":
        return Response("plain", media_type="text/plain")
    await asyncio.sleep(0)
    return ChatAnswer(output=body.prompt * body.n)


async def limited(request: hot.Request, body: LimitedBody, who: Principal) -> hot.Reply:
    return hot.Reply(ChatEvent(piece=body.prompt))


@pytest.fixture
def parts(database: Database, clock: FakeClock) -> HttpParts:
    return HttpParts(database, APIKeyManager(database, b"p" * 32, clock), clock=clock)


@pytest.fixture
def signal_router() -> APIRouter:
    return _signal()


@pytest.fixture
def app(parts: HttpParts) -> FastAPI:
    completions = hot.hot_route(
        "/v1/chat/completions",
        chat,
        request_type=ChatBody,
        response_type=ChatAnswer,
        event_type=ChatEvent,
        raises=[errors.UnknownModel],
        scope="generate",
        dialect="openai",
        summary="Chat",
    )
    metered = hot.hot_route(
        "/v1/limited",
        limited,
        request_type=LimitedBody,
        response_type=ChatEvent,
        event_type=ChatEvent,
        raises=[errors.Conflict, errors.LimitReached, errors.QuotaExhausted],
        caches=True,
        scope="generate",
        dialect="native",
        summary="Chat under limits",
    )
    return build_http(
        Settings(server={"max_body_bytes": 2048}),  # type: ignore[arg-type]
        parts,
        routers=[(_signal(), "signal"), (_native(), "native")],
        hot_routes=[completions, metered],
        shown_config=lambda: {"models": 1},
    )


@pytest.fixture
def stranger(app: FastAPI) -> Iterator[TestClient]:
    """A client without a key."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(app: FastAPI, parts: HttpParts) -> Iterator[TestClient]:
    """A client whose key has every scope."""
    headers = {"Authorization": f"Bearer {parts.keys.generate_key('ada')}"}
    with TestClient(app, raise_server_exceptions=False, headers=headers) as client:
        yield client


@dataclass(frozen=True)
class Tls:
    """Both sides of a connection of which a self-signed certificate is believed."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def self_signed_tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    own = Settings(data_dir=tmp_path_factory.mktemp("data"), server=ServerSettings(tls_self_signed=True))
    certificate, server = tls_module.prepare(own), tls_module.context(own)
    assert server is not None
    return Tls(server, ssl.create_default_context(cafile=certificate))


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest) -> Tls | None:
    """Whether connections are encrypted."""
    return request.getfixturevalue("self_signed_tls") if request.param == "https" else None
