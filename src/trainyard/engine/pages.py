"""Memory for keys and values in pages: one block of fixed size, in which a page may move.

The pages of the rows that decode lie at the front without gaps, so that one product goes over all of them in memory
order; pages that are being read, parked or kept for later lie behind them, taken from the end (docs/decisions/021).

Shape letters: N slots, K key-value heads, P tokens of a page, E head size.
"""

import heapq
from dataclasses import dataclass

import torch
from torch import Tensor

from trainyard.core import errors
from trainyard.engine.config import ModelConfig

PAGE_TOKENS = 32
"""P. Attention of 16 rows of 69 to 159 tokens (8 heads of 64, one thread) takes 0.57, 0.50, 0.56 ms with 16, 32, 64."""


@dataclass(eq=False, slots=True)
class Page:
    """P tokens of one sequence, in every layer.

    Attributes:
        slot: Where it lies now.
        holders: Streams whose block table names it.
        key: By which others find it; None = nobody can.
    """

    slot: int
    holders: int = 0
    key: bytes | None = None


class PagePool:
    """One tensor (layers, 2, N, K, P, E); `front` slots from the first on belong to rows that decode.

    Memory of slots that were never used is not touched, so on a CPU the system gives it only when it is needed.

    Raises:
        errors.ConfigError: `max_bytes` holds less than two pages.
    """

    def __init__(self, cfg: ModelConfig, dtype: torch.dtype, device: torch.device, max_bytes: int) -> None:
        shape = (cfg.layers, 2, cfg.kv_heads, PAGE_TOKENS, cfg.head_dim)
        self.page_bytes = torch.Size(shape).numel() * dtype.itemsize
        self.slots = max_bytes // self.page_bytes
        if self.slots < 2:
            message = f"engine.kv_max_bytes = {max_bytes} holds less than two pages of {self.page_bytes} bytes"
            raise errors.ConfigError(message, param="engine.kv_max_bytes")
        self.data = torch.empty((*shape[:2], self.slots, *shape[2:]), dtype=dtype, device=device)
        self.front = 0
        self.changes = 0
        """Counts changes of what lies at the front."""
        self._at: dict[int, Page] = {}
        self._free = [-slot for slot in reversed(range(self.slots))]  # a heap; some are taken meanwhile
        self._is_listed = bytearray(b"\x01" * self.slots)

    @property
    def used(self) -> int:
        """Pages that hold something."""
        return len(self._at)

    @property
    def free(self) -> int:
        """Pages that can be taken."""
        return self.slots - len(self._at)

    def take(self) -> Page:
        """Give an empty page behind the front, all zeros; some slot must be free.

        Zeros, because attention gives hidden places the weight 0, and 0 x NaN (of diverged weights) would be NaN.
        """
        page = Page(self._free_slot())
        self._at[page.slot] = page
        self.data[:, :, page.slot].zero_()
        return page

    def take_front(self) -> Page:
        """Give an empty page at the front, all zeros; some slot must be free."""
        page = Page(self._grow_front())
        self._at[page.slot] = page
        self.data[:, :, page.slot].zero_()
        return page

    def copy_to_front(self, page: Page) -> Page:
        """Give a page at the front with the same content; some slot must be free."""
        twin = Page(self._grow_front())
        self._at[twin.slot] = twin
        self.data[:, :, twin.slot] = self.data[:, :, page.slot]
        return twin

    def is_front(self, page: Page) -> bool:
        """Whether a row that decodes reads the page where it lies."""
        return page.slot < self.front

    def to_front(self, page: Page) -> None:
        """Move a page from behind the front to it; what lies there changes places with it."""
        other = self._at.get(self.front)
        if other is None:
            self._move(page, self.front)
        elif other is not page:
            self._swap(page, other)
        self.front += 1
        self.changes += 1

    def leave_front(self, page: Page) -> None:
        """Move a page behind the front, as far away as there is room; the last page of the front closes the gap."""
        last, hole = self._at[self.front - 1], page.slot
        if self.free:
            self._move(page, self._free_slot())
            if last is not page:
                self._move(last, hole)
        elif last is not page:
            self._swap(page, last)
        self.front -= 1
        self.changes += 1

    def drop(self, page: Page) -> None:
        """Free a page; the last page of the front closes the gap when it was there."""
        hole = page.slot
        del self._at[hole]
        if hole < self.front:
            self.front -= 1
            self.changes += 1
        if hole < self.front:
            self._move(self._at[self.front], hole)
        else:
            self._list(hole)

    def _grow_front(self) -> int:
        other = self._at.get(self.front)
        if other is not None:
            self._move(other, self._free_slot())
        self.front += 1
        self.changes += 1
        return self.front - 1

    def _list(self, slot: int) -> None:
        if not self._is_listed[slot]:
            self._is_listed[slot] = True
            heapq.heappush(self._free, -slot)

    def _free_slot(self) -> int:
        """Find the free slot that is farthest from the front."""
        while True:
            slot = -heapq.heappop(self._free)
            self._is_listed[slot] = False
            if slot >= self.front and slot not in self._at:
                return slot

    def _move(self, page: Page, slot: int) -> None:
        self.data[:, :, slot] = self.data[:, :, page.slot]
        del self._at[page.slot]
        self._list(page.slot)
        page.slot = slot
        self._at[slot] = page

    def _swap(self, one: Page, other: Page) -> None:
        kept: Tensor = self.data[:, :, one.slot].clone()
        self.data[:, :, one.slot] = self.data[:, :, other.slot]
        self.data[:, :, other.slot] = kept
        one.slot, other.slot = other.slot, one.slot
        self._at[one.slot], self._at[other.slot] = one, other
