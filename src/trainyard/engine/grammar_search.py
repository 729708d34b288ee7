"""The shortest way to the end of a text that a grammar has begun, as tokens.

A best-first search over copies of the matcher. Which tokens are tried at a place is a choice, so what is found need not
be the shortest of all; that it ends the text is certain, since the matcher itself took every token of it.
"""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import llguidance
import numpy as np

from trainyard.engine.grammar_vocabulary import Ids, Vocabulary, Words

STEPS: Final = 1500
"""Places looked at before a search gives up, at about 10 µs each."""
_FEW: Final = 32
"""So many allowed tokens are all tried."""


@dataclass(frozen=True, slots=True)
class Lexis:
    """Where in the letters of a JSON text a place is; enough to know what closes it.

    Attributes:
        depth: Open brackets.
        is_string: Inside a string.
        is_escape: Right after its backslash.
    """

    depth: int = 0
    is_string: bool = False
    is_escape: bool = False

    def after(self, text: bytes) -> "Lexis":
        """Read on."""
        depth, is_string, is_escape = self.depth, self.is_string, self.is_escape
        for byte in text:
            if is_string:
                is_string = is_escape or byte != 0x22
                is_escape = not is_escape and byte == 0x5C
            elif byte == 0x22:
                is_string = True
            elif byte in b"[{":
                depth += 1
            elif byte in b"]}":
                depth -= 1
        return Lexis(depth, is_string, is_escape)


@dataclass(frozen=True, slots=True)
class _Place:
    matcher: llguidance.LLMatcher
    tokens: tuple[int, ...]
    lexis: Lexis | None
    mask: bytes


def find(
    vocabulary: Vocabulary, matcher: llguidance.LLMatcher, lexis: Lexis | None, limit: int, steps: int = STEPS
) -> list[int] | None:
    """Find tokens that end the text, the end-of-sequence token included.

    Args:
        vocabulary: Of the matcher.
        matcher: Where the text stands; not changed.
        lexis: The same for JSON; None for a grammar of another kind.
        limit: Most tokens that are of use.
        steps: Places to look at.

    Returns:
        At most `limit` tokens; None when none were found.
    """
    search = _Search(vocabulary, limit)
    search.reach(matcher, (), None, lexis)
    while steps > 0 and (place := search.best()) is not None:
        if place.matcher.is_accepting():
            return [*place.tokens, vocabulary.eos_ids[0]]
        for token in _candidates(vocabulary, place):
            steps -= 1
            search.reach(place.matcher, place.tokens, token, place.lexis)
    return None


class _Search:
    """Places by their cost: tokens so far, and one for each open bracket."""

    def __init__(self, vocabulary: Vocabulary, limit: int) -> None:
        self._vocabulary, self._limit = vocabulary, limit
        self._words = vocabulary.words()
        self._order = itertools.count()
        self._seen: set[tuple[bytes, Lexis | None, int]] = set()
        self._heap: list[tuple[int, int, int, _Place]] = []

    def best(self) -> _Place | None:
        """Take the cheapest place out, of several the one that is furthest."""
        return heapq.heappop(self._heap)[-1] if self._heap else None

    def reach(
        self, matcher: llguidance.LLMatcher, tokens: tuple[int, ...], token: int | None, lexis: Lexis | None
    ) -> None:
        """Go on by a token and by all bytes that follow of necessity."""
        copy = matcher.deep_copy()
        new = [] if token is None else [token]
        if not copy.consume_tokens(new):
            return
        if not copy.is_stopped() and (forced := self._vocabulary.spell(copy.compute_ff_bytes())):
            copy.consume_tokens(forced)
            new += forced
        if lexis is not None:
            lexis = lexis.after(b"".join(self._vocabulary.tokens[one] for one in new))
        copy.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        if not copy.is_error():
            self._push(_Place(copy, (*tokens, *new), lexis, self._words.tobytes()))

    def _push(self, place: _Place) -> None:
        """Keep a place unless another that looks the same was reached with as many tokens."""
        cost = len(place.tokens) + (place.lexis.depth if place.lexis else 0)
        key = (place.mask, place.lexis, len(place.tokens))
        if cost < self._limit and key not in self._seen:
            self._seen.add(key)
            heapq.heappush(self._heap, (cost, -len(place.tokens), next(self._order), place))


def _candidates(vocabulary: Vocabulary, place: _Place) -> Iterator[int]:
    """Choose the tokens to try: what closes, where something can be closed; else the ways on."""
    mask_W: Words = np.frombuffer(place.mask, dtype=np.int32)

    def allowed(ids: Ids) -> list[int]:
        found: list[int] = vocabulary.allowed(mask_W, ids).tolist()
        return found

    if place.lexis is None or place.lexis.is_string:
        closing = allowed(vocabulary.quotes) if place.lexis and not place.lexis.is_escape else []
        yield from _ends(closing) if closing else _of_text(vocabulary, mask_W)
    elif closing := allowed(vocabulary.closers):
        yield from _ends(closing)
    elif commas := allowed(vocabulary.commas):
        yield from _ends(commas)
    else:
        yield from allowed(vocabulary.values)


def _ends(longest_first: list[int]) -> list[int]:
    """Try the one that closes most, and the one that closes least."""
    return longest_first[:1] if len(longest_first) == 1 else [longest_first[0], longest_first[-1]]


def _of_text(vocabulary: Vocabulary, mask_W: Words) -> list[int]:
    """Try all tokens where few are allowed; else the longest, and single bytes: every sign, few of the letters."""
    if int(np.bitwise_count(mask_W).sum()) <= _FEW:
        ids: list[int] = vocabulary.all_allowed(mask_W).tolist()
        return [one for one in ids if one not in vocabulary.eos_ids]
    chosen: list[int] = vocabulary.allowed(mask_W, vocabulary.long)[:1].tolist()
    for ids_of_kind, most in vocabulary.kinds:
        allowed: list[int] = vocabulary.allowed(mask_W, ids_of_kind).tolist()
        chosen += allowed if len(allowed) <= most else [allowed[0], allowed[-1]]
    return chosen or vocabulary.allowed(mask_W, vocabulary.singles)[:_FEW].tolist()
