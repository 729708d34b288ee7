"""Server-sent events, and requests whose client may leave before the answer is there."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.http import dialects

_Result = TypeVar("_Result")

HEARTBEAT = b": still working\n\n"
DONE = b"data: [DONE]\n\n"

_encoder = msgspec.json.Encoder()


def data(body: object) -> bytes:
    """Write one event."""
    return b"data: " + _encoder.encode(body) + b"\n\n"


def failure(error: errors.TrainyardError, request: Request) -> bytes:
    """Write the event that ends a stream which cannot go on: the body that the error would have had as an answer."""
    request_id = request.scope.get("state", {}).get("request_id")
    return data(dialects.render(error, "openai", request_id).body)


class EventStream(Response):
    """Sends events as they are made; when the client leaves, the generator is closed at once."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then events until they end or the client leaves."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events), asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(send))
            watch = group.create_task(_leave(receive))
            watch.add_done_callback(lambda _: pump.cancel())
            pump.add_done_callback(lambda _: watch.cancel())

    async def _pump(self, send: Send) -> None:
        with suppress(OSError):  # the client is gone
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_connected(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Wait for work, and cancel it when the client leaves; the body must have been read.

    Raises:
        ClientDisconnect: The client left; nobody reads an answer.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_leave(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
