"""A download whose client leaves in the middle, by all ways in which servers tell it."""

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from trainyard.sandbox.routes.downloads import Sent


class Client:
    """One that goes away after some pieces.

    Attributes:
        told: What became of the pieces.
        has_drawn: Is set when a piece has been taken.
    """

    def __init__(self, version: str, leaves_after: int) -> None:
        self.scope: dict[str, Any] = {"type": "http", "asgi": {"spec_version": version}}
        self.told: list[str] = []
        self._leaves_after = leaves_after
        self.has_drawn = asyncio.Event()
        self._is_gone = asyncio.Event()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give pieces without end."""
        try:
            while True:
                self.told.append("drawn")
                yield b"x"
        finally:
            await asyncio.sleep(0)  # as whoever writes an entry
            self.told.append("closed")

    async def receive(self) -> MutableMapping[str, Any]:
        """Tell the server that the client has gone."""
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a piece."""
        if self.told.count("drawn") < self._leaves_after:
            await asyncio.sleep(0)
            self.has_drawn.set()
            return
        self._is_gone.set()
        if self.scope["asgi"]["spec_version"] == "2.4":
            raise OSError
        await asyncio.Event().wait()


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize("leaves_after", [0, 1, 3])
async def test_what_is_sent_is_closed_when_the_client_leaves(version: str, leaves_after: int) -> None:
    client = Client(version, leaves_after)
    source = client.pieces()
    first = await anext(source)  # as `begun` does

    async def whole() -> AsyncGenerator[bytes, None]:
        yield first
        async for piece in source:
            yield piece

    answering = Sent(whole(), source)(client.scope, client.receive, client.send)
    if version == "2.4":
        with pytest.raises(ClientDisconnect):
            await answering
    else:
        await answering
    assert client.told[-1] == "closed"
    assert client.told.count("closed") == 1


async def test_what_is_sent_is_closed_when_the_request_is_cancelled() -> None:
    client = Client("2.3", 10**9)
    source = client.pieces()
    answering = asyncio.create_task(Sent(source, source)(client.scope, client.receive, client.send))
    await client.has_drawn.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert client.told[-1] == "closed"
