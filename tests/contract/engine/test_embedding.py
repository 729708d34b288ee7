"""`embed`: pooled hidden states equal transformers', whatever shares the batch, in every engine."""

import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.contract.engine import harness
from tests.contract.engine import tiny_models as tiny
from tests.contract.engine.implementations import Make
from trainyard.core import errors
from trainyard.engine import base, types
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.core import EngineCore
from trainyard.testing import run_specs

Vectors = NDArray[np.float32]
LENGTHS = (5, 1, 17, 5, 9)
LAYERS = 3


def texts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    rng = random.Random(3)
    return [[rng.randrange(tiny.VOCAB) for _ in range(length)] for length in lengths]


def ask(inputs: list[list[int]], **fields: Any) -> types.EmbedRequest:
    return types.EmbedRequest(inputs=tuple(types.int32(one) for one in inputs), **fields)


def read(result: types.EmbedResult) -> Vectors:
    return np.stack([np.frombuffer(raw, dtype="<f4") for raw in result.vectors])


def compute(core: EngineCore, request: types.EmbedRequest) -> types.EmbedResult:
    running = core.begin_embedding(request)
    while not running.step():
        pass
    running.close()
    return running.result()


def expected(model: Any, inputs: list[list[int]], layer: int, pooling: str) -> Vectors:
    out = []
    for one in inputs:
        with torch.no_grad():
            states_TD = model(torch.tensor([one]), output_hidden_states=True).hidden_states[layer][0]
        out.append({"mean": states_TD.mean(0), "last_token": states_TD[-1], "cls_token": states_TD[0]}[pooling])
    return torch.stack(out).numpy()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_random("qwen2_windows", tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_every_layer_equals_transformers(family: str, tmp_path: Path) -> None:
    core = EngineCore(tiny.save_random(family, tmp_path), "tiny")
    model = tiny.reference(tmp_path)
    for layer in (0, 1, LAYERS, -1):
        got = read(compute(core, ask(texts(), layer=layer)))
        np.testing.assert_allclose(got, expected(model, texts(), layer, "mean"), atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "last_token", "cls_token"])
def test_pooling_equals_the_same_rows_of_transformers(
    pooling: Literal["mean", "last_token", "cls_token"], directory: Path
) -> None:
    result = compute(EngineCore(directory, "tiny"), ask(texts(), pooling=pooling))
    np.testing.assert_allclose(read(result), expected(tiny.reference(directory), texts(), -1, pooling), atol=1e-4)
    assert (result.dimensions, result.tokens, result.weights_version) == (32, sum(LENGTHS), "base")


def test_the_adapter_of_a_run_changes_the_vectors_as_its_merged_model_does(directory: Path, tmp_path: Path) -> None:
    core = EngineCore(directory, "tiny")
    core.open_run(run_specs.make("run_1", tmp_path / "state", learning_rate=0.05, lora_r=4))
    for _ in range(2):
        call = ForwardBackward(run_id="run_1", data=tiny.data((12, 9), seed=1), accumulate=False, loss_fn="causal_lm")
        running = core.begin_training([call])
        while not running.step():
            pass
        assert not isinstance(running.results()[0], errors.TrainyardError)
        core.optim_step("run_1")
    core.save("run_1", "merged", str(tmp_path / "merged"))
    core.save("run_1", "adapter", str(tmp_path / "adapter"))
    wanted = expected(tiny.reference(tmp_path / "merged"), texts(), -1, "mean")
    live = compute(core, ask(texts(), run_id="run_1"))
    saved = compute(core, ask(texts(), adapter_dir=str(tmp_path / "adapter")))
    np.testing.assert_allclose(read(live), wanted, atol=1e-4)
    np.testing.assert_allclose(read(saved), wanted, atol=1e-4)
    assert live.weights_version == "run_1@2"
    assert np.abs(read(live) - read(compute(core, ask(texts())))).max() > 1e-2


