"""A whole training capability over fakes: a byte tokenizer, a fake engine, blobs in a directory, HTTP in process.

The tokenizer has one token per byte (ids 0 to 255) and four control tokens, so that lengths are counted by hand.
"""

import functools
import json
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import tokenizers
from fastapi import FastAPI
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from trainyard.core.blobs import DirectoryBlobs
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.keys import APIKeyManager, derive_pepper
from trainyard.core.principal import Principal
from trainyard.core.settings import Settings
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.engine.tokenizer import Tokenizer, Tokenizers
from trainyard.training import types
from trainyard.training.routes import signal
from trainyard.training.service import TrainingService
from trainyard.training.store import RunRegistry

MODEL = "yard/bytes"
VOCABULARY = 259
"""The fake engine draws below this, so it never draws the end of a text, which has the highest id."""
CONTEXT = 4096
SECRET = b"a secret for tests alone"

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MODELS_YAML = f"""\
default_model: {MODEL}
models:
  - {{name: {MODEL}, path: bytes, aliases: [yard/alias]}}
  - {{name: yard/frozen, path: bytes, trainable: false}}
"""


def write_model(directory: Path) -> None:
    """Write a tokenizer of 256 bytes, `<|im_start|>` 256, `<|im_end|>` 257, `<|pad|>` 258 and `<|endoftext|>` 259."""
    directory.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    names = ("<|im_start|>", "<|im_end|>", "<|pad|>", "<|endoftext|>")
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.save(str(directory / "tokenizer.json"))
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    config = {**named, "chat_template": TEMPLATE, "model_max_length": CONTEXT}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT}))


def principal(user: str = "ann", *, tenant: str = "default", scopes: Iterable[str] = ("train",)) -> Principal:
    return Principal(tenant=tenant, user=user, key_id=f"key_{user}", scopes=frozenset(scopes))


class Yard:
    """The capability and what it stands on; use as an async context manager."""

    def __init__(self, directory: Path, database: Database, clock: FakeClock) -> None:
        self.clock = clock
        self.database = database
        self.settings = Settings(data_dir=directory / "data")
        write_model(directory / "bytes")
        (directory / "models.yaml").write_text(MODELS_YAML)
        self.models = ModelRegistry(directory / "models.yaml")
        self.engine = FakeEngine(MODEL, vocab_size=VOCABULARY, max_positions=CONTEXT)
        self.blobs = DirectoryBlobs(self.settings.data_dir / "blobs")
        self.registry = RunRegistry(database, clock)
        self.keys = APIKeyManager(database, derive_pepper(SECRET), clock)
        self.service = self.new_service()
        self._clients = AsyncExitStack()

    def new_service(self) -> TrainingService:
        """Build the service again, as a restarted server does: it remembers nothing."""
        engines = FakeEngines({MODEL: self.engine})
        tokenizers = Tokenizers(self.models)
        return TrainingService(
            self.registry,
            self.models,
            engines,
            tokenizers,
            self.blobs,
            self.settings,
            self.clock,
            signing_key=SECRET,
        )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return Tokenizers(self.models).get(MODEL)

    @functools.cached_property
    def app(self) -> FastAPI:
        """The HTTP edge over the service of this moment."""
        parts = HttpParts(self.database, self.keys, clock=self.clock)
        return build_http(self.settings, parts, routers=[(signal.router(self.service), "signal")])

    async def client(self, user: str = "ann", scopes: Iterable[str] = ("train",)) -> httpx.AsyncClient:
        """Make a client with a new key of a user."""
        key = await self.database.call(self.keys.generate_key, user, scopes=list(scopes))
        return await self.keyless({"Authorization": f"Bearer {key}"})

    async def keyless(self, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
        """Make a client without a key."""
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://yard", headers=headers)
        return await self._clients.enter_async_context(client)

    async def __aenter__(self) -> "Yard":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.aclose()
        await self.engine.aclose()


async def new_run(yard: Yard, who: Principal, **config: object) -> str:
    """Create a run and give its id."""
    wanted = types.RunConfig.model_validate({"base_model": MODEL, **config})
    return (await yard.service.runs.create(who, wanted)).run_id


async def train(yard: Yard, who: Principal, run_id: str, text: str = "hello", *, accumulate: bool = False) -> None:
    """Send one text through `forward_backward`."""
    batch = types.ForwardBackwardRequest(batch_data=[types.TrainingExample(text=text)], accumulate=accumulate)
    await yard.service.primitives.forward_backward(who, run_id, batch)


async def step(yard: Yard, who: Principal, run_id: str) -> types.OptimStepResponse:
    """Apply the gradients."""
    return await yard.service.primitives.optim_step(who, run_id, types.OptimStepRequest())
