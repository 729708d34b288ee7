"""The adapted linear map of training: one frozen matmul for a packed row, two small ones per adapter's segment.

Shape letters: N tokens of a packed row, n of a segment, D inputs, O outputs, R rank x projections in the fused map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as fn
from torch import Tensor

from trainyard.engine.adapters import AdapterTensors, GroupViews
from trainyard.engine.dropout import DropoutKey, draw_mask


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring rows that belong to one call and so to one adapter.

    Attributes:
        start: First row; stop is the first row after it.
        gradients: Buffer that the gradients of these rows are added to.
        dropout: One key per sequence of the segment; empty = no dropout.
    """

    start: int
    stop: int
    weights: AdapterTensors
    gradients: AdapterTensors
    dropout: tuple[DropoutKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A segment with the tensors of one (layer, group)."""

    start: int
    stop: int
    scale: float
    weights: GroupViews
    gradients: GroupViews
    dropout: tuple[DropoutKey, ...]


def apply_adapter(weights: AdapterTensors, layer: int, group: str, x_nD: Tensor, y_nO: Tensor) -> None:
    """Add an adapter's share to the rows of a frozen map's output, in place, outside training."""
    if group in weights.layout.parts:
        views, scale = weights.groups[layer, group], weights.layout.spec.scale
        _add_adapter(Bound(0, 0, scale, views, views, ()), x_nD, y_nO)


def bind(segments: Sequence[Segment], layer: int, group: str) -> list[Bound]:
    """Pick the segments whose adapter changes this map."""
    return [
        Bound(
            s.start,
            s.stop,
            s.weights.layout.spec.scale,
            s.weights.groups[layer, group],
            s.gradients.groups[layer, group],
            tuple(key.of(layer, group) for key in s.dropout),
        )
        for s in segments
        if group in s.weights.layout.parts
    ]


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + b, plus scale * (x A^T) B^T per segment; gradients of A and B go straight into the segments' buffers.

    `anchor` is a scalar that requires a gradient and never gets one: it keeps the first layer, whose input needs
    none, in the graph.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_OD: Tensor, bias_O: Tensor | None, segments: list[Bound], anchor: Tensor
    ) -> Tensor:
        del anchor
        weight = weight_OD.to(x_ND.dtype)
        y_NO = fn.linear(x_ND, weight, None if bias_O is None else bias_O.to(x_ND.dtype))
        inner = [_add_adapter(s, x_ND[s.start : s.stop], y_NO[s.start : s.stop]) for s in segments]
        ctx.segments = segments
        ctx.save_for_backward(x_ND, weight_OD, *inner)
        return y_NO

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x_ND, weight_OD, *inner = ctx.saved_tensors
        dy_NO = grads[0]
        dx_ND = dy_NO @ weight_OD.to(dy_NO.dtype) if ctx.needs_input_grad[0] else None
        for s, h_nR in zip(ctx.segments, inner, strict=True):
            rows = slice(s.start, s.stop)
            _segment_backward(s, x_ND[rows], h_nR, dy_NO[rows], None if dx_ND is None else dx_ND[rows])
        return dx_ND, None, None, None, None


def _add_adapter(s: Bound, x_nD: Tensor, y_nO: Tensor) -> Tensor:
    """Add the adapter's share to y in place and return h = x A^T."""
    a_RD = s.weights.a_RD.to(x_nD.dtype)
    if s.dropout:
        h_nR = torch.cat([(x_nD * m) @ a_RD[p.r0 : p.r1].t() for p, m in _masks(s, x_nD)], dim=1)
    else:
        h_nR = x_nD @ a_RD.t()
    for part, b_Or in zip(s.weights.parts, s.weights.b_Or, strict=True):
        y_nO[:, part.o0 : part.o1].addmm_(h_nR[:, part.r0 : part.r1], b_Or.to(x_nD.dtype).t(), alpha=s.scale)
    return h_nR


def _segment_backward(s: Bound, x_nD: Tensor, h_nR: Tensor, dy_nO: Tensor, dx_nD: Tensor | None) -> None:
    dtype = dy_nO.dtype
    dh_nR = torch.empty_like(h_nR)
    for part, b_Or, gb_Or in zip(s.weights.parts, s.weights.b_Or, s.gradients.b_Or, strict=True):
        dy = dy_nO[:, part.o0 : part.o1]
        dh_nR[:, part.r0 : part.r1] = dy @ b_Or.to(dtype)
        _accumulate(gb_Or, dy, h_nR[:, part.r0 : part.r1], s.scale)
    dh_nR *= s.scale
    a_RD = s.weights.a_RD.to(dtype)
    if not s.dropout:
        _accumulate(s.gradients.a_RD, dh_nR, x_nD, 1.0)
        if dx_nD is not None:
            dx_nD.addmm_(dh_nR, a_RD)
        return
    for part, mask in _masks(s, x_nD):
        dh = dh_nR[:, part.r0 : part.r1]
        _accumulate(s.gradients.a_RD[part.r0 : part.r1], dh, x_nD * mask, 1.0)
        if dx_nD is not None:
            dx_nD += (dh @ a_RD[part.r0 : part.r1]) * mask


def _accumulate(into: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Add scale * left^T right to a float32 buffer."""
    if left.dtype == into.dtype:
        into.addmm_(left.t(), right, alpha=scale)
    else:
        into.add_(left.t() @ right, alpha=scale)


def _masks(s: Bound, x_nD: Tensor) -> list[tuple[Any, Tensor]]:
    """Draw the dropout masks of each projection again; the same key gives the same mask, so nothing is stored."""
    return [(part, torch.cat([draw_mask(key, part.projection, x_nD) for key in s.dropout])) for part in s.weights.parts]


def lora_linear(
    x_ND: Tensor, weight_OD: Tensor, bias_O: Tensor | None, segments: list[Bound], anchor: Tensor
) -> Tensor:
    """Apply a frozen map with the adapters of `segments` (from `bind`); other rows see the map alone.

    Returns:
        (N, O) in the dtype of x, in which all matmuls are done; gradients of A and B are summed in float32.
    """
    out: Tensor = _LoraLinear.apply(x_ND, weight_OD, bias_O, segments, anchor)  # type: ignore[no-untyped-call]
    return out
