"""Dropout masks that are a function of a key, so that they depend on no neighbour and can be drawn again."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DropoutKey:
    """Names the masks of one sequence of one call.

    Attributes:
        seed: Of the run.
        call: How many `forward_backward` calls the run finished before; part of its durable state.
        sequence: Position of the sequence in its call.
        rows: Positions (in the sequence) whose mask is wanted, None = the first `length`.
    """

    probability: float
    seed: int
    call: int
    sequence: int
    length: int
    rows: Tensor | None = None
    layer: int = 0
    group: str = ""

    def of(self, layer: int, group: str) -> "DropoutKey":
        """Name the masks of one fused map."""
        return replace(self, layer=layer, group=group)

    def keeping(self, rows: Tensor) -> "DropoutKey":
        """Name the masks of some positions only."""
        return replace(self, rows=rows)


def draw_mask(key: DropoutKey, projection: str, like_nD: Tensor) -> Tensor:
    """Draw (n, D): 0 with the key's probability p, else 1 / (1 - p); n is the key's length or number of rows."""
    text = f"{key.seed} {key.call} {key.sequence} {key.layer} {projection}".encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    generator = torch.Generator(like_nD.device).manual_seed(seed)
    draw = torch.rand(key.length, like_nD.shape[1], generator=generator, device=like_nD.device)
    kept = (draw >= key.probability).to(like_nD.dtype).div_(1.0 - key.probability)
    return kept if key.rows is None else kept[key.rows]
