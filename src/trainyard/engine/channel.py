"""One end of a connection between an engine and its callers: whole messages in and out of a socket."""

import asyncio
import contextlib

from trainyard.engine import protocol

_READ_BYTES = 1024 * 1024


class Channel:
    """Sends and receives messages; several tasks may send at once, one receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = protocol.FrameReader()
        self.assembler = protocol.Assembler()

    async def receive(self) -> list[protocol.Frame]:
        """Wait for bytes and return the messages that they complete, possibly none.

        Raises:
            EOFError: the other side is gone.
            protocol.ProtocolError: it does not speak the protocol.
        """
        data = await self._reader.read(_READ_BYTES)
        if not data:
            raise EOFError
        whole = (self.assembler.add(frame) for frame in self._frames.feed(data))
        return [message for message in whole if message is not None]

    def post(self, stream: int, kind: protocol.Kind, payload: bytes = b"") -> None:
        """Send without waiting for room; for what credit or a small size bounds."""
        if not self._writer.is_closing():
            self._writer.writelines(protocol.frames(stream, kind, payload))

    async def send(self, stream: int, kind: protocol.Kind, payload: bytes) -> None:
        """Send part by part, waiting for room after each; messages of other streams pass between the parts."""
        for frame in protocol.frames(stream, kind, payload):
            self._writer.write(frame)
            await self._writer.drain()

    async def aclose(self) -> None:
        """Close the socket; frames already handed over are sent first when the other side reads."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
