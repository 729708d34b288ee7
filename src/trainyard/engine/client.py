"""`SocketEngine`: an engine in another process, reached over its unix socket; many streams share one connection."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from trainyard.core import errors
from trainyard.engine import calls, protocol, switchboard, types
from trainyard.engine.channel import Channel
from trainyard.engine.line_engine import LineEngine

_decoders: Final = {answer: msgspec.msgpack.Decoder(answer) for answer in set(calls.RESULTS.values())}


class Connection:
    """One open connection; it never reopens.

    Attributes:
        is_open: Calls can still be answered; false from the moment on at which those in flight are failed.
    """

    def __init__(self, channel: Channel) -> None:
        self.board = switchboard.Switchboard()
        self._channel = channel
        self._answers: dict[int, type[types.Message]] = {}
        self._pings: list[asyncio.Future[None]] = []
        self.is_open = True
        self._reading = asyncio.create_task(self._read(), name="engine-connection")

    async def call(self, number: int, call: calls.AnyCall) -> None:
        """Send a call; a large batch goes part by part."""
        payload = protocol.encode(call)
        if not isinstance(call, calls.Generate):
            self._answers[number] = calls.RESULTS[type(call)]
        try:
            await self._channel.send(number, protocol.Kind.CALL, payload)
        except ConnectionError as error:
            raise switchboard.engine_away(f"connection lost: {error}") from error

    def cancel(self, number: int) -> None:
        """Take back a call or end a stream."""
        self._answers.pop(number, None)
        self._channel.post(number, protocol.Kind.CANCEL)

    def credit(self, number: int, tokens: int) -> None:
        """Let a stream run further ahead."""
        self._channel.post(number, protocol.Kind.CREDIT, protocol.encode(tokens))

    async def ping(self) -> None:
        """Wait until the other side's event loop has answered."""
        if not self.is_open:
            raise switchboard.engine_away("not connected")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings.append(future)
        self._channel.post(0, protocol.Kind.PING)
        await future

    async def aclose(self) -> None:
        """Close the socket and fail what is in flight."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        if self.is_open:  # the reader was cancelled before it began
            self._fail(switchboard.engine_away("the connection was closed"))
            await self._channel.aclose()

    async def _read(self) -> None:
        reason = "its process ended"
        try:
            while True:
                for frame in await self._channel.receive():
                    self._route(frame)
        except (EOFError, ConnectionError):
            pass
        except protocol.ProtocolError as error:
            reason = error.message
        finally:
            self._fail(switchboard.engine_away(reason))
            await self._channel.aclose()

    def _fail(self, error: errors.Unavailable) -> None:
        self.is_open = False
        self.board.fail_all(error)
        for ping in self._pings:
            if not ping.done():
                ping.set_exception(switchboard.copy_error(error))
        self._pings.clear()

    def _route(self, frame: protocol.Frame) -> None:
        match frame.kind:
            case protocol.Kind.RESULT:
                if (answer := self._answers.pop(frame.stream, None)) is not None:
                    self.board.result(frame.stream, protocol.decode(_decoders[answer], frame.payload))
            case protocol.Kind.ERROR:
                self._answers.pop(frame.stream, None)
                self.board.error(frame.stream, protocol.decode_error(frame.payload))
            case protocol.Kind.TOKENS:
                self.board.batch(protocol.decode(protocol.tokens_decoder, frame.payload))
            case protocol.Kind.PING:
                if self._pings and not (ping := self._pings.pop(0)).done():
                    ping.set_result(None)
            case _:
                raise protocol.ProtocolError(f"an engine does not send {frame.kind.value}")


class SocketEngine(LineEngine):
    """Implements `Engine` over a unix socket; connects at the first call and again after the connection dropped.

    Args:
        path: The engine's socket.
        connect_timeout_s: After this long without a connection a call fails; a missing socket fails at once.
        on_refused: Asked when there is no connection; raises when waiting does not help.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect_timeout_s: float = 5.0,
        on_refused: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._on_refused = on_refused
        self._path = path
        self._connect_timeout_s = connect_timeout_s
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._is_closed = False

    async def ping(self) -> None:
        """Return once the engine's process answers, which it does while it computes."""
        await (await self._line()).ping()

    async def aclose(self) -> None:
        """Close the connection for good; calls in flight fail."""
        self._is_closed = True
        if self._connection is not None:
            await self._connection.aclose()

    async def _line(self) -> Connection:
        async with self._connecting:
            if self._is_closed:
                raise switchboard.engine_away("this client is closed")
            if self._connection is None or not self._connection.is_open:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_unix_connection(self._path)
        except (OSError, TimeoutError) as error:
            if self._on_refused is not None:
                await self._on_refused()
            raise switchboard.engine_away(f"no connection: {type(error).__name__}") from error
        return Connection(Channel(reader, writer))
