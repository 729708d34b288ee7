"""Reading server-sent events: lines in, items out, an error event raised."""

from collections.abc import Iterator
from typing import Generic

from trainyard.sdk import errors, results
from trainyard.sdk.call import E, StreamCall

END = "[DONE]"
_UNNAMED = "message"


class EventReader(Generic[E]):
    """Turns the lines of one stream into items.

    Several `data:` lines before an empty line are one event, as the standard has it; comments and fields other than
    `event:` and `data:` are skipped.
    """

    def __init__(self, call: StreamCall[E]) -> None:
        """Start at the beginning of a stream.

        Args:
            call: Its `read` makes the items.
        """
        self._call = call
        self._name = _UNNAMED
        self._data: list[str] = []

    def feed(self, line: str) -> Iterator[E]:
        """Take one line without its end; yields the item that it completes, if any.

        Raises:
            TrainyardAPIError: The event says that the work failed after it had begun.
        """
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            self._name = line[6:].removeprefix(" ")
        elif not line:
            name, self._name = self._name, _UNNAMED
            text, self._data = "\n".join(self._data), []
            if text and text != END:
                yield from self._items(name, results.decode(text))

    def _items(self, name: str, event: results.Result) -> Iterator[E]:
        if name == "error" or (name == _UNNAMED and event.get("error") is not None):
            message, code = errors.describe(event)
            raise errors.ServerError(message or "the stream failed", response_data=event, code=code)
        item = self._call.read(name, event)
        if item is not None:
            yield item
