"""What a zygote answers on its socket: one JSON object per line and direction, one command per connection.

{"op": "open"}    -> {"pid"} with two descriptors: the socket of the runner, a pidfd of its process 1
{"op": "layers"}  -> {"layers": [...], "flavor", "refusal"}: why no boxes are made, or null
anything else     -> {"error"}; so is a box that cannot be made, with "is_final" where none ever can
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from trainyard.sandbox.inside.zygote.nursery import Box, Nursery

_COMMAND_BYTES: Final = 4096
_TIDY_S: Final = 0.5
_ENDED: Final = "its process 1 has ended"


class Service:
    """Waits for commands, for boxes to be born and for boxes to end; one thread, nothing in it blocks.

    Args:
        refusal: Why no boxes are made here; None = they are.
    """

    def __init__(
        self,
        listener: socket.socket,
        nursery: Nursery,
        layers: list[dict[str, object]],
        flavor: str,
        max_boxes: int,
        refusal: str | None,
    ) -> None:
        self._listener, self._nursery = listener, nursery
        self._layers, self._flavor, self._max_boxes, self._refusal = layers, flavor, max_boxes, refusal
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[int, socket.socket] = {}
        self._is_over = False
        self._wake, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _nothing)
        self._watch(listener.fileno(), self._accept)
        self._watch(self._wake, self._awake)

    def serve(self) -> None:
        """Work until SIGTERM; returns when every box has ended."""
        while not self._is_over:
            timeout_s = _TIDY_S if self._nursery.is_untidy else None
            for key, _events in self._selector.select(timeout_s):
                key.data()
            if timeout_s is not None:
                self._nursery.tidy()
        self._nursery.end_all()

    def _watch(self, descriptor: int, call: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, call)

    def _awake(self) -> None:
        received = os.read(self._wake, 512)
        self._is_over = signal.SIGTERM in received or signal.SIGINT in received
        self._nursery.reap(self._ended)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except ConnectionAbortedError:  # the client has left already
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] != os.getuid():
            connection.close()
            return
        connection.setblocking(False)
        self._watch(connection.fileno(), lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        """Take the command; it fits into one packet, and the client sends nothing after it."""
        self._selector.unregister(connection.fileno())
        try:
            line = connection.recv(_COMMAND_BYTES)
        except OSError:
            line = b""
        if not line:
            connection.close()
            return
        try:
            op = json.loads(line)["op"]
        except (ValueError, KeyError, TypeError):
            op = None
        match op:
            case "open":
                self._open(connection)
            case "layers":
                _answer(connection, {"layers": self._layers, "flavor": self._flavor, "refusal": self._refusal})
            case _:
                _answer(connection, {"error": 'a command is {"op": "open"} or {"op": "layers"}'})

    def _open(self, connection: socket.socket) -> None:
        if self._refusal is not None:
            _answer(connection, {"error": self._refusal, "is_final": True})
            return
        if len(self._nursery.boxes) >= self._max_boxes:
            _answer(connection, {"error": f"there are {self._max_boxes} boxes already"})
            return
        try:
            box = self._nursery.begin()
        except OSError as error:
            _answer(connection, {"error": str(error)})
            return
        self._waiting[box.id] = connection
        self._watch(box.status, lambda: self._hear(box))

    def _hear(self, box: Box) -> None:
        if box.id not in self._waiting:
            return  # it has ended in the same turn
        status = box.status
        self._nursery.read_status(box)
        if box.is_settled or box.status < 0:
            self._selector.unregister(status)
            self._deliver(box)

    def _deliver(self, box: Box) -> None:
        connection = self._waiting.pop(box.id, None)
        if connection is None:
            return
        if box.failure is not None or box.pid is None:
            _answer(connection, {"error": box.failure})
            self._nursery.discard(box)
            return
        try:
            pidfd = os.pidfd_open(box.pid)
        except ProcessLookupError:
            _answer(connection, {"error": _ENDED})
            self._nursery.discard(box)
            return
        if not _answer(connection, {"pid": box.pid}, [box.control.fileno(), pidfd]):
            self._nursery.discard(box)
        os.close(pidfd)
        box.control.close()
        self._nursery.hear_no_more(box)

    def _ended(self, box: Box) -> None:
        """Answer for a box that ended before anyone had it."""
        connection = self._waiting.pop(box.id, None)
        if connection is not None:
            self._selector.unregister(box.status)
            self._nursery.read_status(box)
            _answer(connection, {"error": box.failure or _ENDED})


def _answer(connection: socket.socket, answer: dict[str, Any], descriptors: list[int] | None = None) -> bool:
    """Send the one answer of a connection; false when nobody is there to take it."""
    with connection, contextlib.suppress(OSError):
        socket.send_fds(connection, [json.dumps(answer).encode() + b"\n"], descriptors or [])
        return True
    return False


def _nothing(signum: int, frame: object) -> None:
    """Take a signal whose arrival is all that matters."""
