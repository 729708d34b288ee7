"""Text out of a token stream: whole characters only, and stop strings found across token borders."""

import itertools
from collections.abc import Sequence

from trainyard.engine.tokenizer import Tokenizer

_BROKEN = "\ufffd"  # what decoders put where bytes do not form a character (yet)
_CONTEXT_TOKENS = 6  # enough for any decoder rule that looks at the neighbour to the left
_PENDING_TOKENS = 32  # that many tokens without a whole character are not text any more
_CHARACTER_TOKENS = 4  # a character of UTF-8 has at most four bytes


class Detokenizer:
    """Turns ids into text one by one; the pieces together equal the decoding of all ids at once.

    Bytes that never form a character come out as U+FFFD, late: when whole text follows, or at `flush`.

    Args:
        tokenizer: Decodes.
        context: Ids before the first one, whose text is known; decides whether a leading space is kept.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._context = [_whole_end(tokenizer, context)]  # chunks of whole characters: cutting one would break it
        self._known = tokenizer.decode(self._context[0])
        self._pending: list[int] = []
        self._sent = 0  # characters of the pending ids that are out already

    def push(self, token: int) -> str:
        """Take one id and give the characters that are certain now."""
        self._pending.append(token)
        text = self._pending_text()
        certain = text.rstrip(_BROKEN)
        if len(certain) == len(text):
            return self._settle(text, 0)
        if len(self._pending) > _PENDING_TOKENS:
            return self._settle(self._tokenizer.decode(self._pending[:-_CHARACTER_TOKENS]), _CHARACTER_TOKENS)
        new = certain[self._sent :]
        self._sent = max(self._sent, len(certain))
        return new

    def flush(self) -> str:
        """Give what is left when no id follows; may be U+FFFD."""
        return self._settle(self._pending_text(), 0)

    def _pending_text(self) -> str:
        whole = self._tokenizer.decode([*itertools.chain(*self._context), *self._pending])
        if whole.startswith(self._known):
            return whole[len(self._known) :]
        return self._tokenizer.decode(self._pending)

    def _settle(self, text: str, keep: int) -> str:
        new, self._sent = text[self._sent :], 0
        done = self._pending[: len(self._pending) - keep]
        self._pending = self._pending[len(done) :]
        self._context = [done] if text.strip(" ") else [*self._context, done][-_CONTEXT_TOKENS:]
        self._known = self._tokenizer.decode(list(itertools.chain(*self._context)))
        return new


def _whole_end(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """Take the last few ids that are whole characters by themselves."""
    for start in range(max(0, len(ids) - _CONTEXT_TOKENS), len(ids)):
        if _BROKEN not in tokenizer.decode(ids[start:]):
            return list(ids[start:])
    return []


class StopFinder:
    """Passes text on until one of the stop strings appears, and never passes on a part of one.

    Args:
        stops: Strings that end the text; none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.is_found = False

    def push(self, text: str) -> str:
        """Take more text and give what cannot belong to a stop string; after a find, that is what stood before it.

        Of several, the one that is complete first counts, so that the answer does not depend on how the text is cut.
        """
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_found = True
            return self._release(min(found)[1])
        return self._release(len(self._held) - self._overlap())

    def flush(self) -> str:
        """Give what was held back, since no text follows."""
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _overlap(self) -> int:
        longest = min(max((len(stop) for stop in self._stops), default=1) - 1, len(self._held))
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
