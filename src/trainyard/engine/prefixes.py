"""Which pages hold which beginning of a text, so that what was computed once is found again.

A page is named by a hash over the names before it and its own tokens; the chain begins with the scope and with the
weights that computed it. Equal names mean equal tokens, places and weights, so a found page holds exactly what would be
computed.
"""

import hashlib
import itertools
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.pages import PAGE_TOKENS, Page

_DIGEST_BYTES = 16


class PrefixIndex:
    """Pages by name, and among them those that nobody holds, least recently used first."""

    def __init__(self) -> None:
        self._pages: dict[bytes, Page] = {}
        self._kept: OrderedDict[Page, None] = OrderedDict()
        self._roots: weakref.WeakKeyDictionary[AdapterTensors, int] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._of_weights: dict[int, set[Page]] = {}
        self._weights_of: dict[Page, int] = {}
        self._gone: list[int] = []

    @property
    def kept(self) -> int:
        """Pages that nobody holds."""
        return len(self._kept)

    def number(self, weights: AdapterTensors | None) -> int:
        """Number weights, never the same number twice; 0 = the base model."""
        if weights is None:
            return 0
        if weights not in self._roots:
            number = self._roots[weights] = next(self._numbers)
            weakref.finalize(weights, self._gone.append, number)
        return self._roots[weights]

    def find(self, key: bytes) -> Page | None:
        """Look a page up by its name."""
        return self._pages.get(key)

    def add(self, key: bytes, page: Page, number: int) -> None:
        """Name a full page; one that has the name already keeps it."""
        if key not in self._pages:
            page.key = key
            self._pages[key] = page
            self._weights_of[page] = number
            self._of_weights.setdefault(number, set()).add(page)

    def keep(self, page: Page) -> None:
        """Note that nobody holds a named page any more."""
        self._kept[page] = None

    def hold(self, page: Page) -> None:
        """Note that somebody holds a page."""
        self._kept.pop(page, None)

    def evict(self) -> Page:
        """Forget the page that has not been used for longest among those that nobody holds."""
        page, _ = self._kept.popitem(last=False)
        self._forget(page)
        return page

    def evict_gone(self) -> list[Page]:
        """Forget what weights computed that are no longer in memory; gives the pages that nobody holds."""
        out = []
        while self._gone:
            for page in list(self._of_weights.get(self._gone.pop(), ())):
                self._forget(page)
                if page in self._kept:
                    del self._kept[page]
                    out.append(page)
        return out

    def _forget(self, page: Page) -> None:
        if page.key is not None:
            del self._pages[page.key]
            page.key = None
            number = self._weights_of.pop(page)
            self._of_weights[number].discard(page)
            if not self._of_weights[number]:
                del self._of_weights[number]


class Chain:
    """The names of the full pages of one growing text."""

    def __init__(self, scope: str, number: int) -> None:
        self.number = number
        self._names = [_digest(f"{number}:{scope}".encode())]

    def name(self, page: int, tokens: Sequence[int]) -> bytes:
        """Name the page of that place; `tokens` is the whole text so far, which fills it."""
        while len(self._names) <= page + 1:
            start = (len(self._names) - 1) * PAGE_TOKENS
            part = array("i", tokens[start : start + PAGE_TOKENS])
            self._names.append(_digest(self._names[-1] + part.tobytes()))
        return self._names[page + 1]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
