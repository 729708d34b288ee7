"""A wire between a client and the server that keeps what went over it."""

import json
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

_PIECE_BYTES = 64 << 10
_ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Half:
    """A request or an answer: its first line, headers and body."""

    line: str
    headers: Message
    body: bytes

    def json(self) -> Any:
        """The body, where it is JSON; None otherwise."""
        is_json = (self.headers["content-type"] or "").startswith("application/json")
        return json.loads(self.body) if is_json and self.body else None


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    request: Half
    answer: Half


class Halves:
    """Takes the bytes of one direction apart; every body has its length in its head, as all have here."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, piece: bytes) -> list[Half]:
        """Give what is whole."""
        self._kept += piece
        whole: list[Half] = []
        while b"\r\n\r\n" in self._kept:
            head, _, rest = self._kept.partition(b"\r\n\r\n")
            line, _, fields = head.partition(b"\r\n")
            headers = BytesHeaderParser().parsebytes(fields)
            assert headers["transfer-encoding"] is None
            length = int(headers["content-length"] or 0)
            if len(rest) < length:
                break
            whole.append(Half(line.decode(), headers, rest[:length]))
            self._kept = rest[length:]
        return whole


class Relay(socketserver.ThreadingTCPServer):
    """Passes connections on byte by byte, and keeps what it passes on before it does."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._seen: list[Exchange] = []
        self._unanswered = 0
        self._changed = threading.Condition()

    def sent(self, requests: int) -> None:
        with self._changed:
            self._unanswered += requests

    def answered(self, exchanges: list[Exchange]) -> None:
        with self._changed:
            self._seen += exchanges
            self._unanswered -= len(exchanges)
            self._changed.notify_all()

    def take(self) -> list[Exchange]:
        """Give all exchanges since the last time; a client may go on before it has read the whole of an answer."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._unanswered == 0, _ANSWER_TIMEOUT_S)
            seen, self._seen = self._seen, []
        return seen


class _Connection(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        forth, back = Halves(), Halves()
        waiting: deque[Half] = deque()

        def ask(piece: bytes) -> None:
            requests = forth.feed(piece)
            waiting.extend(requests)
            self.server.sent(len(requests))

        def answer(piece: bytes) -> None:
            self.server.answered([Exchange(waiting.popleft(), half) for half in back.feed(piece)])

        with socket.create_connection(self.server.target) as upstream:
            thread = threading.Thread(target=_pump, args=(self.request, upstream, ask))
            thread.start()
            _pump(upstream, self.request, answer)
            thread.join()


def _pump(source: socket.socket, sink: socket.socket, keep: Callable[[bytes], None]) -> None:
    with suppress(OSError):  # one of the two has hung up
        while piece := source.recv(_PIECE_BYTES):
            keep(piece)
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
