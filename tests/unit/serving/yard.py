"""Serving over fakes: a byte tokenizer, a scripted engine, adapters in a list, HTTP in process."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.unit.serving import byte_model
from tests.unit.serving.byte_model import VOCABULARY
from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import Clock, FakeClock
from trainyard.core.db import Database
from trainyard.core.db.writer import Write
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.idempotency import Idempotency
from trainyard.core.keys import APIKeyManager, derive_pepper
from trainyard.core.metering.base import Done, Meter
from trainyard.core.metering.fake import OpenCharge, OpenMeter
from trainyard.core.metering.types import Job, Used
from trainyard.core.ports.adapters import AdapterModel
from trainyard.core.principal import Principal
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.engine.tokenizer import Tokenizer, Tokenizers
from trainyard.serving import opening
from trainyard.serving.backends.chain import ChainBackend
from trainyard.serving.backends.fake import FakeBackend
from trainyard.serving.backends.local import LocalBackend
from trainyard.serving.backends.remote.meters import UpstreamMetrics
from trainyard.serving.cache.answers import Answers
from trainyard.serving.routes import native, openai
from trainyard.serving.service import ServingService

MODEL = "yard/bytes"
CONTEXT = 64
ANSWER = "Grüße, yard!"  # 14 bytes, so 14 tokens
MODELS_YAML = f"""\
default_model: {MODEL}
models:
  - {{name: {MODEL}, path: bytes, aliases: [yard/alias]}}
  - {{name: yard/plain, path: plain}}
  - {{name: yard/off, path: bytes, load: "off"}}
  - {{name: yard/parrot, backend: fake, trainable: false}}
"""
RUN = AdapterModel(
    name="run_00000000000000aa",
    base_model=MODEL,
    run_id="run_00000000000000aa",
    checkpoint_dir=None,
    step=3,
    created_at=1_700_000_000.5,
    owner="default/ann",
)


class ListedAdapters:
    """Implements `AdapterCatalog` over a list."""

    def __init__(self, adapters: Iterable[AdapterModel]) -> None:
        self.adapters = list(adapters)

    async def list_adapters(
        self, principal: Principal, *, deadline_s: float | None = None, idempotency_key: str | None = None
    ) -> list[AdapterModel]:
        return [one for one in self.adapters if one.owner == f"{principal.tenant}/{principal.user}"]

    async def resolve_adapter(
        self, principal: Principal, name: str, *, deadline_s: float | None = None, idempotency_key: str | None = None
    ) -> AdapterModel | None:
        return next((one for one in await self.list_adapters(principal) if one.name == name), None)


class LosingCharge(OpenCharge):
    """Cannot be written down."""

    async def settle(self, used: Used, *also: Write) -> None:
        raise errors.Unavailable("The ledger is away", code="ledger_unavailable")


class PickyMeter(OpenMeter):
    """Refuses the next ones as it is told to, after a moment, and lets all others in.

    Attributes:
        loses: Charges from now on cannot be written down.
        held: Whoever asks waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[errors.TrainyardError] = []
        self.loses = False
        self.held = asyncio.Event()
        self.held.set()

    def hit_at_once(self, principal: Principal, job: Job, used: Used, done: Done) -> bytes | None:
        if self.refusals or not self.held.is_set():
            return None
        if not self.loses:
            return super().hit_at_once(principal, job, used, done)
        self.opened.append(LosingCharge(principal, job))
        self.opened[-1].is_refunded = True
        asyncio.get_running_loop().call_soon(done, errors.Unavailable("Away", code="ledger_unavailable"))
        return b""

    async def open(self, principal: Principal, job: Job) -> OpenCharge:
        await asyncio.sleep(0)
        await self.held.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        if not self.loses:
            return await super().open(principal, job)
        self.opened.append(LosingCharge(principal, job))
        return self.opened[-1]


