"""A box over a connected stream to its runner: the one implementation of `Box`, whatever isolates it."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from trainyard.core import errors
from trainyard.sandbox.backends.base import Kept, OnOutput
from trainyard.sandbox.inside import frames
from trainyard.sandbox.types.orders import Dumped, Loaded, Order, Place, Report, Usage, Variable

_WINDOW_BYTES = 4 << 20
"""Of a file that is asked for at once: what a slow reader makes this process hold."""
_UNSENT_BYTES = 1 << 20
_T = TypeVar("_T")
_OVERDUE_S = 60.0
"""How long after its own time limit a run that has not been reported shows that the box is lost."""
_ENDING_S = 5.0
"""How long the end of a cancelled run may take before the box is given up."""

_ERRORS: Mapping[str, type[errors.TrainyardError]] = {
    "invalid_path": errors.InvalidRequest,
    "wrong_size": errors.InvalidRequest,
    "bad_state": errors.InvalidRequest,
    "workspace_full": errors.TooLarge,
    "state_too_large": errors.TooLarge,
    "not_found": errors.NotFound,
    "changed": errors.Conflict,
    "busy": errors.Conflict,
    "interpreter_gone": errors.Conflict,
}
"""By the code of a runner's `failed`; any other is a fault of ours."""


class _Exchange:
    """One order and its answers."""

    def __init__(self, on_output: OnOutput | None = None) -> None:
        self.done: asyncio.Future[tuple[frames.Header, bytes]] = asyncio.get_running_loop().create_future()
        self.pieces: list[bytes] = []
        self._on_output = on_output

    def take(self, header: frames.Header, payload: bytes) -> None:
        """Take one answer."""
        match header.get("event"):
            case "out" if self._on_output is not None:
                self._on_output("stderr" if header.get("stream") == "stderr" else "stdout", payload)
            case "data":
                self.pieces.append(payload)
            case "done" if not self.done.done():
                self.done.set_result((header, payload))
            case "failed" if not self.done.done():
                self.done.set_exception(_error(header))


def _error(header: frames.Header) -> errors.TrainyardError:
    code, message = str(header.get("code")), str(header.get("message"))
    kind = _ERRORS.get(code)
    if kind is None:
        return errors.TrainyardError(f"the runner of a box refused an order ({code}): {message}")
    return kind(message, code=code)


