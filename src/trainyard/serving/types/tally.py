"""What a request has read and drawn, counted from its pieces."""

from collections.abc import Sequence

from msgspec import Struct

from trainyard.serving.types.domain import Piece


class Usage(Struct, frozen=True, gc=False):
    """Token counts of one answer, as it says them and as the ledger has them.

    Attributes:
        prompt_tokens: Of all prompts; each is read once, however many choices follow.
        completion_tokens: Drawn, over all choices.
        cached_tokens: Those of the prompts that were not computed again.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class Tally:
    """Adds up the pieces of all choices as they come.

    Attributes:
        model: Who answered in place of the model that was asked for, if anybody.

    Args:
        prompt_tokens: What was counted before, per prompt; a piece that tells better replaces it.
        n: Choices per prompt.
    """

    __slots__ = ("_cached", "_drawn", "_n", "_prompts", "model")

    def __init__(self, prompt_tokens: Sequence[int], n: int) -> None:
        self._prompts = list(prompt_tokens)
        self._n = n
        self.model: str | None = None
        self._drawn: dict[int, int] = {}
        self._cached: dict[int, int] = {}

    @property
    def has_drawn(self) -> bool:
        """Whether there was any token."""
        return bool(self._drawn)

    def add(self, index: int, piece: Piece) -> None:
        """Take the next piece of a choice."""
        self._drawn[index] = piece.completion_tokens
        if piece.model is not None:
            self.model = piece.model
        if piece.prompt_tokens is not None:
            self._prompts[index // self._n] = piece.prompt_tokens
        if piece.cached_tokens and index % self._n == 0:
            self._cached[index] = piece.cached_tokens

    def usage(self) -> Usage:
        """Say what it comes to so far."""
        prompt = sum(self._prompts)
        cached = sum(self._cached.values()) if self._cached else 0
        return Usage(prompt, sum(self._drawn.values()), min(cached, prompt))
