"""The frozen matrices as the sampler applies them: plain, or packed for few rows.

A decode step multiplies each matrix by a handful of rows. Measured on one thread at 16 rows (512 x 2,752, float32):
PyTorch's own matmul reaches 42 GFLOP/s, oneDNN's on a matrix in its blocked layout 73. The blocked copy doubles the
memory of the weights, so it is made for small models only; frozen weights never change, so it is never stale
(docs/decisions/003).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from trainyard.engine.model import Decoder

PACK_BYTES = 1 << 30
"""Largest total of weights that are held a second time in packed form."""
PACKED_ROWS = 16
"""Rows that the layout is made for; it was within 5 % of the best one at every size from 1 to 128."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PackedKernel:
    """oneDNN's product with a matrix in its own blocked layout.

    Attributes:
        pack: (weight (O, D), rows to expect) -> the blocked copy.
        multiply: (x (M, D), blocked copy, bias (O,) or None, "none", [], "") -> x W^T + b, (M, O); the operator
            reads a bias with gaps as if it had none.
    """

    pack: Callable[[Tensor, int], Tensor]
    multiply: Callable[[Tensor, Tensor, Tensor | None, str, list[float], str], Tensor]


def find_kernel(operators: Any = torch.ops.mkldnn) -> PackedKernel | None:
    """Try PyTorch's private operators on a small product; None when they are absent, refuse, or give other numbers."""
    x, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        kernel = PackedKernel(operators._reorder_linear_weight, operators._linear_pointwise)
        got = kernel.multiply(x, kernel.pack(weight, PACKED_ROWS), bias, "none", [], "")
    except (AttributeError, RuntimeError, TypeError) as error:
        _log.warning("packed_weights_off", reason=str(error))
        return None
    if not torch.allclose(got, fn.linear(x, weight, bias)):
        _log.warning("packed_weights_off", reason="the operators give other numbers")
        return None
    return kernel


class FrozenMaps:
    """Applies the fused maps and the head of a decoder, without gradients.

    Args:
        decoder: Whose weights are applied; frozen from here on.
        find: Looks for the packed kernel; asked only where packing is possible and affordable.
        pack_bytes: Larger models stay plain.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        find: Callable[[], PackedKernel | None] = find_kernel,
        pack_bytes: int = PACK_BYTES,
    ) -> None:
        self._decoder = decoder
        self._packed: dict[tuple[int, str], Tensor] = {}
        self._head: Tensor | None = None
        self._kernel = find() if is_packable(decoder, pack_bytes) else None
        if self._kernel is not None:
            for block in decoder.layers:
                for group in ("qkv", "o", "gate_up", "down"):
                    self._packed[block.layer, group] = self._kernel.pack(
                        getattr(block, group).weight.detach(), PACKED_ROWS
                    )
            self._head = self._kernel.pack(decoder.output.detach(), PACKED_ROWS)

    @property
    def is_packed(self) -> bool:
        """Whether a blocked copy of the weights is held."""
        return self._kernel is not None

    def apply(self, layer: int, group: str, linear: nn.Linear, x: Tensor) -> Tensor:
        """Compute x W^T + b of a fused map."""
        packed = self._packed.get((layer, group))
        if self._kernel is None or packed is None or not len(x):
            return fn.linear(x, linear.weight, linear.bias)
        return self._kernel.multiply(x, packed, linear.bias, "none", [], "")

    def logits(self, h_MD: Tensor) -> Tensor:
        """Compute (M, V) float32 logits of normed hidden states."""
        if self._kernel is None or self._head is None or not len(h_MD):
            return fn.linear(h_MD, self._decoder.output).float()
        return self._kernel.multiply(h_MD, self._head, None, "none", [], "")


def is_packable(decoder: Decoder, pack_bytes: int = PACK_BYTES) -> bool:
    """Whether packing is possible (float32 on a CPU with oneDNN) and affordable."""
    size = sum(p.numel() * p.element_size() for p in decoder.parameters())
    has_kernel = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_kernel and decoder.device.type == "cpu" and decoder.dtype == torch.float32 and size <= pack_bytes
