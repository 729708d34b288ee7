"""One request on a connection of ours: it tells of leaving at once, and can write an answer in one piece."""

import asyncio
from collections.abc import Callable, Sequence

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


class Outbox:
    """Answers of one turn of the loop, written together at its end.

    The requests of a busy turn come from few clients, such as a balancer: each write on its own wakes its reader, which
    then sleeps until the next; that costs more than the write. Nothing waits longer than the turn takes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._defaults: Sequence[tuple[bytes, bytes]] = ()
        self._lines = b""

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn; what is written to the transport in later turns comes after it."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))

    def lines_of(self, defaults: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Write the headers that all answers have; the server makes other ones every second."""
        if defaults is not self._defaults:
            self._defaults, self._lines = defaults, b"".join([b"%b: %b\r\n" % pair for pair in defaults])
        return self._lines

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            transport.write(data)


class Cycle(RequestResponseCycle):
    """Implements `leaving.Wire`.

    Attributes:
        outbox: Where whole answers go.
    """

    outbox: Outbox
    _leavers: list[Callable[[], object]] | None = None

    @property
    def has_left(self) -> bool:
        """Whether the connection is lost; a client that closes its half has left too once that was read."""
        return self.disconnected

    def call_when_gone(self, leave: Callable[[], object]) -> None:
        """Have something called once when the connection is lost; bytes are read from now on, or it goes unnoticed."""
        if self.disconnected:
            leave()
            return
        if self._leavers is None:
            self._leavers = []
        self._leavers.append(leave)
        self.flow.resume_reading()

    def forget(self, leave: Callable[[], object]) -> None:
        """Call it no more."""
        if self._leavers is not None and leave in self._leavers:
            self._leavers.remove(leave)

    def lose(self) -> None:
        """Tell that the connection is lost."""
        self.on_response = _nothing  # what it was holds the connection, which holds this
        if self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        leavers, self._leavers = self._leavers, None
        for leave in leavers or ():
            leave()

    def give_body(self, body: bytes) -> None:
        """Take a body that has come whole."""
        self.body += body
        self.more_body = False
        self.message_event.set()

    def peek_body(self) -> bytes | None:
        """Look at the body, when all of it has come; None when there is more to receive."""
        return None if self.more_body or self.disconnected else bytes(self.body)

    def take_body(self) -> bytes | None:
        """Take the body, when all of it has come; None when there is more to receive."""
        if self.more_body or self.disconnected:
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()  # as `receive` does: the next event is that the client leaves
        return body

    def write_whole(self, status: int, head: bytes, content: bytes) -> bool:
        """Send a whole answer as `send` does in two messages; false when the client reads too slowly for that."""
        if self.disconnected:
            return True
        if self.flow.write_paused or self.response_started:
            return False
        pieces = [STATUS_LINE[status], self.outbox.lines_of(self.default_headers), head]
        if not self.keep_alive:
            pieces.append(b"connection: close\r\n")
        pieces += (b"\r\n", content)
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        if self.keep_alive:
            self.outbox.put(self.transport, b"".join(pieces))
        else:
            self.transport.write(b"".join(pieces))
            self.transport.close()
        self.on_response()
        return True


def _nothing() -> None:
    """Begin no further request."""
