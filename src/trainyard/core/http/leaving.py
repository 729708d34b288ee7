"""Clients that leave before their answer is there."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, Generic, Protocol, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

_Result = TypeVar("_Result")

STATUS: Final = 499
"""What stands in log and metrics for a client that left before the end of its answer."""

WIRE: Final = "trainyard.wire"
"""Key of an ASGI scope under which a server that can tell of leaving by itself puts a `Wire`."""


class Wire(Protocol):
    """The connection of a request, where the server is ours: tells at once, and without a task, when it is gone."""

    @property
    def has_left(self) -> bool:
        """Whether the client is gone."""
        ...

    def call_when_gone(self, leave: Callable[[], object]) -> None:
        """Have something called once when the client leaves; the loop calls it, at once too when it has left."""
        ...

    def forget(self, leave: Callable[[], object]) -> None:
        """Call it no more."""
        ...

    def peek_body(self) -> bytes | None:
        """Look at the body, when all of it has come; None when there is more to receive."""
        ...

    def take_body(self) -> bytes | None:
        """Take the body, when all of it has come; None when there is more to receive."""
        ...

    def write_whole(self, status: int, head: bytes, content: bytes) -> bool:
        """Send a whole answer as one piece; false, and nothing is sent, when the client does not read what was sent.

        Args:
            status: Of the answer.
            head: Lines of headers, each with its end; no `connection`, no `date`, and a true `content-length`.
            content: The body.
        """
        ...


class Connected(Protocol):
    """Whatever a request is read from; its body must have been read."""

    @property
    def scope(self) -> Scope:
        """Of ASGI."""
        ...

    @property
    def receive(self) -> Receive:
        """Of ASGI."""
        ...


async def while_connected(request: Connected, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Do work in the current task, and cancel it when the client leaves.

    Nothing is watched before the work waits for the first time: what is done at once costs nothing here. The work sees
    a cancellation at the point where it waits; what it returns in spite of it is returned.

    Raises:
        ClientDisconnect: The client left, and the work ended by that; nobody reads an answer.
    """
    watch = _Watch(request)
    try:
        return await _Noticed(work, watch.begin)
    except asyncio.CancelledError:
        if watch.end():
            raise ClientDisconnect from None
        raise
    finally:
        watch.end()


class _Watch:
    """Cancels the task that made it when the client leaves."""

    def __init__(self, request: Connected) -> None:
        self._request = request
        self._task: asyncio.Task[Any] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._has_cancelled = False

    def begin(self) -> None:
        """Watch from now on."""
        self._task = asyncio.current_task()
        wire: Wire | None = self._request.scope.get(WIRE)
        if wire is not None:
            wire.call_when_gone(self._leave)
        else:
            self._listening = asyncio.ensure_future(until_gone(self._request.receive))
            self._listening.add_done_callback(self._heard)

    def end(self) -> bool:
        """Watch no longer; whether the task's cancellation was ours alone, which is taken back here."""
        task, self._task = self._task, None
        if task is None:
            return False
        wire: Wire | None = self._request.scope.get(WIRE)
        if wire is not None:
            wire.forget(self._leave)
        if self._listening is not None:
            self._listening.cancel()
        return self._has_cancelled and task.uncancel() == 0

    def _heard(self, listening: asyncio.Task[None]) -> None:
        if not listening.cancelled():
            listening.result()
            self._leave()

    def _leave(self) -> None:
        if self._task is not None and not self._has_cancelled:
            self._has_cancelled = True
            self._task.cancel()


class _Noticed(Generic[_Result]):
    """Awaits work, and calls something when it waits for the first time."""

    def __init__(self, work: Coroutine[Any, Any, _Result], at_first_wait: Callable[[], None]) -> None:
        self._steps = work.__await__()
        self._at_first_wait: Callable[[], None] | None = at_first_wait

    def __await__(self) -> "Generator[Any, Any, _Result]":
        return self  # type: ignore[return-value]  # it has what `await` uses

    def __iter__(self) -> "_Noticed[_Result]":
        return self

    def __next__(self) -> Any:
        waited_for = self._steps.send(None)
        if self._at_first_wait is not None:
            call, self._at_first_wait = self._at_first_wait, None
            call()
        return waited_for

    def close(self) -> None:
        """End the work where it waits."""
        self._steps.close()

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        return self._steps.throw(*error)


async def until_gone(receive: Receive | Callable[[], Awaitable[Any]]) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
