"""Losses over the log-probabilities of target tokens: one pure function each, all with one signature.

Shape letters: M weighted positions of one call.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from trainyard.core import errors


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What a loss may read beside the log-probabilities.

    Attributes:
        weights_M: (M,) float32, > 0.
    """

    weights_M: Tensor


Loss = Callable[[Tensor, LossInputs], Tensor]
"""(logprobs_M float32, inputs) -> (M,) float32 summands; differentiable in logprobs_M, element by element."""


def causal_lm(logprobs_M: Tensor, inputs: LossInputs) -> Tensor:
    """Weigh the negative log-likelihood of each target.

    Source:
        The cross entropy between the one-hot target and the model's distribution, -w log p(target).
    """
    return -inputs.weights_M * logprobs_M


LOSSES: dict[str, Loss] = {"causal_lm": causal_lm, "cross_entropy": causal_lm}


def by_name(name: str) -> Loss:
    """Find a loss; errors.InvalidRequest names the known ones."""
    if name not in LOSSES:
        raise errors.InvalidRequest(f"loss_fn {name!r} is unknown; known are {', '.join(LOSSES)}", param="loss_fn")
    return LOSSES[name]
