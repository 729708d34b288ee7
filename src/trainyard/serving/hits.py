"""What a hit was made of, so that an equal request can be seen to have the same answer."""

from dataclasses import dataclass

from trainyard.serving.cache.entry import Entry
from trainyard.serving.types import Ask, Target


@dataclass(frozen=True, slots=True)
class Hit:
    """A request, what it meant, and what was kept for it.

    Attributes:
        key: Under which the answer is kept.
        raw: The kept bytes themselves: while these are under the key, it is the same answer.
    """

    ask: Ask
    target: Target
    key: bytes
    raw: bytes
    entry: Entry
