"""Attention of the newest token of every row over the pages at the front of the pool.

Two ways with the same answer. On a CPU in float32, products go over all front pages in memory order, whatever their
owners, and the parts of each row are summed afterwards: nothing is copied or padded, and a long row costs the short
ones nothing. Elsewhere the pages of each row are gathered into one padded tensor for PyTorch's fused attention.

Measured on one thread, 16 rows of 69 to 159 tokens, 8 heads of 64: 0.50 ms (pages in place), 1.3 to 1.8 ms (gathered),
1.0 to 1.2 ms (a slot per row, padded to the longest); with one row of 1,000 tokens among them 0.7, 7.6 and 4.4 ms.

Shape letters: B rows, U pages at the front, n pages of the longest row, K key-value heads, G query heads per key-value
head, P tokens of a page, T = n x P, E head size, H = K x G.
"""

import abc
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as fn
from torch import Tensor

from trainyard.engine.kv_cache import Blocks, KvCache
from trainyard.engine.pages import PAGE_TOKENS


class RowAttention(abc.ABC):
    """Stores the new keys and values of all rows, layer by layer, and attends."""

    def __init__(self, cache: KvCache, windows: Iterable[int | None]) -> None:
        self._pool = cache.pool
        self._windows = frozenset(windows)
        self._heads = cache.pool.data.shape[3]
        self._device = cache.pool.data.device
        self._head_K = torch.arange(self._heads) * PAGE_TOKENS
        self._write_at = torch.empty(0, dtype=torch.int64)
        self._masks: dict[int | None, Tensor] = {}
        self._known: tuple[int, list[Blocks], int] = (-1, [], 0)

    def begin(self, rows: Sequence[Blocks]) -> Tensor:
        """Prepare for the next token of rows whose pages lie at the front, with room for it; gives its places (B,)."""
        pages = sum(len(row.pages) for row in rows)
        if self._known != (self._pool.changes, rows, pages):
            self._arrange(rows)
            self._known = (self._pool.changes, list(rows), pages)
        places = [row.tokens for row in rows]
        self._write_at = self._writes(rows, places)
        at_B = torch.tensor(places, device=self._device)
        self._masks = {window: self._mask(at_B, window) for window in self._windows}
        return at_B

    def _writes(self, rows: Sequence[Blocks], places: Sequence[int]) -> Tensor:
        """Find where the new token of each row goes in (N x K x P), head by head."""
        per_page = self._heads * PAGE_TOKENS
        first = [
            row.pages[place // PAGE_TOKENS].slot * per_page + place % PAGE_TOKENS
            for row, place in zip(rows, places, strict=True)
        ]
        return (torch.tensor(first)[:, None] + self._head_K).flatten().to(self._device)

    def attend(self, layer: int, q_BHE: Tensor, k_BKE: Tensor, v_BKE: Tensor, window: int | None) -> Tensor:
        """Store one token per row and attend to it and all before it: (B, H * E)."""
        keys, values = self._pool.data[layer, 0], self._pool.data[layer, 1]
        size = k_BKE.shape[-1]
        keys.view(-1, size).index_copy_(0, self._write_at, k_BKE.reshape(-1, size))
        values.view(-1, size).index_copy_(0, self._write_at, v_BKE.reshape(-1, size))
        return self._attend(q_BHE, keys, values, self._masks[window])

    @abc.abstractmethod
    def _arrange(self, rows: Sequence[Blocks]) -> None:
        """Prepare what depends on the block tables alone."""

    @abc.abstractmethod
    def _mask(self, at_B: Tensor, window: int | None) -> Tensor:
        """Build what is added to the scores: 0 where a row may look, -inf elsewhere."""

    @abc.abstractmethod
    def _attend(self, q_BHE: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attend over one layer of the pool, each of keys and values (N, K, P, E)."""


def hidden(distance: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """Turn distances from the newest token back to each place into 0 or -inf."""
    is_hidden = distance < 0
    if window is not None:
        is_hidden |= distance >= window
    return torch.zeros(distance.shape, dtype=dtype, device=distance.device).masked_fill_(is_hidden, -torch.inf)


class PagesInPlace(RowAttention):
    """Works on every page where it lies.

    Source:
        Partial attention combined by its own maxima and sums: Milakov and Gimelshein 2018, arXiv:1805.02867; over parts
        of the keys as in Dao et al. 2023, "Flash-Decoding".
    """

    def _arrange(self, rows: Sequence[Blocks]) -> None:
        pages = [(page.slot, row, place) for row, b in enumerate(rows) for place, page in enumerate(b.pages)]
        count, longest = len(pages), max(len(b.pages) for b in rows)
        owner, place_of = [0] * count, [0] * count
        # rows with fewer pages name their first one again, which changes no maximum
        table = [b.pages[place if place < len(b.pages) else 0].slot for b in rows for place in range(longest)]
        for slot, row, place in pages:
            owner[slot], place_of[slot] = row, place
        self._owner_U = torch.tensor(owner)
        self._start_U1 = torch.tensor(place_of)[:, None] * PAGE_TOKENS - torch.arange(PAGE_TOKENS).neg()
        self._bag_U = torch.tensor([slot for slot, _, _ in pages])
        firsts = [0]
        for b in rows[:-1]:
            firsts.append(firsts[-1] + len(b.pages))
        self._firsts_B = torch.tensor(firsts)
        self._table_Bn = torch.tensor(table)
        self._causal: Tensor | None = None

    def _mask(self, at_B: Tensor, window: int | None) -> Tensor:
        if window is None and self._causal is not None:  # of the last tick: one place more can be seen in each row
            self._causal.view(-1).index_fill_(0, self._write_at, 0.0)
            return self._causal
        distance_UP = at_B[self._owner_U][:, None] - self._start_U1
        mask_UP = hidden(distance_UP, window, self._pool.data.dtype)
        mask_XP = mask_UP.repeat_interleave(self._heads, 0)[:, None]
        if window is None:
            self._causal = mask_XP
        return mask_XP

    def _attend(self, q_BHE: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        rows, heads, size = q_BHE.shape
        pages, groups = len(self._owner_U), heads // self._heads
        keys_XPE, values_XPE = (t[:pages].view(-1, PAGE_TOKENS, size) for t in (keys, values))  # X = U x K
        q_XGE = q_BHE.reshape(rows, -1).index_select(0, self._owner_U).view(-1, groups, size)
        scores_XGP = torch.baddbmm(mask, q_XGE, keys_XPE.transpose(1, 2), alpha=size**-0.5)
        peak_UH = scores_XGP.view(pages, heads, PAGE_TOKENS).amax(-1)
        peak_BH = peak_UH.index_select(0, self._table_Bn).view(rows, -1, heads).amax(1)
        scores_XGP.sub_(peak_BH.index_select(0, self._owner_U).view(-1, groups, 1)).exp_()
        parts_UD = torch.bmm(scores_XGP, values_XPE).view(pages, -1)
        weights_UH = scores_XGP.sum(-1).view(pages, heads)
        sum_BD, weight_BH = (
            torch.embedding_bag(part, self._bag_U, self._firsts_B, False, 0)[0] for part in (parts_UD, weights_UH)
        )
        return sum_BD.view(rows, heads, size).mul_(weight_BH.reciprocal_()[:, :, None]).view(rows, -1)


class GatheredPages(RowAttention):
    """Copies the pages of every row side by side, for PyTorch's fused attention."""

    def _arrange(self, rows: Sequence[Blocks]) -> None:
        longest = max(len(b.pages) for b in rows)
        # the tail repeats a page of the row's own, so that nothing of another can turn a hidden 0 into NaN
        tables = [[page.slot for page in b.pages] + [b.pages[0].slot] * (longest - len(b.pages)) for b in rows]
        self._table_Bn = torch.tensor(tables, device=self._device)

    def _mask(self, at_B: Tensor, window: int | None) -> Tensor:
        places_T = torch.arange(self._table_Bn.shape[1] * PAGE_TOKENS, device=self._device)
        return hidden(at_B[:, None] - places_T, window, self._pool.data.dtype)[:, None, None]

    def _attend(self, q_BHE: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        rows, heads, size = q_BHE.shape
        at = self._table_Bn.flatten()
        keys_BKTE, values_BKTE = (
            t.index_select(0, at).view(rows, -1, *t.shape[1:]).transpose(1, 2).flatten(2, 3) for t in (keys, values)
        )
        q_BKGE = q_BHE.reshape(rows, self._heads, heads // self._heads, size)
        return fn.scaled_dot_product_attention(q_BKGE, keys_BKTE, values_BKTE, attn_mask=mask).reshape(rows, -1)


def choose(cache: KvCache, windows: Iterable[int | None]) -> RowAttention:
    """Take the way that is faster on the device of the pool."""
    data = cache.pool.data
    on_cpu = data.device.type == "cpu" and data.dtype == torch.float32
    return (PagesInPlace if on_cpu else GatheredPages)(cache, windows)
