import pytest
import torch

from trainyard.engine import optimisers
from trainyard.engine.types import OptimizerName


def test_the_first_step_of_a_hand_case() -> None:
    params, grad = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -4.0])
    optimisers.AdamW(params).step(params, grad, learning_rate=0.1, weight_decay=0.5, step=1)
    # decay by 1 - 0.1 x 0.5, then 0.1 x sign(gradient), since both corrected moments are the gradient itself
    assert params.tolist() == pytest.approx([0.85, -1.8], abs=1e-6)


def test_adamw_equals_torch() -> None:
    torch.manual_seed(0)
    ours = torch.randn(1000)
    theirs = ours.clone().requires_grad_()
    mine, reference = optimisers.AdamW(ours), torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for step in range(1, 30):
        grad = torch.randn(1000)
        mine.step(ours, grad.clone(), learning_rate=0.01, weight_decay=0.1, step=step)
        theirs.grad = grad
        reference.step()
    assert torch.allclose(ours, theirs.detach(), atol=1e-6)


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_256_ascending_numbers(signed: bool) -> None:
    values = optimisers.code_values(signed=signed)
    assert len(set(values)) == 256
    assert list(values) == sorted(values)
    assert values[-1] == 1.0
    assert (0.0 in values) == signed


def test_packing_keeps_the_extremes_and_the_relative_size_of_the_rest() -> None:
    torch.manual_seed(0)
    values = torch.randn(1000) * torch.logspace(-4, 2, 1000)
    again = optimisers.dequantise(*optimisers.quantise(values, signed=True), signed=True).view(-1)[:1000]
    blocks, errors = torch.split(values, 256), torch.split(again - values, 256)
    for block, error in zip(blocks, errors, strict=True):
        assert error.abs().max() <= block.abs().max() * 0.01  # half the widest gap between two codes, 0.014 / 2


def test_zero_moments_stay_zero() -> None:
    again = optimisers.dequantise(*optimisers.quantise(torch.zeros(300), signed=False), signed=False)
    assert not again.any()


def _descend(kind: OptimizerName) -> tuple[float, optimisers.Optimiser]:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(64, 40, generator=generator)
    goal = matrix @ torch.randn(40, generator=generator)
    params = torch.zeros(40)
    optimiser = optimisers.make(kind, params)
    for step in range(1, 301):
        grad = matrix.t() @ (matrix @ params - goal) / 64
        optimiser.step(params, grad, learning_rate=0.02, weight_decay=0.0, step=step)
    return float((matrix @ params - goal).square().mean()), optimiser


def test_eight_bit_moments_converge_like_full_ones_in_a_third_of_the_memory() -> None:
    full, wide = _descend("adamw")
    packed, narrow = _descend("adamw_8bit")
    start = 40.0  # about the mean square of the goal
    assert full < 0.01 * start
    assert packed < 0.02 * start
    params = torch.zeros(100_000)
    sizes = [sum(t.nbytes for t in optimisers.make(kind, params).state().values()) for kind in ("adamw", "adamw_8bit")]
    assert sizes[1] < sizes[0] / 3
    assert {t.dtype for t in wide.state().values()} == {torch.float32}
    assert torch.uint8 in {t.dtype for t in narrow.state().values()}


@pytest.mark.parametrize("kind", ["adamw", "adamw_8bit"])
def test_loaded_moments_go_on_exactly(kind: OptimizerName) -> None:
    torch.manual_seed(0)
    params, grads = torch.randn(700), torch.randn(4, 700)
    first = optimisers.make(kind, params)
    for step in (1, 2):
        first.step(params, grads[step - 1], learning_rate=0.1, weight_decay=0.1, step=step)
    copy, second = params.clone(), optimisers.make(kind, params)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for step in (3, 4):
        first.step(params, grads[step - 1].clone(), learning_rate=0.1, weight_decay=0.1, step=step)
        second.step(copy, grads[step - 1].clone(), learning_rate=0.1, weight_decay=0.1, step=step)
    assert torch.equal(params, copy)
