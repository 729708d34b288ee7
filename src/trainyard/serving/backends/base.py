"""The TextBackend Protocol: whatever can turn a prompt into text."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from trainyard.engine.generation import TextPiece
from trainyard.serving.types import Ask, Target


class Prepared(Protocol):
    """One prompt that was accepted: counted, found to fit, and ready to run."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in the model's tokens."""
        ...

    def stream(self, choice: int) -> AsyncGenerator[TextPiece, None]:
        """Generate one answer; closing the generator stops the work. Choice i uses seed + i.

        Raises:
            errors.Unavailable: What does the work is away.
        """
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Tell which bytes of text a token stands for."""
        ...


class TextBackend(Protocol):
    """Serves models of one kind."""

    async def prepare(self, target: Target, ask: Ask) -> Sequence[Prepared]:
        """Check and count every prompt of a request, without generating.

        Raises:
            errors.InvalidRequest: A prompt does not fit (`context_length_exceeded`, with the counts), is of a kind that
                the model cannot read, or its chat template refuses it.
            errors.Unavailable: The model is not up.
        """
        ...
