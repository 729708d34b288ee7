"""A model's vocabulary as grammars see it: llguidance's trie, and the few tokens by which a text is brought to its end.

Shape letters: W words of 32 bits, one bit per token.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import llguidance
import numpy as np
from numpy.typing import NDArray

from trainyard.engine.tokenizer import Tokenizer

Words = NDArray[np.int32]
Ids = NDArray[np.int64]

_PER_LENGTH: Final = 24
"""Long tokens looked at per length; one that the grammar admits is nearly always among the first."""
_QUOTE: Final = re.compile(rb'"[\]}]*')
_CLOSERS: Final = re.compile(rb"[\]}]+")
_COMMA: Final = re.compile(rb',"?')
_VALUE: Final = re.compile(rb'true|false|null|""|\[\]|\{\}|\{"|\["|-?[0-9]{1,4}')
_KINDS: Final = (
    (re.compile(rb"[!-/:-@[-`{-~ ]"), 40),
    (re.compile(rb"[0-9]"), 3),
    (re.compile(rb"[a-z]"), 6),
    (re.compile(rb"[A-Z]"), 6),
)
"""Kinds of single bytes, each with the number up to which all allowed ones are tried, and beyond which two."""
_LONG: Final = re.compile(rb"[a-zA-Z]{2,}|[0-9]{2,}")


class _Encoder:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, tokens: Sequence[bytes], special: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = tokenizer.eos_ids[0]
        self.bos_token_id = tokenizer.bos_id

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode(), add_special_tokens=False)


class Vocabulary:
    """The tokens of one model.

    Attributes:
        trie: For matchers.
        size: Entries of the model's logits; those beyond the tokenizer stand for no text and are never allowed.
        tokens: Bytes of each.
        eos_ids: Tokens that end an answer.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        specials = set(tokenizer.special_ids) | set(tokenizer.eos_ids)
        self.size = size
        self.eos_ids = tokenizer.eos_ids
        self.tokens = [tokenizer.token_bytes(one) for one in range(size)]
        encoder = _Encoder(tokenizer, self.tokens, sorted(specials))
        wrapper = llguidance.TokenizerWrapper(encoder)
        self.trie = llguidance.LLTokenizer(wrapper, n_vocab=size, eos_token=list(tokenizer.eos_ids))
        plain = [one for one, text in enumerate(self.tokens) if text and one not in specials]
        self._by_bytes = {self.tokens[one]: one for one in reversed(plain)}
        self._longest = max(map(len, self._by_bytes), default=1)
        self.singles = self._ids(one for text, one in self._by_bytes.items() if len(text) == 1)
        self.kinds = [(self._matching(pattern), most) for pattern, most in _KINDS]
        self.quotes = self._matching(_QUOTE)
        self.closers = self._matching(_CLOSERS)
        self.commas = self._matching(_COMMA)
        self.values = self._ids({*self._matching(_VALUE).tolist(), *self.singles.tolist()})
        self.long = self._long_ids()

    def words(self) -> Words:
        """Make room for one mask."""
        return np.zeros((self.size + 31) // 32, dtype=np.int32)

    def allowed(self, mask_W: Words, ids: Ids) -> Ids:
        """Select those of the ids that a mask allows, in their order."""
        selected: Ids = ids[(mask_W[ids >> 5] >> (ids & 31).astype(np.int32)) & 1 == 1]
        return selected

    def all_allowed(self, mask_W: Words) -> Ids:
        """List every id that a mask allows."""
        bits = np.unpackbits(mask_W.view(np.uint8), bitorder="little", count=self.size)
        return np.flatnonzero(bits)

    def spell(self, text: bytes) -> list[int]:
        """Write bytes with the longest token that fits at each place; what no token spells is left out at the end."""
        out: list[int] = []
        at = 0
        while at < len(text):
            ends = range(min(len(text), at + self._longest), at, -1)
            end = next((end for end in ends if text[at:end] in self._by_bytes), None)
            if end is None:
                break
            out.append(self._by_bytes[text[at:end]])
            at = end
        return out

    def _matching(self, pattern: re.Pattern[bytes]) -> Ids:
        found = [one for text, one in self._by_bytes.items() if pattern.fullmatch(text)]
        return self._ids(sorted(found, key=lambda one: (-len(self.tokens[one]), one)))

    def _long_ids(self) -> Ids:
        by_length: dict[int, list[int]] = {}
        for one in self._matching(_LONG).tolist():
            same = by_length.setdefault(len(self.tokens[one]), [])
            if len(same) < _PER_LENGTH:
                same.append(one)
        return self._ids(one for length in sorted(by_length, reverse=True) for one in by_length[length])

    @staticmethod
    def _ids(ids: Iterable[int]) -> Ids:
        return np.fromiter(ids, dtype=np.int64)
