"""What a fake remembers of prompts, so that callers see `cached_tokens` as a real engine tells them."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

PAGE_TOKENS: Final = 32
REMEMBERED: Final = 4096
"""Beginnings that are remembered, least recently used first out."""


class FakePrefixes:
    """Beginnings of prompts in whole pages, by scope and weights; answers are not remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, tuple[int, ...]], None] = OrderedDict()
        self.hit_tokens = 0

    def find(self, scope: str | None, version: str, prompt: Sequence[int]) -> int:
        """Count the tokens at the beginning of a prompt that are known, the last one never, and remember all pages."""
        if scope is None:
            return 0
        found = 0
        for end in range(PAGE_TOKENS, len(prompt) + 1, PAGE_TOKENS):
            key = (scope, version, tuple(prompt[:end]))
            if key in self._known and found == end - PAGE_TOKENS and end < len(prompt):
                found = end
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self.hit_tokens += found
        return found
