"""AdamW over one flat vector, with moments in float32 or in blocks of 8 bits.

Shape letters: P parameters of a run, K blocks of `BLOCK` numbers.
"""

from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as fn
from torch import Tensor

from trainyard.engine.types import OptimizerName

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""PyTorch's and bitsandbytes' defaults."""
BLOCK = 256
"""Numbers that share one scale; bitsandbytes' size since 0.44 (the paper has 2,048; smaller blocks lose less)."""


class Optimiser(Protocol):
    """Changes parameters by their gradient and keeps its own moments."""

    def step(self, params_P: Tensor, grad_P: Tensor, *, learning_rate: float, weight_decay: float, step: int) -> None:
        """Update params_P in place; `step` counts from 1."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Give the moments as they are (not copies)."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take moments that `state` gave."""
        ...


class AdamW:
    """Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2, with PyTorch's order of operations."""

    def __init__(self, params_P: Tensor) -> None:
        self._first_P, self._second_P = torch.zeros_like(params_P), torch.zeros_like(params_P)

    def step(self, params_P: Tensor, grad_P: Tensor, *, learning_rate: float, weight_decay: float, step: int) -> None:
        """Update params_P in place; `step` counts from 1."""
        adamw_update(params_P, grad_P, self._first_P, self._second_P, learning_rate, weight_decay, step)

    def state(self) -> dict[str, Tensor]:
        """Give both moments."""
        return {"first": self._first_P, "second": self._second_P}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take both moments."""
        self._first_P.copy_(state["first"])
        self._second_P.copy_(state["second"])


def adamw_update(
    params_P: Tensor,
    grad_P: Tensor,
    first_P: Tensor,
    second_P: Tensor,
    learning_rate: float,
    weight_decay: float,
    step: int,
) -> None:
    """Do one AdamW step on parameters and both moments, all in place."""
    params_P.mul_(1.0 - learning_rate * weight_decay)
    first_P.lerp_(grad_P, 1.0 - BETA1)
    second_P.mul_(BETA2).addcmul_(grad_P, grad_P, value=1.0 - BETA2)
    denominator_P = second_P.sqrt().div_((1.0 - BETA2**step) ** 0.5).add_(EPS)
    params_P.addcdiv_(first_P, denominator_P, value=-learning_rate / (1.0 - BETA1**step))


class AdamW8bit:
    """AdamW whose moments rest in 8 bits per number plus one float32 scale per block, on any device.

    Source:
        Dettmers et al. 2022, arXiv:2110.02861: block-wise quantisation (section 2.1) with dynamic tree codes
        (section 1.3); the second moment, never negative, uses the unsigned code.
    """

    def __init__(self, params_P: Tensor) -> None:
        blocks = -(-params_P.numel() // BLOCK)
        self._state = {
            name: torch.zeros(shape, dtype=dtype, device=params_P.device)
            for kind in ("first", "second")
            for name, shape, dtype in (
                (kind, (blocks, BLOCK), torch.uint8),
                (f"{kind}_scale", (blocks, 1), torch.float32),
            )
        }

    def step(self, params_P: Tensor, grad_P: Tensor, *, learning_rate: float, weight_decay: float, step: int) -> None:
        """Unpack the moments, do AdamW's update, pack them again; `step` counts from 1."""
        size = params_P.numel()
        moments = [
            dequantise(self._state[kind], self._state[f"{kind}_scale"], signed=kind == "first").view(-1)[:size]
            for kind in ("first", "second")
        ]
        adamw_update(params_P, grad_P, moments[0], moments[1], learning_rate, weight_decay, step)
        for kind, moment_P in zip(("first", "second"), moments, strict=True):
            codes, scale = quantise(moment_P, signed=kind == "first")
            self._state[kind].copy_(codes)
            self._state[f"{kind}_scale"].copy_(scale)

    def state(self) -> dict[str, Tensor]:
        """Give codes and scales of both moments."""
        return self._state

    def load(self, state: dict[str, Tensor]) -> None:
        """Take codes and scales."""
        for name, tensor in self._state.items():
            tensor.copy_(state[name])


@cache
def code_values(*, signed: bool) -> tuple[float, ...]:
    """List the 256 numbers in [-1, 1] (signed) or [0, 1] that a byte can stand for, ascending.

    A value has e leading zeros that divide by ten, then a linear fraction of the remaining bits: fine near zero, coarse
    near one. The unsigned code leaves zero out: a second moment that is rounded to nothing would make a huge step.
    """
    bits = 7 if signed else 8
    values = {0.0, 1.0} if signed else {1.0}
    for exponent in range(bits):
        steps = 2 ** (bits - 1 - exponent)
        for i in range(steps):
            values.add(10.0**-exponent * (0.1 + 0.9 * (i + 0.5) / steps))
    negative = {-v for v in values if 0.0 < v < 1.0} if signed else set()
    return tuple(sorted(negative | values))


@cache
def _codebook(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    values = torch.tensor(code_values(signed=signed), dtype=torch.float32, device=device)
    return values, (values[1:] + values[:-1]) / 2


def quantise(values_P: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Pack into the nearest codes: (K, BLOCK) uint8 and (K, 1) float32, the largest absolute value of each block."""
    padded = fn.pad(values_P, (0, -values_P.numel() % BLOCK)).view(-1, BLOCK)
    scale_K1 = padded.abs().amax(1, keepdim=True)
    _, borders = _codebook(signed, values_P.device)
    codes = torch.bucketize(padded / scale_K1.clamp_min(1e-38), borders)
    return codes.to(torch.uint8), scale_K1


def dequantise(codes: Tensor, scale_K1: Tensor, *, signed: bool) -> Tensor:
    """Unpack (K, BLOCK) codes to float32."""
    values, _ = _codebook(signed, codes.device)
    return values[codes.long()] * scale_K1


def make(name: OptimizerName, params_P: Tensor) -> Optimiser:
    """Build the optimiser of a run."""
    return AdamW(params_P) if name == "adamw" else AdamW8bit(params_P)
