"""Every kind of model behind one front, over a mock upstream, a fake engine and a catalog on disk."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.unit.serving import byte_model
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.telemetry import Metrics
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.engine.tokenizer import Tokenizer, Tokenizers
from trainyard.loadtest.mock import Latency, MockServer
from trainyard.serving.backends.adapter import AdapterBackend
from trainyard.serving.backends.chain import ChainBackend
from trainyard.serving.backends.fake import FakeBackend
from trainyard.serving.backends.local import LocalBackend
from trainyard.serving.backends.ollama import OllamaBackend
from trainyard.serving.backends.openai import OpenAIBackend
from trainyard.serving.backends.remote.upstreams import Upstreams
from trainyard.serving.types import Ask, Chat, Piece, Prompt, Target, Tool

ANSWER = "one two three four five six seven eight"  # 39 bytes, so 39 tokens of the byte model
HELLO = Chat([{"role": "user", "content": "alpha beta gamma delta epsilon zeta eta theta"}])
TOOLS = [Tool("look", "finds", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})]
CAPABILITIES = "[generate, chat, embed]"


class Fleet:
    """The front and what lies behind it.

    Attributes:
        backend: In front of all models.
        mock: The upstream of the remote ones.
        upstreams: State of those.
        metrics: What was counted.
        models: The catalog.
    """

    def __init__(self, directory: Path, mock: MockServer, entries: str = "", clock: Clock | None = None) -> None:
        self.mock = mock
        self.metrics = Metrics()
        byte_model.write(directory / "bytes")
        (directory / "adapter").mkdir()
        (directory / "adapter" / "adapter_config.json").write_text("{}")
        self.file = directory / "models.yaml"
        self.file.write_text(catalog(mock.url, entries))
        self.models = ModelRegistry(self.file, environ={"FAR_KEY": "sk-upstream-secret"})
        tokenizer = Tokenizer.from_directory(directory / "bytes")
        script = tokenizer.encode(ANSWER, add_special_tokens=False)
        self.engine = FakeEngine("local", vocab_size=byte_model.VOCABULARY, script=script, max_positions=512)
        local = LocalBackend(FakeEngines({"local": self.engine}), Tokenizers(self.models))
        self.upstreams = Upstreams(self.models, clock or SystemClock(), self.metrics)
        self.backend = ChainBackend(
            self.models,
            {
                "local": local,
                "adapter": AdapterBackend(self.models, local),
                "openai": OpenAIBackend(self.upstreams),
                "ollama": OllamaBackend(self.upstreams),
                "fake": FakeBackend(),
            },
            self.upstreams.metrics,
        )

    async def collect(self, model: str, prompt: Prompt = HELLO, timeout_s: float = 10, **asked: Any) -> Piece:
        """Generate one answer as a whole."""
        (prepared,) = await self.backend.prepare(target(model), ask(prompt, **asked))
        return await prepared.collect(0, timeout_s)

    async def stream(self, model: str, prompt: Prompt = HELLO, timeout_s: float = 10, **asked: Any) -> list[Piece]:
        """Generate one answer in pieces."""
        (prepared,) = await self.backend.prepare(target(model), ask(prompt, **asked))
        return [piece async for piece in prepared.stream(0, timeout_s)]

    def counted(self, name: str, **labels: str) -> float:
        """Read a metric."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def sent(self) -> dict[str, Any]:
        """Read the newest body that the upstream got."""
        body: dict[str, Any] = json.loads(self.mock.seen.recent[-1].body)
        return body


@asynccontextmanager
async def fleet(
    directory: Path, entries: str = "", *, latency: Latency | None = None, clock: Clock | None = None
) -> AsyncIterator[Fleet]:
    """Put it together and take it apart."""
    async with MockServer(latency=latency or Latency(answer_tokens=8)).listening() as mock:
        built = Fleet(directory, mock, entries.replace("MOCK", mock.url), clock)
        yield built
        await built.upstreams.aclose()
        await built.engine.aclose()


def catalog(url: str, entries: str) -> str:
    """Write the catalog; `entries` come on top of one model of each kind."""
    return f"""
models:
  - {{name: local, path: bytes, capabilities: {CAPABILITIES}}}
  - {{name: adapted, backend: adapter, base: local, path: adapter, capabilities: {CAPABILITIES}}}
  - {{name: fake, backend: fake, capabilities: {CAPABILITIES}}}
  - {{name: openai, backend: openai, base_url: "{url}/v1", upstream_model: far, capabilities: {CAPABILITIES}}}
  - {{name: ollama, backend: ollama, base_url: "{url}", upstream_model: "far:8b", capabilities: {CAPABILITIES}}}
  - {{name: chained, backend: openai, base_url: "{url}/v1", fallbacks: [ollama], capabilities: {CAPABILITIES}}}
{entries}"""


def target(model: str) -> Target:
    """Name a model of the catalog."""
    return Target(model, model)


def ask(prompt: Prompt = HELLO, **asked: Any) -> Ask:
    """Ask greedily for at most 200 tokens."""
    given = {"temperature": 0.0, "default_max_tokens": 200} | asked
    return Ask(model=None, prompts=[prompt], param="messages", **given)
