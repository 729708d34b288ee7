from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainyard.engine import frozen_maps
from trainyard.engine.config import ModelConfig
from trainyard.engine.frozen_maps import FrozenMaps, PackedKernel, find_kernel
from trainyard.engine.model import Decoder

CFG = ModelConfig(
    architecture="Qwen2ForCausalLM", vocab_size=50, hidden_size=24, intermediate_size=40, layers=2, heads=3,
    kv_heads=1, head_dim=8, max_positions=64, qkv_bias=True,
)  # fmt: skip


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    made = Decoder(CFG).requires_grad_(False)
    for block in made.layers:
        block.qkv.bias.normal_()
    return made


def pack(weight: Tensor, rows: int) -> Tensor:
    del rows
    return weight


def refuse(*args: Any) -> Tensor:
    raise NotImplementedError("no kernel for this machine")


def other_numbers(x: Tensor, weight: Tensor, *args: Any) -> Tensor:
    return x @ weight.t()  # the bias is missing


@pytest.mark.parametrize(
    "operators",
    [
        SimpleNamespace(),
        SimpleNamespace(_reorder_linear_weight=pack),
        SimpleNamespace(_reorder_linear_weight=lambda weight: weight, _linear_pointwise=other_numbers),
        SimpleNamespace(_reorder_linear_weight=pack, _linear_pointwise=refuse),
        SimpleNamespace(_reorder_linear_weight=pack, _linear_pointwise=other_numbers),
    ],
    ids=["absent", "half absent", "another signature", "refuses", "other numbers"],
)
def test_operators_that_cannot_be_trusted_are_not_used(operators: SimpleNamespace) -> None:
    assert find_kernel(operators) is None


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch was built without oneDNN")  # type: ignore[no-untyped-call]
def test_the_tested_pytorch_has_the_operators(decoder: Decoder) -> None:
    assert isinstance(find_kernel(), PackedKernel)
    assert FrozenMaps(decoder).is_packed


@pytest.mark.parametrize("rows", [0, 1, 16, 200])
def test_packed_and_plain_maps_give_the_same_numbers(decoder: Decoder, rows: int) -> None:
    packed, plain = FrozenMaps(decoder), FrozenMaps(decoder, find=lambda: None)
    assert not plain.is_packed
    x = torch.randn(rows, CFG.hidden_size)
    qkv = decoder.layers[1].qkv
    torch.testing.assert_close(packed.apply(1, "qkv", qkv, x), qkv(x))
    assert torch.equal(plain.apply(1, "qkv", qkv, x), qkv(x))
    torch.testing.assert_close(packed.logits(x), plain.logits(x))


def test_a_model_over_the_bound_is_held_once(decoder: Decoder) -> None:
    size = sum(p.numel() * p.element_size() for p in decoder.parameters())
    assert frozen_maps.is_packable(decoder, size)
    assert not FrozenMaps(decoder, pack_bytes=size - 1).is_packed


def test_weights_of_another_type_are_held_once(decoder: Decoder) -> None:
    assert not FrozenMaps(decoder.to(torch.bfloat16)).is_packed
