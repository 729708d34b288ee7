"""Requests that come again byte for byte while their answer is kept: the answer is not written a second time."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from trainyard.core import ids
from trainyard.core.clock import Clock
from trainyard.serving.hits import Hit

MAX_BYTES: Final = 8 << 20
"""Of all bodies and answers that are remembered, beside the bounds of the cache; the longest unused go first."""

MAX_ONE_BYTES: Final = 64 << 10
_OVERHEAD_BYTES: Final = 1000

_HEAD = re.compile(rb'\{"id":"[a-z]+-(?P<id>[0-9a-f]+)","object":"[a-z._]+","created":(?P<created>[0-9]+),')


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as bytes; one in OpenAI's shape is cut where its id and its time stand.

    Attributes:
        parts: One part stands as it is; three have an id and a time between them.
    """

    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, content: bytes) -> "Written":
        """Cut an answer that was written."""
        head = _HEAD.match(content)
        if head is None:
            return cls((content,))
        parts = content[: head.start("id")], content[head.end("id") : head.start("created")]
        return cls((*parts, content[head.end("created") :]))

    def again(self, clock: Clock) -> bytes:
        """Write it once more, with an id and a time of its own."""
        if len(self.parts) == 1:
            return self.parts[0]
        first, middle, last = self.parts
        return b"%b%b%b%d%b" % (first, ids.hex_digits().encode(), middle, int(clock.now()), last)


Name = tuple[str, str, bytes]
"""Tenant, route, body."""


class Repeats:
    """What hits came to, by the very bytes of their requests."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[Name, tuple[Hit, Written, int]] = OrderedDict()
        self.bytes_held = 0

    def find(self, name: Name) -> tuple[Hit, Written] | None:
        """Find what a request came to; whether that still holds is for the service to say."""
        found = self._known.get(name)
        if found is None:
            return None
        self._known.move_to_end(name)
        return found[0], found[1]

    def keep(self, name: Name, hit: Hit, content: bytes) -> None:
        """Remember what a request came to, unless it is large."""
        size = len(name[2]) + len(content) + _OVERHEAD_BYTES
        if not name[2] or size > MAX_ONE_BYTES:
            return
        self.drop(name)
        self._known[name] = hit, Written.of(content), size
        self.bytes_held += size
        while self.bytes_held > self._max_bytes:
            self.drop(next(iter(self._known)))

    def drop(self, name: Name) -> None:
        """Forget a request."""
        found = self._known.pop(name, None)
        if found is not None:
            self.bytes_held -= found[2]
