"""The composition root: settings -> core -> services -> one ASGI app, and the HTTP process around it."""

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from fastapi import FastAPI

from trainyard.core import errors, opening, settings
from trainyard.core.blobs import DirectoryBlobs
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.datadir import DataDirectory
from trainyard.core.http import process
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.idempotency import Idempotency
from trainyard.core.metering.fake import OpenMeter
from trainyard.core.processes import CONFIG_EXIT, handover
from trainyard.core.processes.control import ControlClient
from trainyard.core.telemetry import configure_logging
from trainyard.engine.base import Engines
from trainyard.engine.fake import FakeEngines
from trainyard.engine.pool import EnginePool
from trainyard.engine.tokenizer import Tokenizers
from trainyard.serving.backends.fake import FakeBackend
from trainyard.serving.backends.local import LocalBackend
from trainyard.serving.cache import opening as serving_cache
from trainyard.serving.routes import native as serving_native
from trainyard.serving.routes import openai as serving_openai
from trainyard.serving.service import ServingService
from trainyard.serving.store import DatabaseCache
from trainyard.training.routes import signal as training_signal
from trainyard.training.routes.artifacts import SIGNED_PATH
from trainyard.training.service import TrainingService
from trainyard.training.store import RunRegistry


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
    """

    app: FastAPI
    parts: HttpParts

    def close(self) -> None:
        """Close the database."""
        self.parts.database.close()


def build_server(effective: settings.Settings, engines: Engines, *, clock: Clock | None = None) -> Server:
    """Plug everything together; the database has to be migrated already (`bootstrap`)."""
    time = clock or SystemClock()
    database = opening.database(effective)
    parts = HttpParts(database, opening.keys(effective, database, time), clock=time)
    models = ModelRegistry.from_settings(effective)
    tokenizers = Tokenizers(models)
    training = TrainingService(
        RunRegistry(database, time),
        models,
        engines,
        tokenizers,
        DirectoryBlobs(DataDirectory(effective.data_dir).blobs),
        effective,
        time,
        signing_key=opening.signing_key(effective),
    )
    bounds = effective.cache
    kept = DatabaseCache(database, time, ttl_s=bounds.ttl_s, max_bytes=bounds.shared_bytes)
    serving = ServingService(
        models,
        {"local": LocalBackend(engines, tokenizers), "fake": FakeBackend()},
        engines,
        training.adapters,
        OpenMeter(),
        time,
        answers=serving_cache.answers(bounds, kept if bounds.shared == "database" else None, time, parts.metrics),
        idempotency=Idempotency(database, time, ttl_s=bounds.idempotency_ttl_s),
        metrics=parts.metrics,
        timeout_s=effective.server.request_timeout_s,
        share_prefixes=effective.engine.share_prefixes,
    )
    _watch_engines(parts, models, engines)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await training.recover()
        await serving.start()
        yield
        await serving.aclose()

    app = build_http(
        effective,
        parts,
        routers=[(training_signal.router(training), "signal"), (serving_openai.router(serving), "openai")],
        hot_routes=[*serving_native.hot_routes(serving), *serving_openai.hot_routes(serving)],
        signed_paths=[SIGNED_PATH],
        shown_config=lambda: {"models": models.list_models(), "default_model": models.default_model},
        lifespan=lifespan,
    )
    return Server(app, parts)


def build_app(effective: settings.Settings, engines: Engines, *, clock: Clock | None = None) -> FastAPI:
    """Build the ASGI application alone."""
    return build_server(effective, engines, clock=clock).app


def openapi_document() -> dict[str, Any]:
    """Describe the HTTP interface of the default settings without starting anything."""
    with tempfile.TemporaryDirectory() as directory:
        server = build_server(settings.Settings(data_dir=Path(directory)), FakeEngines())
        try:
            return server.app.openapi()
        finally:
            server.close()


def _watch_engines(parts: HttpParts, models: ModelRegistry, engines: Engines) -> None:
    """Make readiness ask every engine that starts with the server."""

    def probe(model: str) -> Any:
        async def ask() -> None:
            await (await engines.get(model)).ping()

        return ask

    for entry in models.entries:
        if entry.backend == "local" and entry.load == "eager":
            parts.readiness.register(f"engine:{entry.name}", probe(entry.name))


def serve() -> None:
    """Run the HTTP process that `trainyard up` starts; its hand-over stands on standard input.

    Exits with `CONFIG_EXIT` when a new start would not help.
    """
    try:
        given = handover.read()
        effective = settings.load(given.flags, Path(given.config_file) if given.config_file else None)
        configure_logging(effective.log)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(given, effective))
    except (errors.ConfigError, errors.StartupError) as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - into the log; the supervisor reads the status
        sys.exit(CONFIG_EXIT)


async def _serve(given: handover.Handover, effective: settings.Settings) -> None:
    control = ControlClient(Path(given.control_socket))
    engines = EnginePool(Path(given.socket_directory), control.ensure, control.check)
    server = build_server(effective, engines)
    try:
        await process.run(
            server.app,
            socket.socket(fileno=given.listen_fd),
            server.parts.drain,
            effective.server.drain_s,
            local=given.socket_of(given.worker),
        )
    finally:
        await engines.aclose()
        server.close()


if __name__ == "__main__":
    serve()
