"""An answer as it comes in: the parser's callbacks and what they have put together so far."""

from typing import Final

import httptools

from trainyard.core.wire.failures import NotHttp

MAX_HEAD_BYTES: Final = 64 << 10
"""Of an answer's head, with the interim answers before it."""

_LOOSE_BLOCKS: Final = 1024
"""More of them become one: a chunk of two bytes is an object of fifty."""

_SWITCHING: Final = 101
_BROKEN: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class Answer:
    """What has come of the answer to the request under way; one object per connection, begun anew per request.

    Attributes:
        status: 0 until the final head is complete.
        blocks: Of the body, not yet taken.
        unread_bytes: In `blocks`.
        has_begun: Whether a byte has come.
        is_complete: Whether its end has come.
        may_follow: Whether another request may be sent on the connection once this answer is complete.
    """

    __slots__ = (
        "_bare_bytes",
        "_fields",
        "_head_bytes",
        "_joined",
        "_parser",
        "blocks",
        "has_begun",
        "is_complete",
        "may_follow",
        "status",
        "unread_bytes",
    )

    def __init__(self) -> None:
        self.begin()
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    def begin(self) -> None:
        """Forget the answer before."""
        self.status = 0
        self.blocks: list[bytes] = []
        self.unread_bytes = 0
        self.has_begun = False
        self.is_complete = False
        self.may_follow = False
        self._head_bytes = 0
        self._bare_bytes = 0
        self._joined = 0
        self._fields: list[tuple[bytes, bytes]] = []

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Read the fields of the head: names in lower case, values of one name joined by a comma."""
        headers: dict[bytes, bytes] = {}
        for name, value in self._fields:
            key = name.lower()
            headers[key] = headers[key] + b", " + value if key in headers else value
        return headers

    @property
    def ends_with_connection(self) -> bool:
        """Whether a body goes on until the connection ends, because its head does not say how long it is."""
        headers = self.headers
        is_chunked = headers.get(b"transfer-encoding", b"").lower().rstrip().endswith(b"chunked")
        return self.status > 0 and not is_chunked and b"content-length" not in headers

    def feed(self, data: bytes) -> None:
        """Take what came from the connection.

        Raises:
            NotHttp: It is no answer; the blocks before the fault are there all the same.
        """
        self.has_begun = True
        try:
            if self.status:
                self._feed_body(data)
            else:
                self._feed_head(data)
        except _BROKEN as error:
            self.may_follow = False
            if not self.is_complete:
                raise NotHttp("what came is not HTTP/1") from error

    def take(self) -> bytes:
        """Give all blocks as one; empty when none is there."""
        blocks = self.blocks
        taken = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        blocks.clear()
        self.unread_bytes = 0
        return taken

    def _feed_head(self, data: bytes) -> None:
        room = MAX_HEAD_BYTES - self._head_bytes
        if len(data) <= room:
            self._head_bytes += len(data)
            self._parser.feed_data(data)
            return
        self._parser.feed_data(data[:room])
        if not self.status:
            raise NotHttp("the head is longer than 64 KB")
        self._parser.feed_data(data[room:])

    def _feed_body(self, data: bytes) -> None:
        """Bound what is no body, such as trailers, which the parser keeps, and what many small blocks take."""
        before = self.unread_bytes
        self._parser.feed_data(data)
        if self.unread_bytes > before:
            self._bare_bytes = 0
            if len(self.blocks) > _LOOSE_BLOCKS:
                self._join()
            return
        self._bare_bytes += len(data)
        if self._bare_bytes > MAX_HEAD_BYTES and not self.is_complete:
            raise NotHttp("64 KB without a byte of the body")

    def _join(self) -> None:
        """Make one of the blocks since the last that was made so; no byte is copied twice."""
        start = min(self._joined, len(self.blocks))  # fewer when they were taken meanwhile
        if len(self.blocks) - start > _LOOSE_BLOCKS:
            self.blocks[start:] = [b"".join(self.blocks[start:])]
            self._joined = start + 1

    # ----------------------------------------------------- callbacks of the parser
    def on_message_begin(self) -> None:
        """Refuse what follows a complete answer, which nobody has asked for."""
        if self.is_complete:
            raise NotHttp("an answer without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; what follows the body under a name is of no use here."""
        if not self.status:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head, unless it is an interim one, after which the real one follows."""
        status = self._parser.get_status_code()
        if status < 100:
            raise NotHttp("no such status")
        if status < 200 and status != _SWITCHING:
            self._fields = []
            return
        self.status = status
        self.may_follow = self._parser.should_keep_alive()

    def on_body(self, block: bytes) -> None:
        """Keep a part of the body."""
        self.blocks.append(block)
        self.unread_bytes += len(block)

    def on_message_complete(self) -> None:
        """Note the end, unless it is that of an interim answer."""
        self.is_complete = self.status > 0
