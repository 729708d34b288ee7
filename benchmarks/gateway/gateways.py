"""The gateways that are measured, all before the same upstream."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import setup, trees
from benchmarks.trees import Tree

MODEL = "bench/upstream"
_HIGH = 1_000_000_000
"""Requests and tokens per window: a bar that is looked at by every request and reached by none."""

_CONFIG = """\
models_file: {directory}/models.yaml
log: {{level: info, format: json}}
"""
_MODELS = """\
default_model: {model}
models:
  - {{name: {model}, backend: openai, base_url: "http://127.0.0.1:{port}/v1", prices: {{prompt: 1.5, completion: 6}}}}
"""
_LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{port}/v1
      api_key: sk-upstream
litellm_settings:
  telemetry: false
  set_verbose: false
general_settings:
  master_key: {key}
"""


@dataclass(frozen=True)
class Gateway:
    """One that runs, and the key that opens it."""

    tree: Tree
    key: str


@contextlib.contextmanager
def ours(directory: Path, upstream: int) -> Iterator[Gateway]:
    """A real `trainyard up` with a key that has limits and quotas; nothing is switched off."""
    directory.mkdir(parents=True)
    (directory / "models.yaml").write_text(_MODELS.format(model=MODEL, port=upstream), encoding="utf-8")
    (directory / "trainyard.yaml").write_text(_CONFIG.format(directory=directory), encoding="utf-8")
    port, data = trees.free_port(), directory / "data"
    up = [*trees.python("trainyard", "up", "--port", port, "--data-dir", data), "--json"]
    command = [*up, "--config", str(directory / "trainyard.yaml")]
    with trees.running(command, port, directory / "up.log", path="/readyz") as tree:
        yield Gateway(tree, _key(data))


def _key(data: Path) -> str:
    bars = {"--requests": _HIGH, "--tokens": _HIGH * 1000, "--concurrency": 10_000}
    bars |= {"--quota-tokens": _HIGH * 1000, "--quota-cost": _HIGH}
    flags = [word for pair in bars.items() for word in map(str, pair)]
    command = trees.python("trainyard", "keys", "create", "--data-dir", data, "--scopes", "generate", "--json")
    said = subprocess.run([*command, *flags], check=True, capture_output=True, text=True).stdout
    return str(json.loads(said)["key"])


@contextlib.contextmanager
def bare(directory: Path, *upstream: int) -> Iterator[Gateway]:
    """A forward without anything; without an upstream an answer without anything."""
    directory.mkdir(parents=True)
    port = trees.free_port()
    command = trees.python("benchmarks.gateway.bare", port, *upstream)
    with trees.running(command, port, directory / "bare.log") as tree:
        yield Gateway(tree, "none")


@contextlib.contextmanager
def litellm(directory: Path, upstream: int) -> Iterator[Gateway]:
    """LiteLLM's proxy with one worker and its master key, without a database, limits, ledger or log of requests."""
    directory.mkdir(parents=True)
    key, port = "sk-bench-master", trees.free_port()
    config = directory / "litellm.yaml"
    config.write_text(_LITELLM.format(model=MODEL, port=upstream, key=key), encoding="utf-8")
    program = setup.environment("litellm") / "bin" / "litellm"
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    quiet = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "NO_DOCS": "True",
    }
    env = {**quiet, "HOME": str(directory)}
    path = "/health/liveliness"
    with trees.running(command, port, directory / "litellm.log", path=path, env=env) as tree:
        yield Gateway(tree, key)


@contextlib.contextmanager
def upstream(directory: Path) -> Iterator[int]:
    """The model behind all of them; gives its port."""
    port = trees.free_port()
    command = trees.python("benchmarks.gateway.upstream", port)
    with trees.running(command, port, directory / "upstream.log"):
        yield port


def version() -> str:
    """Name LiteLLM's version."""
    python = setup.environment("litellm") / "bin" / "python"
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    said = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return f"litellm {said.stdout.strip()}"
