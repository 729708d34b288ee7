"""One call of the interface as data, so that the blocking and the async client share everything but the waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import httpx

from trainyard.sdk import errors, results

R = TypeVar("R")
E = TypeVar("E")

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A request and how its answer is read.

    Attributes:
        path: Below the client's base URL, starting with a slash.
        read: Makes the result of the decoded JSON body.
        body: Sent as JSON; None = no body.
        is_idempotent: Doing it twice is doing it once, so that it may be repeated when no answer came.
        headers: Beside those of the client.
        files: Sent as a form instead of the body, each under its name; they are opened when the call is made.
        raw: A file whose bytes are the body; they are read while they are sent.
    """

    method: str
    path: str
    read: Callable[[Any], R]
    body: Mapping[str, object] | None = None
    is_idempotent: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    raw: Path | None = None

    @contextmanager
    def content(self) -> Iterator[dict[str, Any]]:
        """Give what httpx takes of the body: JSON, an open file, or an open form whose fields precede its files."""
        if self.raw is not None:
            with self.raw.open("rb") as file:
                yield {"content": file}
            return
        if not self.files:
            yield {"json": self.body}
            return
        with ExitStack() as opened:
            parts = [
                ("files", (name, opened.enter_context(path.open("rb")), "application/octet-stream"))
                for name, path in self.files.items()
            ]
            yield {"files": parts, "data": dict(self.body or {})}

    @contextmanager
    def async_content(self) -> Iterator[dict[str, Any]]:
        """Give the same for a client on the event loop."""
        with self.content() as content:
            yield {name: _pieces(part) if name == "content" else part for name, part in content.items()}

    def result(self, response: httpx.Response) -> R:
        """Read the answer, or raise what it says."""
        if response.is_error:
            raise errors.from_response(response)
        try:
            return self.read(results.decode(response.content) if response.content else None)
        except ValueError as error:
            raise errors.ServerError(
                f"{self.method} {self.path} answered something that is not JSON", response.status_code
            ) from error


@dataclass(frozen=True, slots=True)
class StreamCall(Generic[E]):
    """A request that is answered by server-sent events.

    Attributes:
        read: Makes an item of the name and the data of one event (`message` where it has no name); None = this event
            carries none.
        headers: Beside those of the client.
    """

    path: str
    read: Callable[[str, results.Result], E | None]
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece


def given(**fields: object) -> dict[str, object]:
    """Keep the fields that were given, so that the server's defaults hold for the others."""
    return {name: value for name, value in fields.items() if value is not None}
