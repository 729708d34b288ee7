"""Adapters of a decode batch: every row its own, all of them in two matmuls per fused map.

Shape letters: B rows, D inputs, O outputs, R ranks of all adapters of the batch side by side.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.frozen_maps import FrozenMaps

Stacked = dict[tuple[int, str], tuple[Tensor, Tensor]]
"""(layer, group) -> A (R, D) and scaled B (O, R), block by block."""


class RowAdapters:
    """Rows x adapters as one low-rank map whose inner columns are zeroed where they are not of the row's own adapter.

    Zeroed and not multiplied by 0, so that an overflow in another's columns stays there.

    The stack is kept while the batch needs no adapter outside it, so that a stream that leaves costs nothing.
    """

    def __init__(self, maps: FrozenMaps, dtype: torch.dtype, device: torch.device) -> None:
        self._maps, self._dtype, self._device = maps, dtype, device
        self._members: list[AdapterTensors] = []
        self._stacked: Stacked = {}
        self._owners: dict[str, Tensor] = {}
        self._foreign: dict[str, Tensor | None] = {}
        self._rows: list[AdapterTensors | None] = []

    def arrange(self, rows: Sequence[AdapterTensors | None]) -> None:
        """Prepare for a batch whose row i uses rows[i] (None = base model)."""
        if len(rows) == len(self._rows) and all(a is b for a, b in zip(rows, self._rows, strict=True)):
            return
        self._rows = list(rows)
        needed = list({id(adapter): adapter for adapter in rows if adapter is not None}.values())
        known = {id(member) for member in self._members}
        if any(id(a) not in known for a in needed) or len(self._members) > 2 * len(needed):
            self._members = needed
            self._stack()
        number = {id(member): i for i, member in enumerate(self._members)}
        mine = torch.tensor([number[id(a)] if a is not None else -1 for a in rows], device=self._device)
        is_uniform = len(self._members) == 1 and None not in self._rows
        self._foreign = {group: None if is_uniform else mine[:, None] != owner for group, owner in self._owners.items()}

    def forget(self) -> None:
        """Drop the stack; no stream is left."""
        self._members, self._stacked, self._owners, self._foreign, self._rows = [], {}, {}, {}, []

    def project(self, layer: int, group: str, linear: nn.Linear, x_BD: Tensor) -> Tensor:
        """Apply the frozen map and each row's adapter."""
        y_BO = self._maps.apply(layer, group, linear, x_BD)
        stacked = self._stacked.get((layer, group))
        if stacked is None:
            return y_BO
        a_RD, b_OR = stacked
        h_BR = fn.linear(x_BD, a_RD)
        foreign_BR = self._foreign[group]
        if foreign_BR is not None:
            h_BR.masked_fill_(foreign_BR, 0.0)
        return y_BO.addmm_(h_BR, b_OR.t())

    def _stack(self) -> None:
        owners: dict[str, list[int]] = {}
        pieces: dict[tuple[int, str], list[tuple[AdapterTensors, int]]] = {}
        for number, member in enumerate(self._members):
            for group, parts in member.layout.parts.items():
                owners.setdefault(group, []).extend([number] * len(parts) * member.layout.spec.rank)
            for key in member.groups:
                pieces.setdefault(key, []).append((member, number))
        self._owners = {group: torch.tensor(ids, device=self._device) for group, ids in owners.items()}
        self._stacked = {key: self._stack_one(key, [m for m, _ in found]) for key, found in pieces.items()}

    def _stack_one(self, key: tuple[int, str], members: Sequence[AdapterTensors]) -> tuple[Tensor, Tensor]:
        outputs = members[0].layout.outputs(key[1])
        a_RD = torch.cat([member.groups[key].a_RD for member in members])
        b_OR = torch.zeros(outputs, a_RD.shape[0], device=self._device)
        at = 0
        for member in members:
            views = member.groups[key]
            for part, b_Or in zip(views.parts, views.b_Or, strict=True):
                b_OR[part.o0 : part.o1, at + part.r0 : at + part.r1] = b_Or * member.layout.spec.scale
            at += views.a_RD.shape[0]
        # other rows multiply this by their zeros, which must stay zeros
        return a_RD.to(self._dtype), b_OR.to(self._dtype).nan_to_num_(nan=torch.finfo(self._dtype).max)