class Yard:
    """Serving and what it stands on; use as an async context manager."""

    def __init__(self, directory: Path, database: Database, clock: FakeClock) -> None:
        self.clock = clock
        self.database = database
        self.settings = Settings(data_dir=directory / "data")
        byte_model.write(directory / "bytes")
        byte_model.write(directory / "plain", template=None)
        (directory / "models.yaml").write_text(MODELS_YAML)
        self.models = ModelRegistry(directory / "models.yaml")
        self.tokenizer = Tokenizer.from_directory(directory / "bytes")
        self.engine = self.new_engine(ANSWER)
        self.keys = APIKeyManager(database, derive_pepper(b"a secret for tests alone"), clock)
        self.adapters = ListedAdapters([RUN])
        self.meter = PickyMeter()
        self.services: list[ServingService] = []
        self.answers: Answers | None = None
        self.down: set[str] = set()
        self.idempotency: Idempotency | None = Idempotency(database, clock, ttl_s=86_400.0)
        self._app: FastAPI | None = None
        self._clients = AsyncExitStack()

    def new_engine(self, answer: str, **knobs: Any) -> FakeEngine:
        """Make an engine that always answers the same and then ends its turn."""
        script = self.tokenizer.encode(answer, add_special_tokens=False)
        return FakeEngine(MODEL, vocab_size=VOCABULARY, script=script, max_positions=CONTEXT, **knobs)

    def service(
        self,
        *,
        timeout_s: float = 60.0,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        meter: Meter | None = None,
    ) -> ServingService:
        """Build the service over the engine of now."""
        metrics, clock = metrics or Metrics(), clock or self.clock
        self.answers = opening.answers(self.settings, self.database, clock, metrics)
        self.services.append(made := self._service(clock, metrics, meter, timeout_s))
        return made

    def _service(self, clock: Clock, metrics: Metrics, meter: Meter | None, timeout_s: float) -> ServingService:
        engines = FakeEngines({MODEL: self.engine, "yard/plain": self.engine})
        return ServingService(
            self.models,
            ChainBackend(
                self.models,
                {"local": LocalBackend(engines, Tokenizers(self.models)), "fake": FakeBackend()},
                UpstreamMetrics(metrics),
            ),
            engines,
            self.adapters,
            meter or self.meter,
            clock,
            answers=self.answers,
            idempotency=self.idempotency,
            metrics=metrics,
            timeout_s=timeout_s,
            is_up=lambda model: model not in self.down,
        )

    def app(self, *, timeout_s: float = 60.0, clock: Clock | None = None, meter: Meter | None = None) -> FastAPI:
        """Build the application over the engine of now."""
        metrics, clock = Metrics(), clock or self.clock
        service = self.service(timeout_s=timeout_s, clock=clock, metrics=metrics, meter=meter)
        return build_http(
            self.settings,
            HttpParts(self.database, self.keys, metrics=metrics, clock=clock),
            routers=[(openai.router(service), "openai")],
            hot_routes=[*native.hot_routes(service), *openai.hot_routes(service)],
        )

    async def client(
        self,
        user: str = "ann",
        scopes: Iterable[str] = ("generate",),
        app: FastAPI | None = None,
        tenant: str = "default",
    ) -> httpx.AsyncClient:
        """Make a client with a new key of a user."""
        self._app = app or self._app or self.app()
        key = await self.database.call(self.keys.generate_key, user, scopes=list(scopes), tenant=tenant)
        transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
        client = httpx.AsyncClient(
            transport=transport, base_url="http://yard", headers={"Authorization": f"Bearer {key}"}
        )
        return await self._clients.enter_async_context(client)

    async def __aenter__(self) -> "Yard":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.aclose()
        await self.engine.aclose()


async def events(answer: httpx.Response) -> AsyncIterator[Any]:
    """Read the events of a stream, `[DONE]` as it stands, comments left out."""
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield line[6:] if line == "data: [DONE]" else json.loads(line[6:])
