"""The events of a run that is streamed: `session`, `stdout` and `stderr` as they appear, `result`, `done` or `error`.

A line of comment goes out when nothing else has for a while, so that nobody between takes the connection for dead.
"""

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, Literal, Protocol

import msgspec
import structlog

from trainyard.core import errors
from trainyard.core.http import dialects, edge
from trainyard.sandbox.backends.base import OnOutput
from trainyard.sandbox.routes import answers
from trainyard.sandbox.types import wire
from trainyard.sandbox.types.domain import Executed

HEARTBEAT: Final = b": still running\n\n"
HEARTBEAT_S: Final = 10.0

Stream = Literal["stdout", "stderr"]
_log = structlog.get_logger("sandbox")
_encoder = msgspec.json.Encoder()


class Run(Protocol):
    """Runs the code."""

    def __call__(self, on_event: OnOutput, *, on_session: Callable[[str], None]) -> Awaitable[Executed]:
        """Run it, and tell when it begins and what it writes."""
        ...


class RunEvents(AsyncGenerator[bytes, None]):
    """The bytes of one stream; closing it before its end is the caller's leaving, which ends the run.

    No generator function, since one that was never begun would do nothing when it is closed.

    Args:
        run: Runs the code.
        write: Makes the whole answer.
        request_id: For an error in the middle.
        heartbeat_s: Longest silence.
    """

    def __init__(
        self,
        run: Run,
        write: Callable[[Executed], wire.ExecResponse],
        request_id: str,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._write, self._request_id, self._heartbeat_s = write, request_id, heartbeat_s
        self._begun: list[bytes] = []
        self._pieces: deque[tuple[Stream, bytes]] = deque()
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
        self._news = asyncio.Event()
        self._is_over = False
        self._task = asyncio.ensure_future(run(self._on_output, on_session=self._on_session))
        self._task.add_done_callback(lambda _: self._news.set())

    async def begin(self) -> None:
        """Return when there is something to send, or the first heartbeat is due.

        Raises:
            errors.TrainyardError: The run failed before its code began; there is nothing to stream.
        """
        await self._wait()
        if self._task.done() and not self._has_news:
            try:
                await asyncio.shield(self._task)
            except BaseException:
                self._is_over = True
                raise

    async def asend(self, _value: None) -> bytes:
        """Give the next events."""
        if self._is_over:
            raise StopAsyncIteration
        await self._wait()
        if self._has_news:
            return self._output()
        return self._end() if self._task.done() else HEARTBEAT

    async def athrow(self, *_error: Any) -> bytes:
        """End it: whoever throws something in has left."""
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it, and the run."""
        self._is_over = True
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # nobody is left to be told

    # ------------------------------------------------------------------ inside

    @property
    def _has_news(self) -> bool:
        return bool(self._begun or self._pieces)

    def _on_session(self, session_id: str) -> None:
        self._begun.append(event("session", wire.RunBegun(session_id=session_id)))
        self._news.set()

    def _on_output(self, stream: Stream, data: bytes) -> None:
        self._pieces.append((stream, data))
        self._news.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await self._news.wait()
        except TimeoutError:
            return

    def _output(self) -> bytes:
        """Write everything that waits, what came in a row as one event."""
        events, self._begun = self._begun, []
        while self._pieces:
            stream, data = self._pieces.popleft()
            parts = [data]
            while self._pieces and self._pieces[0][0] == stream:
                parts.append(self._pieces.popleft()[1])
            events += self._text(stream, b"".join(parts), is_last=False)
        if not self._task.done():
            self._news.clear()
        return b"".join(events) or HEARTBEAT

    def _text(self, stream: Stream, data: bytes, *, is_last: bool) -> list[bytes]:
        text = self._decoders[stream].decode(data, is_last)
        return [event(stream, wire.OutputPiece(text=text))] if text else []

    def _end(self) -> bytes:
        self._is_over = True
        rest = [*self._text("stdout", b"", is_last=True), *self._text("stderr", b"", is_last=True)]
        error = self._task.exception() if not self._task.cancelled() else errors.Unavailable("The run was ended")
        if error is not None:
            return b"".join([*rest, _failure(error, self._request_id)])
        run = self._task.result()
        results = [event("result", answers.output(result)) for result in run.results]
        return b"".join([*rest, *results, event("done", self._write(run))])


def event(name: str, body: object) -> bytes:
    """Write one event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encoder.encode(body))


def _failure(error: BaseException, request_id: str) -> bytes:
    """Write the event that ends a stream which cannot go on: the body that the error would have had as an answer."""
    known, status = edge.translate(error) if isinstance(error, Exception) else (errors.TrainyardError(), None)
    if dialects.status_of(known, "code") == 500:
        _log.error("run_failed", request_id=request_id, exc_info=error)
    return event("error", dialects.render(known, "code", request_id, status=status).body)
