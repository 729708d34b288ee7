"""The engines that the contract is held against: fake, inline, and real processes behind a socket."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from trainyard.core import errors
from trainyard.engine import base, types
from trainyard.engine.client import SocketEngine
from trainyard.engine.fake import FakeEngine
from trainyard.engine.inline import InlineEngine
from trainyard.engine.server_config import EngineServerConfig
from trainyard.testing import run_specs

VOCAB = 256
CONTEXT = 2048
RUNS = ("run_0", "run_1", "run_2", "run_3")


def write_tiny_llama(directory: Path) -> Path:
    """Write a random Llama of 4 layers whose rank-64 state is over 16 MB, so that its writes wait."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


class Harness(Protocol):
    """One kind of engine, with what a test does to it from outside."""

    @property
    def engine(self) -> base.Engine:
        """What the test talks to."""

    async def kill(self) -> None:
        """End it as `kill -9` does."""

    async def restart(self) -> None:
        """Have it answer again."""

    async def aclose(self) -> None:
        """End it in order."""


class FakeHarness:
    def __init__(self, *, stream_stall_s: float, is_slow: bool) -> None:
        slow_s = 0.02 if is_slow else 0.0
        self.engine = FakeEngine(
            vocab_size=VOCAB,
            max_positions=CONTEXT,
            stream_stall_s=stream_stall_s,
            token_s=slow_s,
            micro_step_s=slow_s * 25,
        )
        self.engine.hold_writes()

    async def kill(self) -> None:
        self.engine.die()

    async def restart(self) -> None:
        return

    async def aclose(self) -> None:
        await self.engine.aclose()


class InlineHarness:
    def __init__(self, model_dir: Path, *, stream_stall_s: float) -> None:
        from trainyard.engine.core import EngineCore

        core = EngineCore(model_dir, "tiny", device="cpu", threads=1)
        self.engine = InlineEngine(core, stream_stall_s=stream_stall_s)

    async def kill(self) -> None:
        raise AssertionError("a thread cannot be killed")

    async def restart(self) -> None:
        raise AssertionError("a thread cannot be killed")

    async def aclose(self) -> None:
        await self.engine.aclose()


@contextlib.contextmanager
def shared_process(config: EngineServerConfig) -> Iterator[Path]:
    """Run one process for all tests that do not end it, since starting one takes seconds; gives its socket."""
    process = subprocess.Popen([sys.executable, "-m", "trainyard.engine.server"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(config))
    process.stdin.close()
    until = time.monotonic() + 60
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(config.socket) != 0:
            assert process.poll() is None, "the engine ended while it started"
            assert time.monotonic() < until, "the engine did not start within a minute"
            time.sleep(0.02)
    yield Path(config.socket)
    process.terminate()
    assert process.wait(30) == 0


class SharedHarness:
    """A connection of its own to the shared process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.engine = SocketEngine(path)

    async def kill(self) -> None:
        raise AssertionError("others use this process")

    async def restart(self) -> None:
        raise AssertionError("others use this process")

    async def aclose(self) -> None:
        """Leave the process as it was: without runs and streams."""
        rest = SocketEngine(self._path)
        for name in RUNS:
            with contextlib.suppress(errors.NotFound):
                await rest.close_run(name)
        await rest.aclose()
        await self.engine.aclose()


class ProcessHarness:
    """A process started the way the supervisor starts it; the test is its supervisor."""

    def __init__(self, config: EngineServerConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self.engine = SocketEngine(Path(config.socket))

    async def restart(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "trainyard.engine.server", stdin=asyncio.subprocess.PIPE
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(self._config))
        await self._process.stdin.drain()
        self._process.stdin.close()
        async with asyncio.timeout(60):
            while not await self._answers():
                assert self._process.returncode is None, "the engine ended while it started"
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        from trainyard.core.processes import probes

        return await probes.unix_socket(Path(self._config.socket))()

    async def kill(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def terminate(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return await self._process.wait()

    async def aclose(self) -> None:
        await self.engine.aclose()
        if self._process is not None and self._process.returncode is None:
            assert await self.terminate() == 0


def run_spec(tmp_path: Path, run_id: str = "run_1", *, rank: int = 4) -> types.RunSpec:
    return run_specs.make(run_id, tmp_path / "state" / run_id, lora_r=rank, lora_alpha=2.0 * rank, learning_rate=1e-2)


def datum(length: int, *, first: int = 1) -> types.Datum:
    ids = [(first + i) % VOCAB for i in range(length + 1)]
    return types.Datum(
        tokens=types.int32(ids[:-1]), targets=types.int32(ids[1:]), weights=types.float32([1.0] * length)
    )


def request(
    max_tokens: int, *, prompt: tuple[int, ...] = (5, 6, 7), run_id: str | None = None, stream_id: str = "s"
) -> types.GenerateRequest:
    sampling = types.Sampling(max_tokens=max_tokens, temperature=0.0)
    return types.GenerateRequest(stream_id=stream_id, prompt=types.int32(prompt), sampling=sampling, run_id=run_id)


async def read(engine: base.Engine, wanted: types.GenerateRequest) -> list[types.TokenEvent]:
    return [event async for event in engine.generate(wanted)]


async def rest(stream: AsyncIterator[types.TokenEvent]) -> list[types.TokenEvent]:
    return [event async for event in stream]


async def until(is_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_true():  # noqa: ASYNC110 - the engine is asked, it does not tell
            await asyncio.sleep(0.01)
