"""The composition root: settings -> core -> services -> one ASGI app, and the HTTP process around it."""

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop
from fastapi import APIRouter, FastAPI
from starlette.types import Lifespan

from trainyard.core import errors, opening, settings
from trainyard.core.blobs import BlobStore
from trainyard.core.catalog import Change, ModelRegistry
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.http import admin_keys, admin_tenants, admin_usage, me_usage, process, tls
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.http.dialects import Dialect
from trainyard.core.http.forwarding import Forwarder, Neighbours
from trainyard.core.http.hot import HotRoute
from trainyard.core.idempotency import Idempotency
from trainyard.core.ledger.reports import Reports
from trainyard.core.limits import Limiter
from trainyard.core.metering.accounts import Accounts
from trainyard.core.metering.base import Meter
from trainyard.core.processes import CONFIG_EXIT, handover
from trainyard.core.processes.control import ControlClient
from trainyard.core.telemetry import configure_logging
from trainyard.engine.base import Engines
from trainyard.engine.fake import FakeEngines
from trainyard.engine.metrics import EngineMetrics
from trainyard.engine.pool import EnginePool
from trainyard.engine.tokenizer import Tokenizers
from trainyard.sandbox import opening as sandbox_opening
from trainyard.sandbox.backends.base import Backend
from trainyard.sandbox.backends.fake import FakeBackend as FakeBoxes
from trainyard.sandbox.routes import administration as sandbox_administration
from trainyard.sandbox.routes import code as sandbox_code
from trainyard.sandbox.service import SandboxService
from trainyard.serving import opening as serving_opening
from trainyard.serving.backends.adapter import AdapterBackend
from trainyard.serving.backends.base import TextBackend
from trainyard.serving.backends.chain import ChainBackend
from trainyard.serving.backends.fake import FakeBackend
from trainyard.serving.backends.local import LocalBackend
from trainyard.serving.backends.ollama import OllamaBackend
from trainyard.serving.backends.openai import OpenAIBackend
from trainyard.serving.backends.remote.upstreams import Upstreams
from trainyard.serving.routes import native as serving_native
from trainyard.serving.routes import openai as serving_openai
from trainyard.serving.service import ServingService
from trainyard.training.routes import signal as training_signal
from trainyard.training.routes.artifacts import SIGNED_PATH
from trainyard.training.service import TrainingService
from trainyard.training.store import RunRegistry

_log = structlog.get_logger("app")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the first steps of a start found out.

    Attributes:
        first_key: The admin key when this start made it; shown once, stored nowhere.
    """

    first_key: str | None


def bootstrap(effective: settings.Settings) -> Bootstrap:
    """Bring the database up to date and make the first admin key when no key was ever made.

    Raises:
        errors.StartupError: Directory or database do not allow it.
    """
    ModelRegistry.from_settings(effective)  # a catalog at fault is one line now, not a process that fails later
    opening.blobs(effective)  # so is a client that is not installed
    with contextlib.closing(opening.database(effective)) as database:
        database.migrate()
        made = opening.keys(effective, database, SystemClock()).create_first_admin()
        return Bootstrap(made.key if made else None)


@dataclass(frozen=True, slots=True)
class Server:
    """One composed server.

    Attributes:
        app: The ASGI application.
        parts: Its core; keys, metrics and drain are reached through it.
        models: Its catalog.
    """

    app: FastAPI
    parts: HttpParts
    models: ModelRegistry

    def close(self) -> None:
        """Close the database."""
        self.parts.database.close()

    def reload(self, effective: settings.Settings) -> None:
        """Let the catalog and the limits of new settings take effect.

        Raises:
            errors.ConfigError: The catalog cannot be used; nothing has changed.
        """
        self.models.reload(effective)
        self.parts.keys.set_defaults(effective.limits)


def build_server(
    effective: settings.Settings,
    engines: Engines,
    *,
    boxes: Backend | None = None,
    clock: Clock | None = None,
    forwarder: Forwarder | None = None,
    neighbours: Neighbours | None = None,
) -> Server:
    """Plug everything together; the database has to be migrated already (`bootstrap`).

    Args:
        effective: The settings.
        engines: Those of local models.
        boxes: Where code runs; None = there is no sandbox.
        clock: Time.
        forwarder: Leads to the HTTP process that trains, where this is another one.
        neighbours: All HTTP processes of this server, where there are several.
    """
    time = clock or SystemClock()
    database = opening.database(effective)
    parts = HttpParts(database, opening.keys(effective, database, time), clock=time)
    models = ModelRegistry.from_settings(effective)
    accounts = Accounts.open(effective, database, parts.keys.subjects, time, parts.metrics)
    upstreams = Upstreams(models, time, parts.metrics)
    blobs, contents = opening.blobs(effective), opening.blobs(effective, "sandbox")
    training = _training(effective, parts, models, engines, blobs)
    serving = _serving(effective, parts, models, engines, training, accounts.metering, upstreams)
    sandbox = _sandbox(effective, parts, accounts.metering, boxes, contents, neighbours, collects=forwarder is None)
    _watch(effective, parts, models, engines, accounts.limiter, forwarder)
    trains = training_signal.router(training)
    app = build_http(
        effective,
        parts,
        routers=[
            (trains, "signal"),
            *((router, "native") for router in _administration(effective, parts, accounts)),
            *_routers(serving, sandbox, neighbours),
        ],
        hot_routes=_hot_routes(serving, sandbox, neighbours),
        signed_paths=[SIGNED_PATH],
        code_paths=None if sandbox is None else sandbox_code.PATHS,
        body_bars=[] if sandbox is None else sandbox_code.body_bars(effective.sandbox.limits),
        shown_config=lambda: {"models": models.list_models(), "default_model": models.default_model},
        lifespan=_lifespan(
            [
                *([_Stage(training.recover)] if forwarder is None else [_Stage(end=forwarder.aclose)]),
                *([] if neighbours is None else [_Stage(end=neighbours.aclose)]),
                _Stage(end=blobs.aclose),
                _Stage(end=contents.aclose),
                _Stage(accounts.start, accounts.aclose),
                _Stage(end=upstreams.aclose),
                _Stage(serving.start, serving.aclose),
                *([] if sandbox is None else [_Stage(sandbox.start, sandbox.aclose)]),
            ]
        ),
    )
    if forwarder is not None:
        app.router.routes[:0] = forwarder.routes(trains)  # found first; the others describe them
    return Server(app, parts, models)


async def _nothing() -> None:
    """Be ready, or be gone, without doing anything for it."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A part that begins with the server, after those before it, and ends with it, before them."""

    start: Callable[[], Awaitable[object]] = _nothing
    end: Callable[[], Awaitable[object]] = _nothing


