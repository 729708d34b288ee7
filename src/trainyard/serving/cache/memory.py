"""Answers in the memory of one process: the least recently used one goes first."""

from collections import OrderedDict
from typing import Final

from trainyard.core.clock import Clock

OVERHEAD_BYTES: Final = 320
"""Of one entry beside its bytes: key, tuple, float, node of the ordered dict and the headers of the objects, measured
with tracemalloc over 100,000 entries of CPython 3.11 (301 bytes), rounded up."""


class MemoryCache:
    """Keeps encoded answers, so that their bytes are counted and not estimated.

    Attributes:
        bytes_held: Of all entries with their overhead; never over the bound.
    """

    def __init__(self, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, max_age_s: float | None = None) -> bytes | None:
        """Find an answer that is not too old; it counts as used."""
        found = self._entries.get(key)
        if found is None:
            return None
        age_s = self._clock.now() - found[1]
        if age_s >= self._ttl_s:
            self._drop(key)
            return None
        if max_age_s is not None and age_s > max_age_s:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: bytes, answer: bytes, at: float) -> None:
        """Keep an answer made at a moment; one that is larger than the whole cache is not kept."""
        if key in self._entries:
            self._drop(key)
        size = len(answer) + OVERHEAD_BYTES
        if size > self._max_bytes or self._clock.now() - at >= self._ttl_s:
            return
        self._entries[key] = (answer, at)
        self.bytes_held += size
        while self.bytes_held > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        answer, _ = self._entries.pop(key)
        self.bytes_held -= len(answer) + OVERHEAD_BYTES
