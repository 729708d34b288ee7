"""The SharedCache Protocol: answers that outlive a process or are found by all of them."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Kept(Struct, frozen=True):
    """One encoded answer on its way into a shared cache.

    Attributes:
        key: 32 bytes of `keys.key_of`.
        at: When it was made, Unix seconds.
    """

    key: bytes
    tenant: str
    answer: bytes
    at: float


class SharedCache(Protocol):
    """Keeps answers for a time and within bytes, the oldest out first.

    Errors of every method: `errors.Unavailable` when it cannot be reached; whoever asks goes on without.
    """

    def may_hold(self, key: bytes) -> bool:
        """Whether it is worth asking for; false only when it is known that the answer is not there."""
        ...

    async def get(self, key: bytes) -> bytes | None:
        """Find an answer that is not expired."""
        ...

    async def put(self, answers: Sequence[Kept]) -> None:
        """Keep answers, in the place of older ones of their keys; those over the bounds go."""
        ...

    async def tend(self) -> None:
        """Do a small step of what has to be done now and then: learn what others wrote, drop what is expired."""
        ...

    async def aclose(self) -> None:
        """Let go of what is held."""
        ...
