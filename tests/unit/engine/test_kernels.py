import math

import pytest
import torch
from torch import Tensor

from trainyard.engine import kernels


def test_rms_norm_of_a_hand_case() -> None:
    out = kernels.rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)
    root = math.sqrt(12.5)  # mean of 9 and 16
    assert out.tolist()[0] == pytest.approx([3 / root, 8 / root])


def test_rotation_by_a_quarter_turn_swaps_the_pair() -> None:
    x = torch.tensor([[[1.0, 2.0]]])
    out = kernels.rotate(x, torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[-1.0, 1.0]]]))
    assert out.tolist() == [[[-2.0, 1.0]]]


def test_swiglu_of_a_hand_case() -> None:
    out = kernels.swiglu(torch.tensor([[0.0, math.log(3.0), 5.0, 2.0]]))
    assert out.tolist()[0] == pytest.approx([0.0, 2.0 * 0.75 * math.log(3.0)])  # sigmoid(log 3) = 3/4


def _check(ours: Tensor, reference: Tensor, leaves: list[Tensor]) -> None:
    weight = torch.randn(ours.shape)
    mine = torch.autograd.grad((ours * weight).sum(), leaves)
    theirs = torch.autograd.grad((reference * weight).sum(), leaves)
    assert torch.allclose(ours, reference, atol=1e-6)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_gradients_of_rms_norm_equal_autograd() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, 3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    _check(kernels.rms_norm(x, weight, 1e-5), torch.nn.functional.rms_norm(x, (8,), weight, 1e-5), [x, weight])


def test_gradients_of_swiglu_equal_autograd() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 12, requires_grad=True)
    _check(kernels.swiglu(x), torch.nn.functional.silu(x[:, :6]) * x[:, 6:], [x])


def test_gradients_of_the_rotation_equal_autograd() -> None:
    torch.manual_seed(0)
    heads, angle = torch.randn(4, 3, 6, requires_grad=True), torch.randn(4, 1, 3)
    cos, sin = angle.cos(), angle.sin()
    low, high = heads[:, :2, :3], heads[:, :2, 3:]
    expected = torch.cat((low * cos - high * sin, high * cos + low * sin), -1)
    turned, kept = kernels.rotate_heads(heads, torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1), values=1)
    _check(torch.cat((turned, kept), 1), torch.cat((expected, heads[:, 2:]), 1), [heads])


def test_without_gradients_the_same_numbers_come_out() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 8), torch.randn(8)
    with torch.no_grad():
        plain = kernels.rms_norm(x, weight, 1e-5), kernels.swiglu(x)
    assert torch.allclose(plain[0], kernels.rms_norm(x, weight, 1e-5), atol=1e-6)
    assert torch.allclose(plain[1], kernels.swiglu(x))
    half = kernels.rms_norm(x.bfloat16(), weight.bfloat16(), 1e-5)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), plain[0], atol=0.05)
