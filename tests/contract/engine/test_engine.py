"""What every implementation of `Engine` says of itself and of mistakes."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract.engine.harness import VOCAB, datum, read, request
from tests.contract.engine.implementations import Make
from trainyard.core import errors
from trainyard.engine import base


async def test_an_engine_describes_its_model(engine: base.Engine) -> None:
    info = await engine.info()
    assert info.vocab_size == VOCAB
    assert info.name in ("tiny", "fake/model")
    assert info.architecture in ("LlamaForCausalLM", "fake")


async def test_an_engine_that_lives_answers_a_ping(engine: base.Engine) -> None:
    await engine.ping()


UNKNOWN_RUN: dict[str, Callable[[base.Engine, Path], Awaitable[object]]] = {
    "run_state": lambda engine, _: engine.run_state("run_2"),
    "close_run": lambda engine, _: engine.close_run("run_2"),
    "forward_backward": lambda engine, _: engine.forward_backward("run_2", [datum(3)], accumulate=False),
    "optim_step": lambda engine, _: engine.optim_step("run_2"),
    "save": lambda engine, path: engine.save("run_2", "adapter", str(path / "saved")),
    "generate": lambda engine, _: read(engine, request(3, run_id="run_2")),
}


@pytest.mark.parametrize("name", UNKNOWN_RUN)
async def test_a_run_that_is_not_open_is_not_found(engine: base.Engine, tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.NotFound) as missing:
        await UNKNOWN_RUN[name](engine, tmp_path)
    assert missing.value.code == "run_not_open"


async def test_an_error_carries_its_class_code_and_parameter(engine: base.Engine) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        await read(engine, request(3, prompt=(VOCAB + 5,)))
    assert type(refused.value) is errors.InvalidRequest
    assert refused.value.param == "prompt"


async def test_a_closed_engine_is_unavailable(make: Make) -> None:
    harness = await make()
    await harness.engine.info()
    await harness.engine.aclose()
    with pytest.raises(errors.Unavailable):
        await harness.engine.info()
