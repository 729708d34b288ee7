"""Reading server-sent events: lines in, items out, an error event raised."""

from collections.abc import Iterator
from typing import Generic

from trainyard.sdk import errors, results
from trainyard.sdk.call import E, StreamCall

END = "[DONE]"


class EventReader(Generic[E]):
    """Turns the lines of one stream into items.

    Several `data:` lines before an empty line are one event, as the standard has it; comments and other fields are
    skipped.
    """

    def __init__(self, call: StreamCall[E]) -> None:
        """Start at the beginning of a stream.

        Args:
            call: Its `read` makes the items.
        """
        self._call = call
        self._data: list[str] = []

    def feed(self, line: str) -> Iterator[E]:
        """Take one line without its end; yields the item that it completes, if any.

        Raises:
            TrainyardAPIError: The event says that the work failed after it had begun.
        """
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line and self._data:
            text, self._data = "\n".join(self._data), []
            if text != END:
                yield from self._items(results.decode(text))

    def _items(self, event: results.Result) -> Iterator[E]:
        if event.get("error") is not None:
            message, code = errors.describe(event)
            raise errors.ServerError(message or "the stream failed", response_data=event, code=code)
        item = self._call.read(event)
        if item is not None:
            yield item
