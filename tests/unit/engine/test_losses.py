import math

import pytest
import torch

from trainyard.core import errors
from trainyard.engine import head, losses
from trainyard.engine.losses import LossInputs


def test_causal_lm_of_a_hand_case() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5])
    out = losses.causal_lm(logprobs, LossInputs(torch.tensor([1.0, 0.5, 2.0])))
    assert out.tolist() == [1.0, 1.0, 1.0]


def test_both_names_are_one_loss_and_an_unknown_name_lists_them() -> None:
    assert losses.by_name("causal_lm") is losses.by_name("cross_entropy")
    with pytest.raises(errors.InvalidRequest, match="causal_lm, cross_entropy"):
        losses.by_name("dpo")


def test_the_head_of_a_hand_case() -> None:
    hidden, weight = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    inputs = LossInputs(torch.tensor([2.0]))
    loss, gradient = head.loss_and_gradient(hidden, weight, torch.tensor([0]), inputs, losses.causal_lm)
    assert float(loss) == pytest.approx(2.0 * math.log(4 / 3))  # p(target) = 3 / (3 + 1)
    assert gradient.tolist()[0] == pytest.approx([-0.5 * math.log(3.0), 0.0])  # 2 x (3/4 - 1) x log 3


def test_the_gradient_of_the_head_equals_autograd_over_several_chunks() -> None:
    torch.manual_seed(0)
    rows, vocab = 3 * head.chunk_rows(200_000) + 5, 200_000
    hidden = torch.randn(rows, 4, requires_grad=True)
    weight, targets = torch.randn(vocab, 4), torch.randint(vocab, (rows,))
    weights = torch.rand(rows)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="none") * weights
    (slope,) = torch.autograd.grad(expected.sum(), hidden)
    loss, gradient = head.loss_and_gradient(hidden.detach(), weight, targets, LossInputs(weights), losses.causal_lm)
    assert torch.allclose(loss, expected.detach(), atol=1e-5)
    assert torch.allclose(gradient, slope, atol=1e-5)
    plain = head.logprobs(hidden.detach(), weight, targets)
    assert torch.allclose(-plain * weights, expected.detach(), atol=1e-5)
