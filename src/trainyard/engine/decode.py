"""One token for every stream in the cache.

Shape letters: B rows (slots in use), T cached tokens, D hidden size, H query heads, K key-value heads, G = H / K,
E head size, V vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as fn
from torch import Tensor

from trainyard.engine.frozen_maps import FrozenMaps
from trainyard.engine.kernels import rms_norm
from trainyard.engine.kv_cache import KvCache
from trainyard.engine.model import Decoder
from trainyard.engine.row_adapters import RowAdapters


class DecodeStep:
    """Feeds each slot its newest token and gives the logits of the next one.

    Feeding a slot the same token at the same position again (a parked stream) changes nothing.
    """

    def __init__(self, decoder: Decoder, maps: FrozenMaps, cache: KvCache, adapters: RowAdapters) -> None:
        self._decoder, self._maps, self._cache, self._adapters = decoder, maps, cache, adapters
        self._length = 0
        self._masks: dict[int | None, Tensor] = {}

    def run(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Compute (B, V) float32 logits.

        Args:
            tokens: Newest token of each slot.
            positions: Its place in its sequence; everything before is in the cache.
        """
        decoder, device = self._decoder, self._decoder.device
        self._length = max(positions) + 1
        self._cache.reserve(self._length)
        self._cache.begin_token(positions)
        at_B = torch.tensor(positions, device=device)
        self._masks = {window: self._mask(at_B, window) for window in {None, *decoder.cfg.windows}}
        cos_PE, sin_PE = decoder.rope.upto(self._length, device)
        rotary = cos_PE[at_B][:, None], sin_PE[at_B][:, None]
        x_BD: Tensor = decoder.embed(torch.tensor(tokens, device=device))
        for block in decoder.layers:
            x_BD = block(x_BD, rotary, self._attend, self._adapters.project)
        return self._maps.logits(rms_norm(x_BD, decoder.norm, decoder.cfg.rms_eps))

    def _mask(self, at_B: Tensor, window: int | None) -> Tensor:
        """Build (B, 1, 1, T): 0 where a row may look, -inf elsewhere."""
        distance_BT = at_B[:, None] - torch.arange(self._length, device=at_B.device)
        is_hidden_BT = (distance_BT < 0) | (distance_BT >= (window or self._length))
        mask_BT = torch.zeros(is_hidden_BT.shape, dtype=self._decoder.dtype, device=at_B.device)
        return mask_BT.masked_fill_(is_hidden_BT, -torch.inf)[:, None, None]

    def _attend(self, layer: int, q_BHE: Tensor, k_BKE: Tensor, v_BKE: Tensor) -> Tensor:
        keys_BKTE, values_BKTE = self._cache.append(layer, k_BKE, v_BKE, self._length)
        rows, heads, size = q_BHE.shape
        q_BKGE = q_BHE.reshape(rows, k_BKE.shape[1], heads // k_BKE.shape[1], size)
        mask = self._masks[self._decoder.cfg.window(layer)]
        return fn.scaled_dot_product_attention(q_BKGE, keys_BKTE, values_BKTE, attn_mask=mask).view(rows, heads * size)
