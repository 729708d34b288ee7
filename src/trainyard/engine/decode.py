"""One token for every row that decodes.

Shape letters: B rows, D hidden size, H query heads, K key-value heads, E head size, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainyard.engine import page_attention
from trainyard.engine.frozen_maps import FrozenMaps
from trainyard.engine.kernels import rms_norm
from trainyard.engine.kv_cache import Blocks, KvCache
from trainyard.engine.model import Decoder
from trainyard.engine.row_adapters import RowAdapters


class DecodeStep:
    """Feeds each row its newest token and gives the logits of the next one."""

    def __init__(self, decoder: Decoder, maps: FrozenMaps, cache: KvCache, adapters: RowAdapters) -> None:
        self._decoder, self._maps, self._adapters = decoder, maps, adapters
        self._attention = page_attention.choose(cache, {None, *decoder.cfg.windows})

    def run(self, tokens: Sequence[int], rows: Sequence[Blocks]) -> Tensor:
        """Compute (B, V) float32 logits.

        Args:
            tokens: Newest token of each row; everything before it is computed.
            rows: Their block tables, at the front, with room for one token more.
        """
        decoder, device = self._decoder, self._decoder.device
        at_B = self._attention.begin(rows)
        cos_PE, sin_PE = decoder.rope.upto(max(row.tokens for row in rows) + 1, device)
        rotary = cos_PE[at_B][:, None], sin_PE[at_B][:, None]
        x_BD: Tensor = decoder.embed(torch.tensor(tokens, device=device))
        for block in decoder.layers:
            x_BD = block(x_BD, rotary, self._attend, self._adapters.project)
        return self._maps.logits(rms_norm(x_BD, decoder.norm, decoder.cfg.rms_eps))

    def _attend(self, layer: int, q_BHE: Tensor, k_BKE: Tensor, v_BKE: Tensor) -> Tensor:
        return self._attention.attend(layer, q_BHE, k_BKE, v_BKE, self._decoder.cfg.window(layer))