def _lifespan(stages: Sequence[_Stage]) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as at_the_end:  # each, whatever becomes of the one before
            for stage in stages:
                at_the_end.push_async_callback(stage.end)
                await stage.start()
            yield

    return lifespan


def _routers(
    serving: ServingService, sandbox: SandboxService | None, neighbours: Neighbours | None
) -> list[tuple[APIRouter, Dialect]]:
    shown: list[tuple[APIRouter, Dialect]] = [(serving_openai.router(serving), "openai")]
    if sandbox is not None:
        shown += [(router, "code") for router in sandbox_code.routers(sandbox, neighbours)]
        shown += [(sandbox_administration.router(sandbox), "native")]
    return shown


def _hot_routes(
    serving: ServingService, sandbox: SandboxService | None, neighbours: Neighbours | None
) -> list[HotRoute]:
    served = [*serving_native.hot_routes(serving), *serving_openai.hot_routes(serving)]
    return served if sandbox is None else [*served, *sandbox_code.hot_routes(sandbox, neighbours)]


def _training(
    effective: settings.Settings, parts: HttpParts, models: ModelRegistry, engines: Engines, blobs: BlobStore
) -> TrainingService:
    parts.readiness.register("blobs", blobs.ping)
    return TrainingService(
        RunRegistry(parts.database, parts.clock),
        models,
        engines,
        Tokenizers(models),
        blobs,
        effective,
        parts.clock,
        signing_key=opening.signing_key(effective),
    )


def _serving(
    effective: settings.Settings,
    parts: HttpParts,
    models: ModelRegistry,
    engines: Engines,
    training: TrainingService,
    meter: Meter,
    upstreams: Upstreams,
) -> ServingService:
    local = LocalBackend(engines, Tokenizers(models))
    models.on_change(local.forget)
    own: dict[str, TextBackend] = {
        "local": local,
        "adapter": AdapterBackend(models, local),
        "openai": OpenAIBackend(upstreams),
        "ollama": OllamaBackend(upstreams),
        "fake": FakeBackend(),
    }
    return ServingService(
        models,
        ChainBackend(models, own, upstreams.metrics),
        engines,
        training.adapters,
        meter,
        parts.clock,
        answers=serving_opening.answers(effective, parts.database, parts.clock, parts.metrics),
        idempotency=Idempotency(parts.database, parts.clock, ttl_s=effective.cache.idempotency_ttl_s),
        metrics=parts.metrics,
        timeout_s=effective.server.request_timeout_s,
        share_prefixes=effective.engine.share_prefixes,
        is_up=upstreams.is_available,
    )


