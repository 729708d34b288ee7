"""One call of the interface as data, so that the blocking and the async client share everything but the waiting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from trainyard.sdk import errors, results

R = TypeVar("R")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A request and how its answer is read.

    Attributes:
        path: Below the client's base URL, starting with a slash.
        read: Makes the result of the decoded JSON body.
        body: Sent as JSON; None = no body.
        is_idempotent: Doing it twice is doing it once, so that it may be repeated when no answer came.
        headers: Beside those of the client.
    """

    method: str
    path: str
    read: Callable[[Any], R]
    body: Mapping[str, object] | None = None
    is_idempotent: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def result(self, response: httpx.Response) -> R:
        """Read the answer, or raise what it says."""
        if response.is_error:
            raise errors.from_response(response)
        try:
            return self.read(results.decode(response.content))
        except ValueError as error:
            raise errors.ServerError(
                f"{self.method} {self.path} answered something that is not JSON", response.status_code
            ) from error


@dataclass(frozen=True, slots=True)
class StreamCall(Generic[E]):
    """A request that is answered by server-sent events.

    Attributes:
        read: Makes an item of one event; None = this event carries none.
        headers: Beside those of the client.
    """

    path: str
    read: Callable[[results.Result], E | None]
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def given(**fields: object) -> dict[str, object]:
    """Keep the fields that were given, so that the server's defaults hold for the others."""
    return {name: value for name, value in fields.items() if value is not None}
