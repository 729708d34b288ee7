"""The two ways out: performing calls while waiting, and on the event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from trainyard.sdk import checkpoint_file, environment, errors
from trainyard.sdk.arriving import arriving
from trainyard.sdk.call import Call, E, R, StreamCall
from trainyard.sdk.retry import Attempts, RetryPolicy
from trainyard.sdk.sse import EventReader


class _Address:
    """Where calls go and with which key."""

    def __init__(self, api_key: str | None, base_url: str | None, retry: RetryPolicy | None) -> None:
        self.base_url, self.api_key = environment.address(base_url, api_key)
        self.retry = retry or RetryPolicy()

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


class Door(_Address):
    """Performs calls, blocking.

    Attributes:
        base_url: Of the server, without a final slash.
        api_key: Sent as `Authorization: Bearer`; None sends none.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 300.0,
        *,
        retry: RetryPolicy | None = None,
        ca: Path | str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            api_key: Key; TRAINYARD_API_KEY when left out.
            base_url: Server; TRAINYARD_URL, else http://127.0.0.1:8000 when left out.
            timeout_s: Longest wait for the next byte of an answer.
            retry: When calls are made again; see `RetryPolicy`.
            ca: PEM file of certificates that are trusted beside the system's; TRAINYARD_CA when left out.
            transport: How httpx reaches the server; a network connection when left out.
        """
        super().__init__(api_key, base_url, retry)
        self.session = httpx.Client(
            base_url=self.base_url,
            headers=self.headers(),
            timeout=timeout_s,
            transport=transport,
            verify=environment.trust(ca),
        )

    def send(self, call: Call[R]) -> R:
        """Make a call and read its answer."""
        attempts = Attempts(call, self.retry)
        while True:
            with attempts, errors.translated(), call.content() as content:
                return call.result(self.session.request(call.method, call.path, headers=call.headers, **content))
            time.sleep(attempts.pause_s)

    def stream(self, call: StreamCall[E]) -> Iterator[E]:
        """Make a call and yield its items as they come; the call begins at the first `next`."""
        reader = EventReader(call)
        asked = self.session.stream("POST", call.path, json=call.body, headers=call.headers)
        with errors.translated(), asked as response:
            if response.is_error:
                response.read()
                raise errors.from_response(response)
            for line in response.iter_lines():
                yield from reader.feed(line)

    def download(self, artifact: Mapping[str, Any], directory: Path | str) -> Path:
        """Fetch a checkpoint, as `list_artifacts` or `save_state` names it, each file checked by its SHA-256.

        Returns:
            The directory, made when absent.

        Raises:
            ServerError: A file is not what its checksum says; nothing under its name was written.
        """
        root = Path(directory)
        with errors.translated(), self.session.stream("GET", artifact["download_url"]) as response:
            if response.is_error:
                response.read()
                raise errors.from_response(response)
            with checkpoint_file.Arrival(artifact, root) as arrival:
                for chunk in response.iter_bytes():
                    arrival.write(chunk)
                arrival.unpack()
        return root

    def fetch(self, path: str, target: Path) -> Path:
        """Write what a path answers into a file, which is there completely or not at all."""
        with errors.translated(), self.session.stream("GET", path) as response:
            if response.is_error:
                response.read()
                raise errors.from_response(response)
            with arriving(target) as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
        return target

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncDoor(_Address):
    """Performs calls on the event loop; attributes as those of `Door`."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 300.0,
        *,
        retry: RetryPolicy | None = None,
        ca: Path | str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Open no connection yet; arguments as those of `Door`, with an async transport."""
        super().__init__(api_key, base_url, retry)
        self.session = httpx.AsyncClient(
            base_url=self.base_url,
            headers=self.headers(),
            timeout=timeout_s,
            transport=transport,
            verify=environment.trust(ca),
        )

    async def send(self, call: Call[R]) -> R:
        """Make a call and read its answer."""
        attempts = Attempts(call, self.retry)
        while True:
            with attempts, errors.translated(), call.async_content() as content:
                return call.result(await self.session.request(call.method, call.path, headers=call.headers, **content))
            await asyncio.sleep(attempts.pause_s)

    async def stream(self, call: StreamCall[E]) -> AsyncIterator[E]:
        """Make a call and yield its items as they come; the call begins at the first `anext`."""
        reader = EventReader(call)
        with errors.translated():
            async with self.session.stream("POST", call.path, json=call.body, headers=call.headers) as response:
                if response.is_error:
                    await response.aread()
                    raise errors.from_response(response)
                async for line in response.aiter_lines():
                    for item in reader.feed(line):
                        yield item

    async def download(self, artifact: Mapping[str, Any], directory: Path | str) -> Path:
        """Fetch a checkpoint as `Door.download` does; disk work runs in a thread."""
        root = Path(directory)
        with errors.translated():
            async with self.session.stream("GET", artifact["download_url"]) as response:
                if response.is_error:
                    await response.aread()
                    raise errors.from_response(response)
                with checkpoint_file.Arrival(artifact, root) as arrival:
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(arrival.write, chunk)
                    await asyncio.to_thread(arrival.unpack)
        return root

    async def fetch(self, path: str, target: Path) -> Path:
        """Write what a path answers into a file, as `Door.fetch` does; disk work runs in a thread."""
        with errors.translated():
            async with self.session.stream("GET", path) as response:
                if response.is_error:
                    await response.aread()
                    raise errors.from_response(response)
                with arriving(target) as file:
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(file.write, chunk)
        return target

    async def close(self) -> None:
        """Close the connections."""
        await self.session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
