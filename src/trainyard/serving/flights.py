"""Single flight: of equal requests that come while one is worked on, only that one works."""

import asyncio

from trainyard.core import errors
from trainyard.serving.cache.entry import Entry
from trainyard.serving.streams import Broadcast


class Flight:
    """What becomes of the first of several equal requests, for those that came after it.

    Attributes:
        broadcast: Its work, once it was let in.
        entry: The answer, when it was found after all.
        error: What happened before it was let in, when that is the same for all: none that names a field of a request.
    """

    def __init__(self, flights: "Flights", key: bytes) -> None:
        self.broadcast: Broadcast | None = None
        self.entry: Entry | None = None
        self.error: errors.TrainyardError | None = None
        self._flights = flights
        self._key = key
        self._decided: asyncio.Future[None] | None = None
        self._is_decided = False

    async def decided(self) -> None:
        """Wait until it works, was answered, or was given up; the last is neither, and the next one may try."""
        if not self._is_decided:
            if self._decided is None:
                self._decided = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._decided)

    def take_off(self, broadcast: Broadcast) -> None:
        """It was let in and works; it lands when the work is over."""
        self.broadcast = broadcast
        self._decide()

    def fail(self, error: BaseException) -> None:
        """It came to nothing before it was let in."""
        if isinstance(error, errors.TrainyardError) and not isinstance(error, errors.InvalidRequest):
            self.error = error
        self.land()

    def land(self, entry: Entry | None = None) -> None:
        """It is over, or was given up: equal requests from now on are on their own."""
        self.entry = entry
        self._flights.remove(self._key, self)
        self._decide()

    def _decide(self) -> None:
        self._is_decided = True
        if self._decided is not None and not self._decided.done():
            self._decided.set_result(None)


class Flights:
    """The flights of one process, by the key of what they answer."""

    def __init__(self) -> None:
        self._running: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._running)

    def get(self, key: bytes) -> Flight | None:
        """Find the flight of a key."""
        return self._running.get(key)

    def begin(self, key: bytes) -> Flight:
        """Begin one; there is none of that key."""
        made = self._running[key] = Flight(self, key)
        return made

    def remove(self, key: bytes, flight: Flight) -> None:
        """Forget a flight; another one of the same key stays."""
        if self._running.get(key) is flight:
            del self._running[key]
