"""Keys and values of all streams, in pages of one pool: block tables, shared beginnings, what is kept and evicted.

Shape letters: T tokens of one sequence, n pages of one sequence, K key-value heads, P tokens of a page, E head size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as fn
from torch import Tensor

from trainyard.engine.config import ModelConfig
from trainyard.engine.pages import PAGE_TOKENS, Page, PagePool
from trainyard.engine.prefixes import Chain, PrefixIndex


def pages_for(tokens: int) -> int:
    """Count the pages that hold so many tokens."""
    return -(-tokens // PAGE_TOKENS)


class Blocks:
    """The block table of one stream.

    Attributes:
        pages: In order of the text; only the last may be written to, all others may be shared.
        tokens: How many of them are computed.
        chain: Names of its full pages; None = it shares nothing.
        is_front: Whether its pages lie at the front.
    """

    def __init__(self, chain: Chain | None) -> None:
        self.pages: list[Page] = []
        self.tokens = 0
        self.chain = chain
        self.is_front = False

    @property
    def room(self) -> int:
        """Tokens that fit without another page."""
        return len(self.pages) * PAGE_TOKENS


class KvCache:
    """Gives pages to streams, at most `max_bytes` of them; what nobody holds any more is kept while there is room."""

    def __init__(self, cfg: ModelConfig, dtype: torch.dtype, device: torch.device, max_bytes: int) -> None:
        self.pool = PagePool(cfg, dtype, device, max_bytes)
        self.index = PrefixIndex()
        self.max_bytes = self.pool.slots * self.pool.page_bytes
        self.max_tokens = self.pool.slots * PAGE_TOKENS

    @property
    def used_bytes(self) -> int:
        """Bytes of pages that streams hold or that are kept."""
        return self.pool.used * self.pool.page_bytes

    @property
    def available(self) -> int:
        """Pages that can be had now, those included that are only kept."""
        return self.pool.free + self.index.kept

    # ----------------------------------------------------------------- blocks
    def find(self, blocks: Blocks, tokens: Sequence[int], limit: int) -> int:
        """Take over computed pages that continue a table, up to `limit` tokens; returns the tokens found."""
        before = blocks.tokens
        if blocks.chain is None:
            return 0
        while blocks.tokens + PAGE_TOKENS <= limit:
            place = blocks.tokens // PAGE_TOKENS
            found = self.index.find(blocks.chain.name(place, tokens))
            if found is None:
                break
            self._hold(found)
            if place < len(blocks.pages):
                self._release(blocks.pages[place])
                blocks.pages[place] = found
            else:
                blocks.pages.append(found)
            blocks.tokens += PAGE_TOKENS
        return blocks.tokens - before

    def reserve(self, blocks: Blocks, tokens: int) -> bool:
        """Make room for a text of that length; false, and nothing changed, when there are too few pages."""
        missing = pages_for(tokens) - len(blocks.pages)
        if missing > self.available:
            return False
        for _ in range(missing):
            self._make_room()
            page = self.pool.take_front() if blocks.is_front else self.pool.take()
            page.holders = 1
            blocks.pages.append(page)
        return True

    def advance(self, blocks: Blocks, tokens: Sequence[int], computed: int) -> None:
        """Note that the first `computed` tokens of a text are computed; full pages can be found from now on."""
        first, blocks.tokens = blocks.tokens // PAGE_TOKENS, computed
        if blocks.chain is None:
            return
        for place in range(first, computed // PAGE_TOKENS):
            page = blocks.pages[place]
            if page.key is None:
                self.index.add(blocks.chain.name(place, tokens), page, blocks.chain.number)

    def free(self, blocks: Blocks) -> None:
        """Let go of all pages; the last goes first, since a beginning is worth more than what continues it."""
        for page in reversed(blocks.pages):
            self._release(page, is_row=blocks.is_front)
        blocks.pages, blocks.tokens, blocks.is_front = [], 0, False

    def forget_gone(self) -> None:
        """Free what weights computed that are no longer in memory."""
        for page in self.index.evict_gone():
            self.pool.drop(page)

    # ------------------------------------------------------------------ front
    def enter(self, blocks: Blocks) -> bool:
        """Bring a table to the front; false, and nothing changed, when there are too few pages.

        A page that another row reads there already is copied: rows that decode share no pages.
        """
        if sum(self.pool.is_front(page) for page in blocks.pages) > self.available:
            return False
        for place, page in enumerate(blocks.pages):
            if self.pool.is_front(page):
                self._make_room()
                blocks.pages[place] = twin = self.pool.copy_to_front(page)
                twin.holders = 1
                self._release(page)
            else:
                self.pool.to_front(page)
        blocks.is_front = True
        return True

    def leave(self, blocks: Blocks) -> None:
        """Take a table away from the front."""
        for page in reversed(blocks.pages):
            self.pool.leave_front(page)
        blocks.is_front = False

    # ---------------------------------------------------------------- prefill
    def write(self, layer: int, blocks: Blocks, k_TKE: Tensor, v_TKE: Tensor) -> None:
        """Store the stretch that follows the computed tokens, which fill whole pages."""
        count = k_TKE.shape[0]
        first = blocks.tokens // PAGE_TOKENS
        slots = [page.slot for page in blocks.pages[first : first + pages_for(count)]]
        at_n = torch.tensor(slots, device=k_TKE.device)
        for part, new_TKE in enumerate((k_TKE, v_TKE)):
            padded = fn.pad(new_TKE, (0, 0, 0, 0, 0, len(slots) * PAGE_TOKENS - count))
            new_nKPE = padded.view(len(slots), PAGE_TOKENS, *new_TKE.shape[1:]).transpose(1, 2)
            self.pool.data[layer, part].index_copy_(0, at_n, new_nKPE)

    def read(self, layer: int, blocks: Blocks, length: int) -> tuple[Tensor, Tensor]:
        """Give keys and values of the first `length` tokens, each (1, K, T, E)."""
        slots = [page.slot for page in blocks.pages[: pages_for(length)]]
        at_n = torch.tensor(slots, device=self.pool.data.device)
        keys, values = (
            self.pool.data[layer, part].index_select(0, at_n).transpose(0, 1).flatten(1, 2)[None, :, :length]
            for part in (0, 1)
        )
        return keys, values

    # ------------------------------------------------------------------ pages
    def _make_room(self) -> None:
        if not self.pool.free:
            self.pool.drop(self.index.evict())

    def _hold(self, page: Page) -> None:
        page.holders += 1
        self.index.hold(page)

    def _release(self, page: Page, *, is_row: bool = False) -> None:
        page.holders -= 1
        if not page.holders and page.key is None:
            self.pool.drop(page)
            return
        if is_row:
            self.pool.leave_front(page)
        if not page.holders:
            self.index.keep(page)
