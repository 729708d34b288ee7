"""Putting the HTTP edge together around the routes of the capabilities."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Lifespan

from trainyard.core import errors
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.db import Database
from trainyard.core.http import edge, health, middleware
from trainyard.core.http.auth import KeyChecker, RequireKey
from trainyard.core.http.dialects import Dialect
from trainyard.core.http.drain import Drain, DrainGate
from trainyard.core.http.health import Readiness
from trainyard.core.http.hot import HotRoute, openapi_parts
from trainyard.core.http.routing import DialectMap
from trainyard.core.keys import APIKeyManager
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics
from trainyard.core.version import VERSION

_DESCRIPTION = "Train LoRA adapters and serve them. Send a key: `Authorization: Bearer sk-…` or `X-API-Key: sk-…`."


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What the edge needs of the core; the last four have defaults of their own per server."""

    database: Database
    keys: APIKeyManager
    metrics: Metrics = field(default_factory=Metrics)
    readiness: Readiness = field(default_factory=Readiness)
    drain: Drain = field(default_factory=Drain)
    clock: Clock = field(default_factory=SystemClock)


def build_http(
    settings: Settings,
    parts: HttpParts,
    *,
    routers: Sequence[tuple[APIRouter, Dialect]] = (),
    hot_routes: Sequence[HotRoute] = (),
    shown_config: Callable[[], Mapping[str, object]] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """Build the ASGI application.

    Every request passes, from the outside in: id, log and metrics, security headers, the error edge, drain, key, body
    limit, routing. The readiness of the database is registered here; others register theirs on `parts.readiness`.

    Args:
        settings: `server` is read here, and what `/health` shows.
        parts: The core.
        routers: FastAPI routers with their own `prefix`, each with the dialect of its errors.
        hot_routes: Routes made by `hot.hot_route`.
        shown_config: Further entries for `config` of `/health`.
        lifespan: What begins and ends with the server; times of last use of keys are written after it.
    """
    dialect_map = DialectMap()
    app = FastAPI(
        title="trainyard",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=_flushing(parts, lifespan),
        middleware=_stack(settings, parts, dialect_map),
        exception_handlers={HTTPException: edge.on_framework_error, RequestValidationError: edge.on_framework_error},
        redirect_slashes=False,
        strict_content_type=False,  # curl sends JSON as a form unless told otherwise; the body decides
    )
    app.state.dialect_map = dialect_map
    app.state.key_checker = KeyChecker(parts.keys, parts.database)
    parts.readiness.register("database", parts.database.ping)
    more = shown_config or dict
    shown = health.router(parts.readiness, parts.drain, parts.metrics, lambda: {**_config(settings, parts), **more()})
    for router, dialect in ((shown, "native"), *routers):
        app.include_router(router)
        dialect_map.add([route.path for route in router.routes if isinstance(route, APIRoute)], dialect)
    app.router.routes[:0] = hot_routes  # found first
    for route in hot_routes:
        dialect_map.add([route.path], route.dialect)
    _document(app, hot_routes)
    return app


def _flushing(parts: HttpParts, inner: Lifespan[FastAPI] | None) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with inner(app) if inner else nullcontext() as state:
            yield state
        await parts.database.call(parts.keys.flush)

    return lifespan


def _stack(settings: Settings, parts: HttpParts, dialect_map: DialectMap) -> list[Middleware]:
    return [
        Middleware(middleware.RequestId),
        Middleware(middleware.AccessLog, metrics=parts.metrics, clock=parts.clock),
        Middleware(middleware.SecurityHeaders),
        Middleware(edge.ErrorEdge, dialect_map=dialect_map),
        Middleware(DrainGate, drain=parts.drain),
        Middleware(RequireKey, checker=KeyChecker(parts.keys, parts.database)),
        Middleware(middleware.BodyLimit, max_body_bytes=settings.server.max_body_bytes),
    ]


def _config(settings: Settings, parts: HttpParts) -> dict[str, object]:
    return {
        "database": parts.database.kind,
        "device": settings.engine.device,
        "max_body_bytes": settings.server.max_body_bytes,
        "max_live_runs_per_user": settings.training.max_live_runs_per_user,
    }


def _document(app: FastAPI, hot_routes: Sequence[HotRoute]) -> None:
    """Merge the hot routes into the document that FastAPI makes of its own."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            paths, schemas = openapi_parts(hot_routes)
            components = document.setdefault("components", {})
            known = components.setdefault("schemas", {})
            twice = sorted(set(known) & set(schemas))
            if twice:
                raise errors.TrainyardError(f"two types of the interface are named {twice[0]}; rename one")
            document["paths"].update(paths)
            known.update(schemas)
            components.setdefault("securitySchemes", {}).update(_SECURITY_SCHEMES)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


_SECURITY_SCHEMES = {
    "HTTPBearer": {"type": "http", "scheme": "bearer"},
    "APIKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