class _Stream(asyncio.Protocol):
    """The connection: frames in, frames out, and room to write."""

    def __init__(self, on_frame: Callable[[frames.Header, bytes], None], on_lost: Callable[[], None]) -> None:
        self._reader = frames.Reader()
        self._on_frame, self._on_lost = on_frame, on_lost
        self._room = asyncio.Event()
        self._room.set()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            for header, payload in self._reader.feed(data):
                self._on_frame(header, payload)
        except frames.BadFrame:
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()
        self._on_lost()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def send(self, header: frames.Header, payload: bytes = b"") -> None:
        """Write a frame, then wait until the other side has read most of what was written."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frames.encode(header, payload))
        if not self._room.is_set():
            await self._room.wait()


class RunnerBox:
    """Implements `Box`.

    Orders that change something go one after the other; `interrupt`, `usage` and `get` do not wait for them.
    """

    def __init__(self, box_id: str, end: Callable[[], Awaitable[None]]) -> None:
        self._id, self._end = box_id, end
        self._stream = _Stream(self._on_frame, self._on_lost)
        self._numbers = itertools.count(1)
        self._exchanges: dict[int, _Exchange] = {}
        self._turn = asyncio.Lock()
        self._is_alive = True

    @classmethod
    async def connect(cls, connection: socket.socket, box_id: str, end: Callable[[], Awaitable[None]]) -> "RunnerBox":
        """Begin to speak with a runner.

        Args:
            connection: Connected, the runner at its other end.
            box_id: Names it in logs.
            end: Called by `close`: ends the box from outside, with all that is in it, however it stands.
        """
        box = cls(box_id, end)
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        if connection.family == socket.AF_UNIX:
            await loop.create_unix_connection(lambda: box._stream, sock=connection)
        else:
            await loop.create_connection(lambda: box._stream, sock=connection)
        return box

    @property
    def id(self) -> str:
        """Names it in logs."""
        return self._id

    @property
    def is_alive(self) -> bool:
        """Whether its runner is connected."""
        return self._is_alive

    @property
    def is_busy(self) -> bool:
        """Whether it works on an order that others wait for."""
        return self._turn.locked()

    async def run(self, order: Order, stdin: bytes = b"", on_output: OnOutput | None = None) -> Kept:
        """Run code to its end; see `Box.run`."""
        async with self._turn:
            header = {name: getattr(order, name) for name in order.__struct_fields__}
            header["program"] = msgspec.to_builtins(order.program)
            header["env"] = dict(order.env)
            header["stream"] = order.stream and on_output is not None
            exchange, number = self._open(on_output)
            giving_up = asyncio.get_running_loop().call_later(order.timeout_s + _OVERDUE_S, self._lose)
            try:
                await self._stream.send({"id": number, "op": "run", **header}, stdin)
                answer, kept = await exchange.done
            except asyncio.CancelledError:
                await self._end_run()
                raise
            finally:
                giving_up.cancel()
                self._exchanges.pop(number, None)
        report = _checked(answer, Report)
        cut = report.stdout.kept_bytes
        if cut + report.stderr.kept_bytes != len(kept):
            raise self._broken("a report that does not fit its output")
        return Kept(report, kept[:cut], kept[cut:])

    async def _end_run(self) -> None:
        """Kill what runs, in a task of its own: a second cancellation does not leave it half done."""
        ending = asyncio.ensure_future(self._call("reset"))
        try:
            await asyncio.wait([ending], timeout=_ENDING_S)
        finally:
            if not ending.done():
                ending.cancel()
                self._lose()
            elif not ending.cancelled():
                ending.exception()

    async def interrupt(self) -> None:
        """Send SIGINT to what runs."""
        await self._call("interrupt")

    async def put(
        self, place: Place, path: str, size_bytes: int, content: AsyncIterator[bytes], *, mode: int = 0o644
    ) -> None:
        """Write a file; see `Box.put`."""
        async with self._turn:
            exchange, number = self._open()
            try:
                order = {"id": number, "op": "put", "place": place, "path": path, "size": size_bytes, "mode": mode}
                await self._stream.send(order)
                await self._send_content(number, content, exchange)
                await exchange.done
            finally:
                self._exchanges.pop(number, None)

    async def _send_content(self, number: int, content: AsyncIterator[bytes], exchange: _Exchange) -> None:
        is_complete = False
        try:
            async for chunk in content:
                for at in range(0, len(chunk), frames.PIECE_BYTES):
                    if exchange.done.done():
                        return  # refused: the rest need not be sent
                    piece = chunk[at : at + frames.PIECE_BYTES]
                    await self._stream.send({"id": number, "event": "data", "last": False}, piece)
            is_complete = True
        finally:
            last = {"id": number, "event": "data", "last": True}
            if not is_complete:
                last["abandoned"] = True
            if not exchange.done.done() and self._stream.transport is not None:
                self._stream.transport.write(frames.encode(last))

    async def get(self, place: Place, path: str) -> AsyncIterator[bytes]:
        """Read a regular file, a window at a time, so that a slow reader holds nothing up."""
        order: dict[str, Any] = {"place": place, "path": path, "bytes": _WINDOW_BYTES}
        offset = 0
        while True:
            exchange, number = self._open()
            try:
                await self._stream.send({"id": number, "op": "get", **order, "offset": offset})
                about, _payload = await exchange.done
            finally:
                self._exchanges.pop(number, None)
            for piece in exchange.pieces:
                offset += len(piece)
                if piece:
                    yield piece
            if offset >= about["size"]:
                return
            order["version"] = about["version"]

    async def delete(self, place: Place, path: str) -> bool:
        """Remove a file; whether it existed."""
        return bool((await self._in_turn("delete", place=place, path=path))["existed"])

    async def accept(self) -> None:
        """Let what lies in the workspace count as known."""
        await self._in_turn("accept")

    async def variables(self) -> list[Variable]:
        """List what the code has defined."""
        return _checked(await self._in_turn("variables"), _Variables).variables

    async def dump(self, max_bytes: int) -> Dumped:
        """Write the variables into the spool."""
        return _checked(await self._in_turn("dump", max_bytes=max_bytes), Dumped)

    async def load(self) -> Loaded:
        """Restore the variables of the spool."""
        return _checked(await self._in_turn("load"), Loaded)

    async def reset(self) -> None:
        """Put a new interpreter in place of the old."""
        await self._in_turn("reset")

    async def usage(self) -> Usage:
        """Measure it."""
        return _checked(await self._call("usage"), Usage)

    async def close(self) -> None:
        """End it with everything in it; a second time does nothing."""
        self._lose()
        end, self._end = self._end, _nothing
        await end()

    def _open(self, on_output: OnOutput | None = None) -> tuple[_Exchange, int]:
        if not self._is_alive:
            raise self._gone()
        exchange, number = _Exchange(on_output), next(self._numbers)
        self._exchanges[number] = exchange
        return exchange, number

    async def _in_turn(self, op: str, **facts: object) -> frames.Header:
        async with self._turn:
            return await self._call(op, **facts)

    async def _call(self, op: str, **facts: object) -> frames.Header:
        exchange, number = self._open()
        try:
            await self._stream.send({"id": number, "op": op, **facts})
            return (await exchange.done)[0]
        finally:
            self._exchanges.pop(number, None)

    def _on_frame(self, header: frames.Header, payload: bytes) -> None:
        exchange = self._exchanges.get(header.get("id", 0))
        if exchange is not None:
            exchange.take(header, payload)

    def _on_lost(self) -> None:
        self._is_alive = False
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            if not exchange.done.done():
                exchange.done.set_exception(self._gone())
                exchange.done.exception()

    def _lose(self) -> None:
        if self._stream.transport is not None:
            self._stream.transport.abort()
        self._on_lost()

    def _gone(self) -> errors.Unavailable:
        return errors.Unavailable(f"the box {self._id} has ended", code="box_gone")

    def _broken(self, what: str) -> errors.Unavailable:
        """Give a box up whose runner does not keep to the protocol."""
        self._lose()
        return errors.Unavailable(f"the box {self._id} sent {what} and was ended", code="box_gone")


class _Variables(msgspec.Struct):
    variables: list[Variable]


async def _nothing() -> None:
    pass


def _checked(header: frames.Header, kind: type[_T]) -> _T:
    """Read an answer; code that plays its interpreter cannot make it anything else than what it must be."""
    try:
        return msgspec.convert(header, kind)
    except msgspec.ValidationError as error:
        raise errors.Conflict(f"the interpreter gave no proper answer: {error}", code="interpreter_gone") from error
