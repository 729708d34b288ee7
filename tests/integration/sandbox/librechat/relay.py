"""A wire between a client and the server that keeps what went over it."""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

_PIECE_BYTES = 64 << 10
_END_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Half:
    """A request or an answer: its first line, headers and body."""

    line: str
    headers: Message
    body: bytes

    @classmethod
    def read(cls, raw: bytes) -> "Half":
        line, _, rest = raw.partition(b"\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        return cls(line.decode(), BytesHeaderParser().parsebytes(head), body)

    def json(self) -> Any:
        """The body, where it is JSON; None otherwise."""
        is_json = (self.headers["content-type"] or "").startswith("application/json")
        return json.loads(self.body) if is_json and self.body else None


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    request: Half
    answer: Half


class Relay(socketserver.ThreadingTCPServer):
    """Takes connections of one exchange each, as LibreChat opens them, and passes them on byte by byte."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._seen: list[Exchange] = []
        self._open = 0
        self._changed = threading.Condition()

    def begin(self) -> None:
        with self._changed:
            self._open += 1

    def end(self, sent: bytes, received: bytes) -> None:
        with self._changed:
            if received:
                self._seen.append(Exchange(Half.read(sent), Half.read(received)))
            self._open -= 1
            self._changed.notify_all()

    def take(self) -> list[Exchange]:
        """Give all exchanges since the last time, once no connection is open."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._open == 0, _END_TIMEOUT_S)
            seen, self._seen = self._seen, []
        return seen


class _Connection(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        sent, received = bytearray(), bytearray()
        self.server.begin()
        try:
            with socket.create_connection(self.server.target) as upstream:
                forth = threading.Thread(target=_pump, args=(self.request, upstream, sent))
                forth.start()
                _pump(upstream, self.request, received)
                forth.join()
        finally:
            self.server.end(bytes(sent), bytes(received))


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):  # one of the two has hung up
        while piece := source.recv(_PIECE_BYTES):
            kept += piece
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def relayed(target: tuple[str, int]) -> Iterator[Relay]:
    """Run a relay until the block ends."""
    with Relay(target) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            thread.join()
