"""The TextBackend Protocol: whatever can turn a prompt into text."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from trainyard.serving.types import Ask, EmbedAsk, Piece, Target, Vectors


class Prepared(Protocol):
    """One prompt that was accepted: counted, found to fit, and ready to run."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in the model's tokens; an upper bound where its tokenizer is not here."""
        ...

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer."""
        ...

    @property
    def keeps_time(self) -> bool:
        """Whether `collect` ends in time by itself, whatever becomes of what does the work."""
        ...

    def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Generate one answer; closing the generator stops the work. Choice i uses seed + i.

        Args:
            choice: Its number among the answers to this prompt.
            timeout_s: What is left of the request's time.

        Raises:
            errors.Unavailable: What does the work is away or overloaded.
            errors.UpstreamFailed: A server elsewhere failed; the message names the model and what it said.
            errors.DeadlineExceeded: The time is over.
        """
        ...

    @property
    def drawn(self) -> int:
        """Tokens that `collect` has drawn so far, over its choices; what is charged when the caller leaves.

        0 until the end where a server elsewhere draws them and does not tell before.
        """
        ...

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        """Generate one answer to its end, without the pieces between; raises as `stream`."""
        ...


class TextBackend(Protocol):
    """Serves models of one kind."""

    async def prepare(self, target: Target, ask: Ask) -> Sequence[Prepared]:
        """Check and count every prompt of a request, without generating.

        Raises:
            errors.InvalidRequest: A prompt does not fit (`context_length_exceeded`, with the counts), is of a kind that
                the model cannot read, its chat template refuses it, or it cannot do what the request asks for
                (`unsupported_parameter`, with what it can).
            errors.Unavailable: The model is not up.
        """
        ...

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Count the tokens of texts before they are embedded; an upper bound where the tokenizer is not here.

        Raises:
            errors.InvalidRequest: A text is empty or too long.
        """
        ...

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Turn texts into vectors; raises as `prepare` and `Prepared.stream`."""
        ...
