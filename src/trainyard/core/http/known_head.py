"""The head of a request, as far as the next one on its connection may have the same."""

import re
from typing import Any, Final, Self

KNOWN_HEAD: Final = "trainyard.head"
"""Key of an ASGI scope for the `KnownHead` that the request was begun with."""

MAX_BYTES: Final = 4096
"""Of a head that is remembered, per connection."""

_LENGTH_NAME: Final = b"content-length"
_LENGTH: Final = re.compile(rb"\r\n%b: (?P<digits>0|[1-9][0-9]{0,8})\r\n" % _LENGTH_NAME, re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_OF_HEAD: Final = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")
_CHANGES_BODY: Final = frozenset({b"expect", b"transfer-encoding"})


class KnownHead:
    """What the parser made of a head; the same bytes make the same again, but for the length of the body.

    Clients on kept connections send the same head with every request of one kind, in one piece with its body.

    Attributes:
        scope: Of ASGI, without what belongs to the connection, and without the headers.
        derived: What an application has made of it, and may keep here; it must not depend on the length of the body.
    """

    __slots__ = ("_after", "_before", "_headers", "_length_at", "_size", "_whole", "derived", "scope")

    def __init__(self, before: bytes, after: bytes, scope: Any) -> None:
        self._whole, self._size = b"", 0  # of a request that came with it, for others of the same length
        self._before = before
        self._after = after
        self._headers: list[tuple[bytes, bytes]] = [*scope["headers"]]
        self._length_at = [name for name, _ in self._headers].index(_LENGTH_NAME)
        self.scope = {name: scope[name] for name in _OF_HEAD}
        self.derived: object = None

    @classmethod
    def of(cls, data: bytes, scope: Any) -> Self | None:
        """Remember the head of a request that `data` is, from first to last byte; None where its body has no length.

        Args:
            data: As it came.
            scope: What the parser made of it.
        """
        end = data.find(_END, 0, MAX_BYTES)
        found = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if found is None or len(data) != end + len(_END) + int(found["digits"]):
            return None
        if not _CHANGES_BODY.isdisjoint([name for name, _ in scope["headers"]]):
            return None
        return cls(data[: found.start("digits")], data[found.end("digits") : end + len(_END)], scope)

    def body_of(self, data: bytes) -> bytes | None:
        """Cut the body out of a whole request with this head; None for all other bytes."""
        if len(data) == self._size and data.startswith(self._whole):
            return data[len(self._whole) :]
        if not data.startswith(self._before):
            return None
        start = len(self._before)
        end = data.find(b"\r", start, start + 10)
        digits = data[start:end]
        if not digits.isdigit() or not data.startswith(self._after, end):
            return None
        if digits.startswith(b"0") and len(digits) > 1:  # has the same meaning, and is another header
            return None
        begin = end + len(self._after)
        if len(data) - begin != int(digits):
            return None
        self._whole, self._size = data[:begin], len(data)
        return data[begin:]

    def headers_for(self, body: bytes) -> list[tuple[bytes, bytes]]:
        """Give the headers of a request with this body; the list is the request's own."""
        headers = self._headers.copy()
        headers[self._length_at] = (_LENGTH_NAME, b"%d" % len(body))
        return headers