def _sandbox(
    effective: settings.Settings,
    parts: HttpParts,
    meter: Meter,
    boxes: Backend | None,
    contents: BlobStore,
    neighbours: Neighbours | None,
    *,
    collects: bool,
) -> SandboxService | None:
    if boxes is None:
        return None
    parts.readiness.register("sandbox", boxes.ping)
    return sandbox_opening.service(
        effective,
        parts.database,
        contents,
        boxes,
        meter,
        parts.clock,
        parts.metrics,
        collects=collects,
        name=None if neighbours is None else neighbours.name,
    )


def _administration(effective: settings.Settings, parts: HttpParts, accounts: Accounts) -> list[APIRouter]:
    reports, window_s = Reports(parts.database), effective.limits.window_s
    return [
        admin_keys.router(parts.keys, parts.database),
        admin_tenants.router(parts.keys, parts.database),
        admin_usage.router(parts.keys, reports, parts.clock),
        me_usage.router(parts.keys, reports, accounts.ledger.spent, parts.clock, window_s),
    ]


def build_app(effective: settings.Settings, engines: Engines, *, clock: Clock | None = None) -> FastAPI:
    """Build the ASGI application alone."""
    return build_server(effective, engines, clock=clock).app


def openapi_document() -> dict[str, Any]:
    """Describe the HTTP interface of the default settings without starting anything."""
    with tempfile.TemporaryDirectory() as directory:
        server = build_server(settings.Settings(data_dir=Path(directory)), FakeEngines(), boxes=FakeBoxes())
        try:
            return server.app.openapi()
        finally:
            server.close()


def _watch(
    effective: settings.Settings,
    parts: HttpParts,
    models: ModelRegistry,
    engines: Engines,
    limiter: Limiter,
    forwarder: Forwarder | None,
) -> None:
    """Make readiness ask every engine that the catalog wants up, and what several processes have in common.

    The engines' own figures join the metrics.
    """
    counted = EngineMetrics(engines.connected)
    parts.metrics.add(counted, counted.refresh)

    def probe(model: str) -> Any:
        async def ask() -> None:
            await (await engines.get(model)).ping()

        return ask

    def follow(_change: Change) -> None:
        eager = [entry.name for entry in models.entries if entry.backend == "local" and entry.load == "eager"]
        parts.readiness.replace("engine", {name: probe(name) for name in eager})

    follow(Change())
    models.on_change(follow)
    if effective.redis.url is not None:
        parts.readiness.register("redis", limiter.ping)
    if forwarder is not None:
        parts.readiness.register("training", forwarder.ping)


def serve() -> None:
    """Run the HTTP process that `trainyard up` starts; its hand-over stands on standard input.

    Exits with `CONFIG_EXIT` when a new start would not help.
    """
    try:
        given = handover.read()
        effective = _settings(given)
        configure_logging(effective.log)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(given, effective))
    except (errors.ConfigError, errors.StartupError) as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - into the log; the supervisor reads the status
        sys.exit(CONFIG_EXIT)


async def _serve(given: handover.Handover, effective: settings.Settings) -> None:
    certificate = tls.context(effective)
    control = ControlClient(Path(given.control_socket))
    engines = EnginePool(Path(given.socket_directory), control.ensure, control.check)
    server = build_server(
        effective,
        engines,
        boxes=_boxes(effective, Path(given.socket_directory)),
        forwarder=Forwarder(given.socket_of(0)) if given.worker else None,
        neighbours=_neighbours(effective, given),
    )

    def reload() -> None:
        try:
            server.reload(_settings(given))
            if certificate is not None:
                tls.renew(certificate, effective)
        except errors.ConfigError as error:  # the supervisor has looked before, yet files can change again
            _log.error("reload_refused", reason=error.message)

    try:
        await process.run(
            server.app,
            socket.socket(fileno=given.listen_fd),
            server.parts.drain,
            effective.server.drain_s,
            local=given.socket_of(given.worker),
            tls=certificate,
            on_hangup=reload,
        )
    finally:
        await engines.aclose()
        server.close()


def _neighbours(effective: settings.Settings, given: handover.Handover) -> Neighbours | None:
    if effective.server.workers == 1:
        return None
    others = {worker: given.socket_of(worker) for worker in range(effective.server.workers) if worker != given.worker}
    return Neighbours(Path(given.socket_directory), given.worker, others.items())


def _boxes(effective: settings.Settings, sockets: Path) -> Backend | None:
    return sandbox_opening.backend(effective, sockets, SystemClock()) if effective.sandbox.enabled else None


def _settings(given: handover.Handover) -> settings.Settings:
    return settings.load(given.flags, Path(given.config_file) if given.config_file else None)


if __name__ == "__main__":
    serve()
