"""Every implementation of `Engine`, made to order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract.engine.harness import FakeHarness, Harness, InlineHarness, ProcessHarness, SharedHarness
from trainyard.engine.server_config import EngineServerConfig

Make = Callable[..., Awaitable[Harness]]


async def process(kind: str, model_dir: Path, tmp_path: Path, stall_s: float, is_slow: bool) -> ProcessHarness:
    config = EngineServerConfig(
        socket=str(tmp_path / "engine.sock"),
        name="tiny",
        model_dir=str(model_dir),
        core="fake" if kind == "socket-fake" else "model",
        device="cpu",
        threads=1,
        stream_stall_s=stall_s,
        fake_token_s=0.02 if is_slow else 0.0,
        fake_micro_step_s=0.5 if is_slow else 0.0,
    )
    harness = ProcessHarness(config)
    await harness.restart()
    return harness


async def made_by(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, *, may_share: bool = True
) -> AsyncIterator[Make]:
    tiny = request.getfixturevalue("tiny_llama") if kind in ("inline", "socket") else tmp_path
    harnesses: list[Harness] = []

    async def make(*, stall_s: float = 30.0, is_slow: bool = False) -> Harness:
        harness: Harness
        if kind == "fake":
            harness = FakeHarness(stream_stall_s=stall_s, is_slow=is_slow)
        elif kind == "inline":
            harness = InlineHarness(tiny, stream_stall_s=stall_s)
        elif kind == "socket" and may_share and stall_s == 30.0:
            harness = SharedHarness(request.getfixturevalue("shared"))
        else:
            harness = await process(kind, tiny, tmp_path, stall_s, is_slow)
        harnesses.append(harness)
        return harness

    yield make
    for harness in harnesses:
        await harness.aclose()
