"""LoRA adapters of many runs over one frozen decoder, each in one flat buffer.

Shape letters: D inputs of a fused map, O its outputs, R rank x number of adapted projections in that map, r rank.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainyard.core import errors
from trainyard.engine.config import ModelConfig
from trainyard.engine.model import projection_groups
from trainyard.engine.types import PROJECTIONS


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """What fixes the shape and the scale of an adapter.

    Attributes:
        alpha: The product B A is scaled by alpha / rank.
        dropout: Probability with which an input of A is zeroed while training.
        targets: Names out of `types.PROJECTIONS`.
    """

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank


@dataclass(frozen=True, slots=True)
class Part:
    """One projection inside a fused map: its rows of A (and columns of h), and its outputs."""

    projection: str
    r0: int
    r1: int
    o0: int
    o1: int


@dataclass(frozen=True, slots=True)
class GroupViews:
    """A and B of one fused map of one layer, as views of a flat buffer; A of all its projections is one matrix."""

    parts: tuple[Part, ...]
    a_RD: Tensor
    b_Or: tuple[Tensor, ...]


class AdapterLayout:
    """Where A and B of every layer and projection lie in the flat buffer of a run.

    Raises:
        errors.InvalidRequest: A target that a layer of this model does not have, or none.
    """

    def __init__(self, cfg: ModelConfig, spec: AdapterSpec) -> None:
        unknown = sorted(set(spec.targets) - set(PROJECTIONS))
        if unknown or not spec.targets:
            raise errors.InvalidRequest(
                f"target modules {unknown or '(none)'} are not possible; choose from {', '.join(PROJECTIONS)}",
                param="lora_target_modules",
            )
        self.cfg, self.spec = cfg, spec
        self.parts = {name: parts for name, parts in self._parts().items() if parts}
        self._inputs = {"qkv": cfg.hidden_size, "o": cfg.heads * cfg.head_dim, "gate_up": cfg.hidden_size}
        self._inputs["down"] = cfg.intermediate_size
        self.size = cfg.layers * sum(self._group_size(group) for group in self.parts)

    def _parts(self) -> dict[str, tuple[Part, ...]]:
        found = {}
        for group, projections in projection_groups(self.cfg).items():
            wanted = [name for name in projections if name in self.spec.targets]
            rank = self.spec.rank
            found[group] = tuple(Part(n, i * rank, (i + 1) * rank, *projections[n]) for i, n in enumerate(wanted))
        return found

    def outputs(self, group: str) -> int:
        """Count the outputs of a whole fused map, adapted or not."""
        return max(stop for _, stop in projection_groups(self.cfg)[group].values())

    def _group_size(self, group: str) -> int:
        parts, rank = self.parts[group], self.spec.rank
        return rank * (len(parts) * self._inputs[group] + sum(p.o1 - p.o0 for p in parts))

    def views(self, flat: Tensor) -> dict[tuple[int, str], GroupViews]:
        """Cut a flat buffer of `size` numbers into A and B of every (layer, group)."""
        out, at = {}, 0
        for layer in range(self.cfg.layers):
            for group, parts in self.parts.items():
                width, rows = self._inputs[group], self.spec.rank * len(parts)
                a_RD = flat[at : at + rows * width].view(rows, width)
                at += rows * width
                b_Or = []
                for part in parts:
                    count = (part.o1 - part.o0) * self.spec.rank
                    b_Or.append(flat[at : at + count].view(-1, self.spec.rank))
                    at += count
                out[layer, group] = GroupViews(parts, a_RD, tuple(b_Or))
        return out


class AdapterTensors:
    """A flat buffer with its views: the weights of an adapter at one moment, or gradients of the same shape.

    Attributes:
        readers: Live streams that hold these weights; while there are any, an optimiser step writes a new buffer.
    """

    def __init__(self, layout: AdapterLayout, flat: Tensor) -> None:
        self.layout, self.flat, self.readers = layout, flat, 0

    @cached_property
    def groups(self) -> dict[tuple[int, str], GroupViews]:
        """The views by (layer, group)."""
        return self.layout.views(self.flat)

    def successor(self) -> "AdapterTensors":
        """Give the object that the next optimiser step changes: a copy while a stream reads this one."""
        if self.readers:
            return AdapterTensors(self.layout, self.flat.clone())
        heir = AdapterTensors(self.layout, self.flat)
        heir.groups = self.groups
        return heir

    def projections(self) -> Iterator[tuple[int, str, str, Tensor, Tensor]]:
        """Yield (layer, group, projection, A (r, D), B (outputs, r))."""
        for (layer, group), views in self.groups.items():
            for part, b_Or in zip(views.parts, views.b_Or, strict=True):
                yield layer, group, part.projection, views.a_RD[part.r0 : part.r1], b_Or


def zeros(layout: AdapterLayout, device: torch.device) -> AdapterTensors:
    """Make a float32 buffer of zeros."""
    return AdapterTensors(layout, torch.zeros(layout.size, device=device))


def initial(layout: AdapterLayout, seed: int, device: torch.device) -> AdapterTensors:
    """Draw A as PEFT does and leave B zero; the same seed gives the same numbers on every device.

    Source:
        PEFT `LoraLayer.reset_lora_parameters`: kaiming_uniform with a = sqrt(5), which is uniform in +-1 / sqrt(D).
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = zeros(layout, torch.device("cpu"))
    for _, _, _, a_rD, _ in tensors.projections():
        bound = 1.0 / math.sqrt(a_rD.shape[1])
        a_rD.uniform_(-bound, bound, generator=generator)
    return AdapterTensors(layout, tensors.flat.to(device))
