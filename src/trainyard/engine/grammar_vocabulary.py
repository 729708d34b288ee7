"""A model's vocabulary as grammars see it: llguidance's trie of all tokens, and a small one for the way to the end.

Shape letters: W words of 32 bits, one bit per token.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import llguidance
import numpy as np
from numpy.typing import NDArray

from trainyard.engine.tokenizer import Tokenizer

Words = NDArray[np.int32]
Ids = NDArray[np.int64]

_PER_LENGTH: Final = 24
"""Long tokens looked at per length; one that the grammar admits is nearly always among the first."""
_OF_USE: Final = re.compile(
    rb'(?P<quotes>"[\]}]*)|(?P<closers>[\]}]+)|(?P<commas>,"?)|(?P<values>true|false|null|""|\[\]|\{\}|\{"|\["|-[0-9]{1,3})'
    rb"|(?P<digits>[0-9]{2,})|(?P<letters>[a-zA-Z]{2,})"
)
_KINDS: Final = (
    (re.compile(rb"[!-/:-@[-`{-~ ]"), 40),
    (re.compile(rb"[0-9]"), 3),
    (re.compile(rb"[a-z]"), 6),
    (re.compile(rb"[A-Z]"), 6),
)
"""Kinds of single bytes, each with the number up to which all allowed ones are tried, and beyond which two."""


class _Encoder:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokens: Sequence[bytes], special: Sequence[int], eos_id: int) -> None:
        silent = frozenset(special)
        self._ids = {text: one for one, text in reversed(list(enumerate(tokens))) if text and one not in silent}
        self._longest = max(map(len, self._ids), default=1)
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = eos_id
        self.bos_token_id = None

    def __call__(self, text: bytes | str) -> list[int]:
        return self.spell(text.encode() if isinstance(text, str) else text)

    def find(self, text: bytes) -> int | None:
        """Find the token of these bytes."""
        return self._ids.get(text)

    def spell(self, text: bytes) -> list[int]:
        """Write bytes with the longest token that fits at each place; ends where none does."""
        out: list[int] = []
        at = 0
        while at < len(text):
            ends = range(min(len(text), at + self._longest), at, -1)
            end = next((end for end in ends if text[at:end] in self._ids), None)
            if end is None:
                break
            out.append(self._ids[text[at:end]])
            at = end
        return out

    def trie(self, eos_ids: Sequence[int]) -> llguidance.LLTokenizer:
        """Have llguidance read the tokens."""
        wrapper = llguidance.TokenizerWrapper(self)
        return llguidance.LLTokenizer(wrapper, n_vocab=len(self.tokens), eos_token=list(eos_ids))

    def of_use(self) -> Mapping[str, list[bytes]]:
        """Collect the tokens by which a text is brought to its end, by what they do, longest first."""
        found: dict[str, list[bytes]] = {name: [] for name in _OF_USE.groupindex}
        for text in self._ids:
            if (match := _OF_USE.fullmatch(text)) is not None and match.lastgroup is not None:
                found[match.lastgroup].append(text)
        return {name: sorted(texts, key=lambda text: (-len(text), text)) for name, texts in found.items()}


class Steps:
    """The few tokens that are tried on the way to the end, numbered by themselves.

    Its trie has all 256 bytes, so that a text can be followed whatever tokens it came in, and its masks are short: with
    150,000 tokens looking at a place takes 3 µs in place of 100.

    Attributes:
        trie: For matchers.
        tokens: Id in the model's vocabulary of each step; -1 = a byte that is no token there.
        kinds: Steps of one byte, by kind, with the number that is tried.
    """

    def __init__(self, encoder: _Encoder) -> None:
        use = encoder.of_use()
        long = _first_of_each_length([*use["digits"], *use["letters"]])
        short_digits = [text for text in use["digits"] if len(text) <= 4]
        several = [*use["quotes"], *use["closers"], *use["commas"], *use["values"], *short_digits, *long]
        self._texts = [
            *(bytes((one,)) for one in range(256)),
            *dict.fromkeys(text for text in several if len(text) > 1),
        ]
        places = {text: at for at, text in enumerate(self._texts)}
        self.eos = len(self._texts)
        self.tokens = [-1 if (found := encoder.find(text)) is None else found for text in self._texts]
        self.trie = _Encoder([*self._texts, b""], [self.eos], self.eos).trie([self.eos])
        self._is_real = np.array([token >= 0 for token in self.tokens])

        def ids(texts: Iterable[bytes]) -> Ids:
            real = [places[text] for text in texts if self.tokens[places[text]] >= 0]
            return np.array(real, dtype=np.int64)

        bytes_alone = self._texts[:256]
        self.singles = ids(bytes_alone)
        self.kinds = [(ids(one for one in bytes_alone if kind.fullmatch(one)), most) for kind, most in _KINDS]
        self.quotes, self.closers, self.commas = (ids(use[name]) for name in ("quotes", "closers", "commas"))
        self.values = ids([*use["values"], *short_digits, *bytes_alone])
        self.long = ids(long)

    def words(self) -> Words:
        """Make room for one mask."""
        return np.zeros((self.eos + 1 + 31) // 32, dtype=np.int32)

    def text(self, step: int) -> bytes:
        """Give the bytes of a step."""
        return self._texts[step]

    def allowed(self, mask_W: Words, ids: Ids) -> list[int]:
        """Select those of the steps that a mask allows, in their order."""
        selected: list[int] = ids[(mask_W[ids >> 5] >> (ids & 31).astype(np.int32)) & 1 == 1].tolist()
        return selected

    def all_allowed(self, mask_W: Words) -> list[int]:
        """List every step that a mask allows."""
        bits = np.unpackbits(mask_W.view(np.uint8), bitorder="little", count=self.eos)
        steps: list[int] = np.flatnonzero(bits & self._is_real).tolist()
        return steps


class Vocabulary:
    """The tokens of one model.

    Attributes:
        trie: For matchers.
        size: Entries of the model's logits; those beyond the tokenizer stand for no text and are never allowed.
        tokens: Bytes of each.
        eos_ids: Tokens that end an answer.
        steps: For the way to the end.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.size = size
        self.eos_ids = tokenizer.eos_ids
        self.tokens = [tokenizer.token_bytes(one) for one in range(size)]
        special = sorted({*tokenizer.special_ids, *tokenizer.eos_ids})
        encoder = _Encoder(self.tokens, special, tokenizer.eos_ids[0])
        self.trie = encoder.trie(tokenizer.eos_ids)
        self.steps = Steps(encoder)
        self.spell = encoder.spell

    def words(self) -> Words:
        """Make room for one mask."""
        return np.zeros((self.size + 31) // 32, dtype=np.int32)

    def allowed(self, mask_W: Words) -> Ids:
        """List every token that a mask allows."""
        return np.flatnonzero(np.unpackbits(mask_W.view(np.uint8), bitorder="little", count=self.size))


def _first_of_each_length(texts: Sequence[bytes]) -> list[bytes]:
    by_length: dict[int, list[bytes]] = {}
    for text in texts:
        same = by_length.setdefault(len(text), [])
        if len(same) < _PER_LENGTH:
            same.append(text)
    return [text for length in sorted(by_length, reverse=True) for text in by_length[length]]
