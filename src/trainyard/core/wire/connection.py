"""One connection to a server: a request at a time, its answer whole or block by block."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from trainyard.core.wire.answer import Answer
from trainyard.core.wire.failures import Dropped, NotHttp, Stage, TimedOut, TooLong, WireError

JOINED_BYTES: Final = 64 << 10
"""A longer body is not copied behind its head but written after it."""

MAX_UNREAD_BYTES: Final = 1 << 20
"""Of a stream; with more the server is made to wait."""

_RESOLUTION_S: Final = 0.001
"""Of the loop's clock: uvloop's timers fire up to half of it early."""


class Connection(asyncio.Protocol):
    """Sends a request, waits for its answer up to a deadline, closes when either side gives up.

    The one timer of a connection is not set anew by every request, but looks at the deadline that holds when it fires.

    Attributes:
        answer: To the request sent last.
        kept_at_s: Time of the loop since which nobody uses it.
    """

    __slots__ = (
        "__weakref__",
        "_deadline_s",
        "_failure",
        "_is_asked",
        "_is_first",
        "_is_paused",
        "_is_whole",
        "_loop",
        "_most_bytes",
        "_on_end",
        "_timer",
        "_transport",
        "_waiter",
        "answer",
        "kept_at_s",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: "Callable[[Connection], None]") -> None:
        self.answer = Answer()
        self.kept_at_s = 0.0
        self._loop = loop
        self._on_end = on_end
        self._deadline_s = 0.0
        self._failure: WireError | None = None
        self._is_asked = False
        self._is_first = False
        self._is_paused = False
        self._is_whole = False
        self._most_bytes = MAX_UNREAD_BYTES
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --------------------------------------------------------------- requests
    def ask(self, head: bytes, body: bytes, deadline_s: float, most_bytes: int = 0) -> asyncio.Future[None]:
        """Send a request; what is returned is done when `answer` can be used, and raises a `WireError` if it never can.

        Args:
            head: By `Origin.head`.
            body: Of any length.
            deadline_s: Time of the loop.
            most_bytes: 0 waits for the first block of the body, more for the end of a body that may be so long. That is
                for the status 200; an answer with any other can be used as soon as its head has come.
        """
        self._is_first = True
        self._is_whole = most_bytes > 0
        self._most_bytes = most_bytes or MAX_UNREAD_BYTES
        self.answer.begin()
        if self._failure is not None:
            ended: asyncio.Future[None] = self._loop.create_future()
            ended.set_exception(self._failure)
            return ended
        if len(body) > JOINED_BYTES:
            self._send(b"%s%d\r\n\r\n" % (head, len(body)))
            self._send(body)
        else:  # at the end of this turn: what goes out together wakes a server once, each alone wakes it each time
            self._loop.call_soon(self._send, b"%s%d\r\n\r\n%s" % (head, len(body), body))
        return self._wait(deadline_s)

    async def read(self, deadline_s: float) -> bytes:
        """Give what has come of the body since, at once or when something comes; empty at its end.

        Raises:
            WireError: The rest does not come; what came before that is given first.
        """
        answer = self.answer
        if not answer.blocks and not answer.is_complete:
            if self._failure is not None:
                raise self._failure
            self._is_first = self._is_whole = False
            self._most_bytes = MAX_UNREAD_BYTES
            self._resume()
            await self._wait(deadline_s)
        return answer.take()

    @property
    def is_free(self) -> bool:
        """Whether another request may be sent: this one's answer is complete and both sides stay."""
        transport = self._transport
        return (
            self.answer.is_complete
            and self.answer.may_follow
            and self._failure is None
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0  # else the answer came before the request was out
        )

    def rest(self) -> None:
        """Wait for the next request; the server has nothing to say until then."""
        self._is_asked = False
        self.kept_at_s = self._loop.time()
        self.answer.take()
        self._resume()

    def close(self) -> None:
        """End the connection; the server sees that, and who waits for an answer gets `Dropped`."""
        self._end(Dropped(self._stage()))

    # -------------------------------------------------------------- transport
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the loop calls it."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take what the server sent; the loop calls it."""
        if not self._is_asked:  # unasked, or before the request is out: no answer to it, and it may be sent elsewhere
            self._end(Dropped(Stage.NOTHING))
            return
        answer = self.answer
        try:
            answer.feed(data)
        except NotHttp as failure:
            self._end(failure)
            return
        if answer.unread_bytes > self._most_bytes:
            self._bound()
        waiter = self._waiter
        if waiter is not None and (answer.is_complete or self._can_be_used()):
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def eof_received(self) -> None:
        """Take the end of what the server sends as the end of the connection, and of a body that has no other."""
        if self.answer.ends_with_connection:
            self.answer.is_complete = True
        self._end(Dropped(self._stage()))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection; the loop calls it."""
        self._end(Dropped(self._stage()))

    # ---------------------------------------------------------------- sending
    def _send(self, data: bytes) -> None:
        """Write, unless the connection ended in the turn in which the request was made."""
        if self._failure is None:
            self._is_asked = True
            cast(asyncio.Transport, self._transport).write(data)

    # ---------------------------------------------------------------- waiting
    def _can_be_used(self) -> bool:
        answer = self.answer
        if answer.status != 200 and self._is_first:
            return answer.status > 0
        return bool(answer.blocks) and not self._is_whole

    def _wait(self, deadline_s: float) -> asyncio.Future[None]:
        waiter = self._waiter = self._loop.create_future()
        self._deadline_s = deadline_s
        if self._timer is None or self._timer.when() > deadline_s:
            self._set_timer()
        return waiter

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() + _RESOLUTION_S < self._deadline_s:
            self._set_timer()
        else:
            self._end(TimedOut("the deadline is over"))

    def _bound(self) -> None:
        """Keep what waits to be read within bounds."""
        if self._is_whole and self.answer.status == 200:
            self._end(TooLong("the answer is longer than it may be"))
        elif not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    # -------------------------------------------------------------------- end
    def _stage(self) -> Stage:
        if self.answer.status:
            return Stage.BODY
        return Stage.HEAD if self.answer.has_begun else Stage.NOTHING

    def _end(self, failure: WireError) -> None:
        """Close once, and tell who waits."""
        if self._failure is not None:
            return
        self._failure = failure
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._tell()
        self._on_end(self)

    def _tell(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        failure = cast(WireError, self._failure)
        if not isinstance(failure, TooLong) and (self.answer.is_complete or self._can_be_used()):
            waiter.set_result(None)
        else:
            waiter.set_exception(failure)
