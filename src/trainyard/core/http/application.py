"""Putting the HTTP edge together around the routes of the capabilities."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Lifespan, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from trainyard.core.clock import Clock, SystemClock
from trainyard.core.db import Database
from trainyard.core.http import document, edge, health, middleware
from trainyard.core.http.access import AccessLines
from trainyard.core.http.auth import KeyChecker, RequireKey
from trainyard.core.http.credentials import PEER, Credentials
from trainyard.core.http.dialects import Dialect
from trainyard.core.http.door import HotDoor
from trainyard.core.http.drain import Drain, DrainGate
from trainyard.core.http.heads import AtOnce
from trainyard.core.http.health import Readiness
from trainyard.core.http.hot import HotRoute
from trainyard.core.http.middleware import BodyBar
from trainyard.core.http.routing import DialectMap
from trainyard.core.keys import APIKeyManager
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics, flush_lines
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


class Application(FastAPI):
    """FastAPI's application behind the hot door.

    Attributes:
        door: Takes every request first; None lets the routing take all of them.
    """

    door: HotDoor | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        door = self.door
        if door is not None and scope["type"] == "http":
            await door(scope, receive, send)
        else:
            await self.behind_door(scope, receive, send)

    @property
    def at_once(self) -> AtOnce | None:
        """What our side of the server asks before it makes a task for a request: `HotDoor.at_once`."""
        return None if self.door is None else self.door.at_once

    async def behind_door(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve by middlewares and routing."""
        scope[PEER] = scope.get("client")  # before headers of a proxy name another one
        await super().__call__(scope, receive, send)


def build_http(
    settings: Settings,
    parts: HttpParts,
    *,
    routers: Sequence[tuple[APIRouter, Dialect]] = (),
    hot_routes: Sequence[HotRoute] = (),
    signed_paths: Sequence[re.Pattern[str]] = (),
    code_paths: re.Pattern[str] | None = None,
    body_bars: Sequence[BodyBar] = (),
    shown_config: Callable[[], Mapping[str, object]] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> Application:
    """Build the ASGI application.

    Every request passes, from the outside in: id, log and metrics, security headers, the error edge, drain, key, body
    limit, routing; a POST on a hot route has all of this done to it by the door. The readiness of the database is
    registered here; others register theirs on `parts.readiness`.

    Args:
        settings: `server` is read here, and what `/health` shows.
        parts: The core.
        routers: FastAPI routers with their own `prefix`, each with the dialect of its errors.
        hot_routes: Routes made by `hot.hot_route`.
        signed_paths: Paths whose routes take a signature in the query in place of a key.
        code_paths: Matches the paths of the code interpreter, whose callers are known by more than keys in headers.
        body_bars: Paths whose bodies may be larger than `server.max_body_bytes`.
        shown_config: Further entries for `config` of `/health`.
        lifespan: What begins and ends with the server; times of last use of keys are written after it.
    """
    dialect_map, checker = DialectMap(), KeyChecker(parts.keys, parts.database)
    lines = AccessLines(parts.metrics)
    others = None if code_paths is None else Credentials(settings.sandbox, checker, parts.clock, code_paths)
    app = Application(
        title="trainyard",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=_flushing(parts, lifespan),
        middleware=[
            *_watching(parts, dialect_map, lines),
            Middleware(RequireKey, checker=checker, signed_paths=signed_paths, otherwise=others),
            Middleware(middleware.BodyLimit, max_body_bytes=settings.server.max_body_bytes, bars=body_bars),
        ],
        exception_handlers={HTTPException: edge.on_framework_error, RequestValidationError: edge.on_framework_error},
        redirect_slashes=False,
        strict_content_type=False,  # curl sends JSON as a form unless told otherwise; the body decides
    )
    app.state.dialect_map = dialect_map
    app.state.key_checker = checker
    parts.readiness.register("database", parts.database.ping)
    more = shown_config or dict
    shown = health.router(parts.readiness, parts.drain, parts.metrics, lambda: {**_config(settings, parts), **more()})
    _include(app, dialect_map, [(shown, "native"), *routers], hot_routes)
    app.door = HotDoor(
        app.behind_door,
        hot_routes,
        checker=checker,
        drain=parts.drain,
        lines=lines,
        clock=parts.clock,
        dialect_map=dialect_map,
        max_body_bytes=settings.server.max_body_bytes,
        credentials=others,
    )
    document.describe(app, hot_routes, dialect_map)
    return app


def _include(
    app: Application,
    dialect_map: DialectMap,
    routers: Sequence[tuple[APIRouter, Dialect]],
    hot_routes: Sequence[HotRoute],
) -> None:
    for router, dialect in routers:
        app.include_router(router)
        dialect_map.add([route.path for route in router.routes if isinstance(route, APIRoute)], dialect)
    app.router.routes[:0] = hot_routes  # found first
    for route in hot_routes:
        dialect_map.add([route.path], route.dialect)


def _flushing(parts: HttpParts, inner: Lifespan[FastAPI] | None) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with inner(app) if inner else nullcontext() as state:
            yield state
        await parts.database.call(parts.keys.flush)
        flush_lines()

    return lifespan


def _watching(parts: HttpParts, dialect_map: DialectMap, lines: AccessLines) -> list[Middleware]:
    trusted_proxies = uvicorn.Config("", log_config=None).forwarded_allow_ips  # loopback, or as uvicorn is told
    return [
        Middleware(ProxyHeadersMiddleware, trusted_hosts=trusted_proxies),
        Middleware(middleware.RequestId),
        Middleware(middleware.AccessLog, lines=lines, clock=parts.clock),
        Middleware(middleware.SecurityHeaders),
        Middleware(edge.ErrorEdge, dialect_map=dialect_map),
        Middleware(DrainGate, drain=parts.drain),
    ]


def _config(settings: Settings, parts: HttpParts) -> dict[str, object]:
    return {
        "database": parts.database.kind,
        "device": settings.engine.device,
        "max_body_bytes": settings.server.max_body_bytes,
        "max_live_runs_per_user": settings.training.max_live_runs_per_user,
    }
