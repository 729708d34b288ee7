"""A box over a connected stream to its runner: the one implementation of `Box`, whatever isolates it."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from trainyard.core import errors
from trainyard.sandbox.backends.base import Kept, OnOutput
from trainyard.sandbox.backends.exchange import WINDOW_BYTES, Exchange, Stream
from trainyard.sandbox.inside import frames
from trainyard.sandbox.types.orders import Dumped, Loaded, Order, Place, Report, Usage, Variable

_T = TypeVar("_T")
OVERDUE_S = 60.0
"""How long after its own time limit an order that has not been answered shows that the box is lost."""
_QUESTION_S = 60.0
"""Time limit of a question to the interpreter, see `inside.runner`."""
_QUESTIONS = frozenset({"variables", "dump", "load"})
_SLACK_BYTES = 1 << 20
"""Of output beyond what ends a run: what was in its pipes."""
_ENDING_S = 5.0
"""How long the end of a cancelled run may take before the box is given up."""


class RunnerBox:
    """Implements `Box`.

    Orders that change something go one after the other; `interrupt`, `usage` and `get` do not wait for them.
    """

    def __init__(self, box_id: str, end: Callable[[], Awaitable[None]], overdue_s: float) -> None:
        self._id, self._end, self._overdue_s = box_id, end, overdue_s
        self._spent_cpu_s = 0.0
        self._stream = Stream(self._on_frame, self._on_lost)
        self._numbers = itertools.count(1)
        self._exchanges: dict[int, Exchange] = {}
        self._turn = asyncio.Lock()
        self._is_alive = True

    @classmethod
    async def connect(
        cls,
        connection: socket.socket,
        box_id: str,
        end: Callable[[], Awaitable[None]],
        overdue_s: float = OVERDUE_S,
    ) -> "RunnerBox":
        """Begin to speak with a runner.

        Args:
            connection: Connected, the runner at its other end.
            box_id: Names it in logs.
            end: Called by `close`: ends the box from outside, with all that is in it, however it stands.
            overdue_s: A box whose runner is silent for so long, beyond what an order may take, is given up.
        """
        box = cls(box_id, end, overdue_s)
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

    @property
    def spent_cpu_s(self) -> float:
        """CPU seconds of all runs and questions so far; see `Box.spent_cpu_s`."""
        return self._spent_cpu_s

    async def run(self, order: Order, stdin: bytes = b"", on_output: OnOutput | None = None) -> Kept:
        """Run code to its end; see `Box.run`."""
        async with self._turn:
            header = {name: getattr(order, name) for name in order.__struct_fields__}
            header["program"] = msgspec.to_builtins(order.program)
            header["env"] = dict(order.env)
            header["stream"] = order.stream and on_output is not None
            exchange, number = self._open(on_output, 2 * (order.log_bytes + _SLACK_BYTES))
            began_s = _now_s()
            try:
                with self._answered_in_time(order.timeout_s):
                    await self._stream.send({"id": number, "op": "run", **header}, stdin)
                    answer, kept = await asyncio.shield(exchange.done)
            except asyncio.CancelledError:
                left_s = _now_s() - began_s
                try:
                    await self._end_run()
                finally:
                    self._spent_cpu_s += self._cpu_s_of(exchange, left_s)
                raise
            except errors.Unavailable:
                self._spent_cpu_s += min(_now_s() - began_s, order.timeout_s)
                raise
            finally:
                self._exchanges.pop(number, None)
        report = self._read(answer, Report)
        self._spent_cpu_s += report.cpu_s
        cut = report.stdout.kept_bytes
        if cut + report.stderr.kept_bytes != len(kept):
            raise self._broken("a report that does not fit its output")
        return Kept(report, kept[:cut], kept[cut:])

    def _cpu_s_of(self, exchange: Exchange, left_s: float) -> float:
        """Tell what a run took that was killed since nobody waits for it; the wall clock where its box has not told."""
        if not exchange.done.done():
            exchange.done.cancel()
            return left_s
        if exchange.done.exception() is not None:
            return left_s
        return self._read(exchange.done.result()[0], Report).cpu_s

    @contextmanager
    def _answered_in_time(self, limit_s: float = 0.0) -> Iterator[None]:
        """Give the box up when what is awaited here takes much longer than it may."""
        giving_up = asyncio.get_running_loop().call_later(limit_s + self._overdue_s, self._lose)
        try:
            yield
        finally:
            giving_up.cancel()

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
                await self._send(order)
                await self._send_content(number, content, exchange)
                with self._answered_in_time():
                    await exchange.done
            finally:
                self._exchanges.pop(number, None)

    async def _send_content(self, number: int, content: AsyncIterator[bytes], exchange: Exchange) -> None:
        is_complete = False
        try:
            async for chunk in content:
                for at in range(0, len(chunk), frames.PIECE_BYTES):
                    if exchange.done.done():
                        return  # refused: the rest need not be sent
                    piece = chunk[at : at + frames.PIECE_BYTES]
                    await self._send({"id": number, "event": "data", "last": False}, piece)
            is_complete = True
        finally:
            last = {"id": number, "event": "data", "last": True}
            if not is_complete:
                last["abandoned"] = True
            if not exchange.done.done() and self._stream.transport is not None:
                self._stream.transport.write(frames.encode(last))

    async def get(self, place: Place, path: str) -> AsyncIterator[bytes]:
        """Read a regular file, a window at a time, so that a slow reader holds nothing up."""
        order: dict[str, Any] = {"place": place, "path": path, "bytes": WINDOW_BYTES}
        offset = 0
        while True:
            exchange, number = self._open()
            try:
                with self._answered_in_time():
                    await self._stream.send({"id": number, "op": "get", **order, "offset": offset})
                    about = self._read((await exchange.done)[0], _Got)
            finally:
                self._exchanges.pop(number, None)
            before = offset
            for piece in exchange.pieces:
                offset += len(piece)
                if piece:
                    yield piece
            if offset >= about.size:
                return
            if offset == before:
                raise self._broken("nothing of a file that goes on")
            order["version"] = about.version

    async def delete(self, place: Place, path: str) -> bool:
        """Remove a file; whether it existed."""
        return self._read(await self._in_turn("delete", place=place, path=path), _Deleted).existed

    async def accept(self) -> None:
        """Let what lies in the workspace count as known."""
        await self._in_turn("accept")

    async def variables(self) -> list[Variable]:
        """List what the code has defined."""
        return _checked(await self._asked("variables"), _Variables).variables

    async def dump(self, max_bytes: int) -> Dumped:
        """Write the variables into the spool."""
        return _checked(await self._asked("dump", max_bytes=max_bytes), Dumped)

    async def load(self) -> Loaded:
        """Restore the variables of the spool."""
        return _checked(await self._asked("load"), Loaded)

    async def reset(self) -> None:
        """Put a new interpreter in place of the old."""
        await self._in_turn("reset")

    async def usage(self) -> Usage:
        """Measure it."""
        return self._read(await self._call("usage"), Usage)

    async def close(self) -> None:
        """End it with everything in it; a second time does nothing."""
        self._lose()
        end, self._end = self._end, _nothing
        await end()

    def _open(self, on_output: OnOutput | None = None, max_bytes: int = WINDOW_BYTES) -> tuple[Exchange, int]:
        if not self._is_alive:
            raise self._gone()
        exchange, number = Exchange(on_output, max_bytes), next(self._numbers)
        self._exchanges[number] = exchange
        return exchange, number

    async def _in_turn(self, op: str, **facts: object) -> frames.Header:
        async with self._turn:
            return await self._call(op, **facts)

    async def _asked(self, op: str, **facts: object) -> frames.Header:
        """Ask the interpreter; where nobody waits for the answer any more, the box is busy until it comes."""
        asking = asyncio.ensure_future(self._ask(op, **facts))
        asking.add_done_callback(_hear)
        return await asyncio.shield(asking)

    async def _ask(self, op: str, **facts: object) -> frames.Header:
        """Ask what code of the caller may run for, and count what that took."""
        async with self._turn:
            began_s, before_s = _now_s(), (await self.usage()).cpu_s
            try:
                return await self._call(op, **facts)
            finally:
                self._spent_cpu_s += await self._cpu_s_since(before_s, began_s)

    async def _cpu_s_since(self, before_s: float, began_s: float) -> float:
        try:
            return max(0.0, (await self.usage()).cpu_s - before_s)
        except errors.Unavailable:
            return _now_s() - began_s

    async def _call(self, op: str, **facts: object) -> frames.Header:
        exchange, number = self._open()
        try:
            with self._answered_in_time(_QUESTION_S if op in _QUESTIONS else 0.0):
                await self._stream.send({"id": number, "op": op, **facts})
                return (await exchange.done)[0]
        finally:
            self._exchanges.pop(number, None)

    async def _send(self, header: frames.Header, payload: bytes = b"") -> None:
        with self._answered_in_time():
            await self._stream.send(header, payload)

    def _on_frame(self, header: frames.Header, payload: bytes) -> None:
        number = header.get("id")
        if not isinstance(number, int):
            raise frames.BadFrame("an answer to nothing")
        exchange = self._exchanges.get(number)
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

    def _read(self, header: frames.Header, kind: type[_T]) -> _T:
        """Read what a runner itself says."""
        try:
            return msgspec.convert(header, kind)
        except msgspec.ValidationError as error:
            raise self._broken(f"what it must not ({error})") from error

    def _broken(self, what: str) -> errors.Unavailable:
        """Give a box up whose runner does not keep to the protocol."""
        self._lose()
        return errors.Unavailable(f"the box {self._id} sent {what} and was ended", code="box_gone")


class _Variables(msgspec.Struct):
    variables: list[Variable]


class _Got(msgspec.Struct):
    size: int
    version: str


class _Deleted(msgspec.Struct):
    existed: bool


async def _nothing() -> None:
    pass


def _hear(asking: asyncio.Future[frames.Header]) -> None:
    """Let a fault be no surprise where nobody waits for it."""
    if not asking.cancelled():
        asking.exception()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _checked(header: frames.Header, kind: type[_T]) -> _T:
    """Read an answer; code that plays its interpreter cannot make it anything else than what it must be."""
    try:
        return msgspec.convert(header, kind)
    except msgspec.ValidationError as error:
        raise errors.Conflict(f"the interpreter gave no proper answer: {error}", code="interpreter_gone") from error