def test_vectors_keep_the_weights_of_the_moment_they_were_asked(directory: Path, tmp_path: Path) -> None:
    core = EngineCore(directory, "tiny")
    core.open_run(run_specs.make("run_1", tmp_path / "state", learning_rate=0.05, lora_r=4))
    before = read(compute(core, ask(texts(), run_id="run_1")))
    running = core.begin_embedding(ask(texts(), run_id="run_1"))
    training = core.begin_training(
        [ForwardBackward(run_id="run_1", data=tiny.data((12,), seed=1), accumulate=False, loss_fn="causal_lm")]
    )
    while not training.step():
        pass
    core.optim_step("run_1")
    while not running.step():
        pass
    running.close()
    np.testing.assert_array_equal(read(running.result()), before)
    assert np.abs(read(compute(core, ask(texts(), run_id="run_1"))) - before).max() > 1e-3


def test_many_texts_are_read_in_bounded_steps_and_come_back_in_order(directory: Path) -> None:
    core = EngineCore(directory, "tiny")
    inputs = texts(tuple(1 + n % 200 for n in range(300)))
    together = read(compute(core, ask(inputs, normalize=True)))
    alone = np.concatenate([read(compute(core, ask([one], normalize=True))) for one in inputs[::37]])
    np.testing.assert_allclose(together[::37], alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "layer", "message"),
    [
        ([], -1, "nothing to embed"),
        ([[1], []], -1, r"input\[1\] needs at least one token, all in 0..255"),
        ([[1], [256]], -1, r"input\[1\] needs at least one token"),
        ([[1] * 4097], -1, r"input\[0\] has 4097 tokens; the context of this model holds (2048|4096)"),
        ([[1]], 99, "layer = 99: this model has layers 0"),
        ([[1]], -2, "layer = -2: this model has layers 0"),
    ],
)
async def test_what_cannot_be_embedded_is_refused_by_name(
    inputs: list[list[int]], layer: int, message: str, engine: base.Engine
) -> None:
    with pytest.raises(errors.InvalidRequest, match=message):
        await engine.embed(ask(inputs, layer=layer))


async def test_every_engine_embeds_and_says_the_same_twice(engine: base.Engine) -> None:
    first = await engine.embed(ask([[1, 2, 3], [4], [1, 2, 3]], normalize=True))
    again = await engine.embed(ask([[1, 2, 3], [4], [1, 2, 3]], normalize=True))
    assert first == again
    assert (first.dimensions, first.tokens, first.weights_version) == (read(first).shape[1], 7, "base")
    np.testing.assert_allclose(read(first)[0], read(first)[2], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(read(first), axis=1), 1.0, atol=1e-6)
    assert np.abs(read(first)[0] - read(first)[1]).max() > 1e-3


async def test_pooling_and_layer_matter_in_every_engine(engine: base.Engine) -> None:
    kinds: list[dict[str, Any]] = [{}, {"pooling": "last_token"}, {"pooling": "cls_token"}, {"layer": 0}]
    found = [read(await engine.embed(ask([[1, 2, 3]], **kind)))[0] for kind in kinds]
    assert all(np.abs(a - b).max() > 1e-4 for n, a in enumerate(found) for b in found[:n])


async def test_an_unknown_run_or_adapter_is_not_found(engine: base.Engine) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await engine.embed(ask([[1]], run_id="run_0"))
    assert caught.value.code == "run_not_open"
    with pytest.raises(errors.NotFound) as caught:
        await engine.embed(ask([[1]], adapter_dir="/nowhere"))
    assert caught.value.code == "adapter_not_found"


async def test_streams_go_on_while_texts_are_embedded(make: Make) -> None:
    engine = (await make()).engine
    stream = engine.generate(harness.request(60))
    first = await anext(stream)
    result = await engine.embed(ask([[1] * 200] * 20))
    events = [first, *await harness.rest(stream)]
    assert len(events) == 60
    assert len(result.vectors) == 20
