"""The shortest way to the end of a text that a grammar has begun, as tokens.

A best-first search over copies of the matcher. Which tokens are tried at a place is a choice, so what is found need not
be the shortest of all; that it ends the text is certain, since the matcher itself took every token of it.
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import llguidance
import numpy as np

from trainyard.engine.grammar_vocabulary import Steps, Vocabulary, Words

STEPS: Final = 1000
"""Places looked at before a search gives up, at 10-15 µs each."""
_FEW: Final = 32
"""So many allowed steps are all tried."""
_OPENERS: Final = frozenset((b"{", b"[", b'{"', b'["'))
_QUOTE, _BACKSLASH, _COMMA = b'"\\,'


@dataclass(frozen=True, slots=True)
class Lexis:
    """Where in the letters of a text a place is; enough to know what closes it, and to tell places apart.

    Attributes:
        is_json: Whether the text is JSON or has some inside; of any other only its length is followed.
        is_mixed: Whether it only has some inside: quotes count within brackets alone.
        opened: Brackets that are open.
        is_string: Inside a string.
        is_escape: Right after its backslash.
        is_name: Where a member is named.
        commas: Between values, so far.
        run: Bytes since the last comma, colon, bracket or quote.
    """

    is_json: bool = True
    is_mixed: bool = False
    opened: bytes = b""
    is_string: bool = False
    is_escape: bool = False
    is_name: bool = False
    commas: int = 0
    run: int = 0

    @property
    def string(self) -> tuple[bytes, int] | None:
        """Which value of the text the place is inside of, when that is a string: brackets around, commas before."""
        return (self.opened, self.commas) if self.is_string and not self.is_name else None

    def after(self, text: bytes) -> "Lexis":
        """Read on."""
        if not self.is_json:
            return Lexis(is_json=False, run=self.run + len(text))
        opened, is_string, is_escape, is_name = self.opened, self.is_string, self.is_escape, self.is_name
        commas, run = self.commas, self.run
        for byte in text:
            run += 1
            if is_string:
                is_string = byte != _QUOTE or is_escape
                is_escape = byte == _BACKSLASH and not is_escape
            elif byte == _QUOTE and (opened or not self.is_mixed):
                is_string, run = True, 0
            elif byte in b"[]{},:":
                run = 0
                opened = opened + bytes((byte,)) if byte in b"[{" else opened[:-1] if byte in b"]}" else opened
                commas += byte == _COMMA
                is_name = opened[-1:] == b"{" and byte in b"{,"
        return Lexis(True, self.is_mixed, opened, is_string, is_escape, is_name, commas, run)


@dataclass(frozen=True, slots=True)
class _Place:
    matcher: llguidance.LLMatcher
    tokens: tuple[int, ...]
    lexis: Lexis
    begun: bytes  # of a JSON string, as it is spelled
    left: tuple[bytes, int] | None  # the string that the last step completed
    mask: bytes


def find(
    vocabulary: Vocabulary,
    matcher: llguidance.LLMatcher,
    lexis: Lexis,
    limit: int,
    *,
    names: Sequence[bytes] = (),
    steps: int = STEPS,
) -> list[int] | None:
    """Find tokens that end the text, the end-of-sequence token included.

    Args:
        vocabulary: Of the model.
        matcher: Where the text stands, over the vocabulary's steps; not changed.
        lexis: The same for the search.
        limit: Most tokens that are of use.
        names: Spelled as in JSON, closing quote included: names of members that are preferred to others, because some
            object needs them.
        steps: Places to look at on straight ways; half as many more where those do not lead to the end.

    Returns:
        At most `limit` tokens; None when none were found.
    """
    found = None
    if lexis.is_json:
        found = _Search(vocabulary, limit, names, is_straight=True).run(matcher, lexis, steps)
    return found or _Search(vocabulary, limit, (), is_straight=False).run(matcher, lexis, steps // 2)


class _Search:
    """Places by their cost: tokens so far, and one for each open bracket."""

    def __init__(self, vocabulary: Vocabulary, limit: int, names: Sequence[bytes], *, is_straight: bool) -> None:
        self._vocabulary, self._limit, self._names, self._is_straight = vocabulary, limit, names, is_straight
        self._steps = vocabulary.steps
        self._words = vocabulary.steps.words()
        self._order = itertools.count()
        self._seen: set[tuple[bytes, Lexis]] = set()
        self._complete: set[tuple[bytes, int] | None] = set()  # strings that some place has behind it
        self._heap: list[tuple[int, int, int, _Place]] = []

    def run(self, matcher: llguidance.LLMatcher, lexis: Lexis, steps: int) -> list[int] | None:
        """Search until a text is complete or the steps are used up."""
        self._reach(_Place(matcher, (), lexis, b"", None, b""), None)
        while self._heap and steps > 0:
            place = heapq.heappop(self._heap)[-1]
            if place.matcher.is_accepting():
                return [*place.tokens, self._vocabulary.eos_ids[0]]
            if place.left is not None:
                self._complete.add(place.left)
            if self._is_straight and place.lexis.string in self._complete:
                continue  # what follows is the same for both
            for step in self._candidates(place):
                steps -= 1
                self._reach(place, step)
        return None

    def _reach(self, place: _Place, step: int | None) -> None:
        """Go on by a step and by all bytes that follow of necessity."""
        copy = place.matcher.deep_copy()
        if step is not None and not copy.consume_token(step):
            return
        text = b"" if step is None else self._steps.text(step)
        new = [] if step is None else [self._steps.tokens[step]]
        if not copy.is_stopped() and (forced := self._vocabulary.spell(copy.compute_ff_bytes())):
            more = b"".join([self._vocabulary.tokens[one] for one in forced])
            copy.consume_tokens(list(more))
            new += forced
            text += more
        lexis = place.lexis.after(text)
        begun = (place.begun + text)[-lexis.run :] if lexis.is_string and lexis.run else b""
        copy.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        left = place.lexis.string if place.lexis.string != lexis.string else None
        if not copy.is_error():
            self._push(_Place(copy, (*place.tokens, *new), lexis, begun, left, self._words.tobytes()))

    def _push(self, place: _Place) -> None:
        """Keep a place unless another that looks the same was reached before, with as many tokens or fewer."""
        cost = len(place.tokens) + len(place.lexis.opened)
        key = (place.mask, place.lexis)
        if cost < self._limit and key not in self._seen:
            self._seen.add(key)
            heapq.heappush(self._heap, (cost, -len(place.tokens), next(self._order), place))

    def _candidates(self, place: _Place) -> list[int]:
        """Choose the steps to try: what closes, where something can be closed; else the ways on."""
        steps, lexis = self._steps, place.lexis
        mask_W: Words = np.frombuffer(place.mask, dtype=np.int32)
        if lexis.is_string or not lexis.is_json:
            closing = steps.allowed(mask_W, steps.quotes) if lexis.is_string and not lexis.is_escape else []
            return _ends(closing) if closing else self._named(_of_text(steps, mask_W), place.begun)
        for enders in (steps.closers, steps.commas):
            if found := steps.allowed(mask_W, enders):
                return _ends(found)
        values = steps.allowed(mask_W, steps.values)
        return self._flat(values) or values if self._is_straight else values

    def _flat(self, values: list[int]) -> list[int]:
        """Leave out what opens a bracket, and all digits but a few."""
        texts = [(one, self._steps.text(one)) for one in values]
        digits = [one for one, text in texts if text.isdigit() and len(text) == 1]
        others = [one for one, text in texts if text not in _OPENERS and not text.lstrip(b"-").isdigit()]
        return [*others, *digits[:2], *digits[2:][-1:]]

    def _named(self, found: list[int], begun: bytes) -> list[int]:
        """Keep to names that are needed, where there is a choice of names."""
        texts = [(one, begun + self._steps.text(one)) for one in found]
        needed = [one for one, text in texts if any(n.startswith(text) or text.startswith(n) for n in self._names)]
        return needed or found


def _ends(longest_first: list[int]) -> list[int]:
    """Try the one that closes most, and the one that closes least."""
    return longest_first[:1] if len(longest_first) == 1 else [longest_first[0], longest_first[-1]]


def _of_text(steps: Steps, mask_W: Words) -> list[int]:
    """Try all steps where few are allowed; else the longest, and single bytes: every sign, few of the letters."""
    if int(np.bitwise_count(mask_W).sum()) <= _FEW:
        return steps.all_allowed(mask_W)
    chosen = steps.allowed(mask_W, steps.long)[:1]
    for ids_of_kind, most in steps.kinds:
        allowed = steps.allowed(mask_W, ids_of_kind)
        chosen += allowed if len(allowed) <= most else [allowed[0], allowed[-1]]
    return chosen or steps.allowed(mask_W, steps.singles)[:_FEW]
