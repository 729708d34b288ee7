"""Cutting a stream of bytes into events, whatever the boundaries of its blocks are."""

from typing import Protocol

MAX_EVENT_BYTES = 8 << 20
"""A longer event is no event; a vocabulary of log-probabilities fits many times."""


class TooLong(ValueError):
    """An event is longer than any server has reason to send."""


class Framing(Protocol):
    """Finds events."""

    def feed(self, block: bytes) -> list[bytes]:
        """Take a block; returns the data of the events that it completed.

        Raises:
            TooLong: An event is longer than `MAX_EVENT_BYTES`.
        """
        ...

    def end(self) -> list[bytes]:
        """Say that nothing follows; returns what counts as an event although it was not ended."""
        ...


class ServerSentEvents:
    """Implements `Framing` for `text/event-stream`: any line ends, comments, data over several lines.

    An event that is not ended by an empty line is none, as the specification has it: it may be half of one.

    Source:
        HTML Living Standard, section 9.2.6.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._is_first = True
        self._ended_in_cr = False  # a \n that follows belongs to the same line end

    def feed(self, block: bytes) -> list[bytes]:
        """Take a block; returns the data of the events that it completed."""
        raw = self._rest + block if self._rest else block
        if self._is_first and len(raw) >= 3:
            self._is_first = False
            raw = raw.removeprefix(b"\xef\xbb\xbf")  # one byte order mark is ignored
        if self._ended_in_cr and raw:
            raw = raw.removeprefix(b"\n")
            self._ended_in_cr = False
        if b"\r" in raw:
            self._ended_in_cr = raw.endswith(b"\r")
            raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = raw.split(b"\n")
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise TooLong
        return self._events(lines)

    def end(self) -> list[bytes]:
        """Say that nothing follows; half an event is none."""
        return []

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
        return events


class JsonLines:
    """Implements `Framing` for lines of JSON; a last line without its end counts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> list[bytes]:
        """Take a block; returns the lines that it completed, empty ones left out."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > MAX_EVENT_BYTES:
            raise TooLong
        return [line for line in lines if line.strip()]

    def end(self) -> list[bytes]:
        """Give what stands after the last line end."""
        return [self._rest] if self._rest.strip() else []
