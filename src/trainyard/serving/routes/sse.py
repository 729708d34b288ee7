"""Server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.http import dialects
from trainyard.core.http.leaving import until_gone

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
            watch = group.create_task(until_gone(receive))
            watch.add_done_callback(lambda _: pump.cancel())
            pump.add_done_callback(lambda _: watch.cancel())

    async def _pump(self, send: Send) -> None:
        with suppress(OSError):  # the client is gone
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
