"""The frozen matrices as the sampler applies them: plain, or packed for few rows.

A decode step multiplies each matrix by a handful of rows. Measured on one thread at 16 rows (512 x 2,752, float32):
PyTorch's own matmul reaches 42 GFLOP/s, oneDNN's on a matrix in its blocked layout 73. The blocked copy doubles the
memory of the weights, so it is made for small models only; frozen weights never change, so it is never stale.
"""

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from trainyard.engine.model import Decoder

PACK_BYTES = 1 << 30
"""Largest total of weights that are held a second time in packed form."""
PACKED_ROWS = 16
"""Rows that the layout is made for; it was within 5 % of the best one at every size from 1 to 128."""


class FrozenMaps:
    """Applies the fused maps and the head of a decoder, without gradients."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._packed: dict[tuple[int, str], Tensor] = {}
        self._head: Tensor | None = None
        if is_packable(decoder):
            for block in decoder.layers:
                for group in ("qkv", "o", "gate_up", "down"):
                    self._packed[block.layer, group] = _pack(getattr(block, group).weight)
            self._head = _pack(decoder.output)

    def apply(self, layer: int, group: str, linear: nn.Linear, x: Tensor) -> Tensor:
        """Compute x W^T + b of a fused map."""
        packed = self._packed.get((layer, group))
        if packed is None or not len(x):
            return fn.linear(x, linear.weight, linear.bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, linear.bias, "none", [], "")
        return out

    def logits(self, h_MD: Tensor) -> Tensor:
        """Compute (M, V) float32 logits of normed hidden states."""
        if self._head is None or not len(h_MD):
            return fn.linear(h_MD, self._decoder.output).float()
        out: Tensor = torch.ops.mkldnn._linear_pointwise(h_MD, self._head, None, "none", [], "")
        return out


def is_packable(decoder: Decoder) -> bool:
    """Whether packing is possible (float32 on a CPU with oneDNN) and affordable."""
    size = sum(p.numel() * p.element_size() for p in decoder.parameters())
    has_kernel = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_kernel and decoder.device.type == "cpu" and decoder.dtype == torch.float32 and size <= PACK_BYTES


def _pack(weight_OD: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OD.detach(), PACKED_ROWS)
    return out
