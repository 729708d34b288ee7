"""Token streams of one core: who reads them, how far they may run ahead, and when a reader has stalled."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from trainyard.core import errors
from trainyard.engine import cores, protocol, types
from trainyard.engine.switchboard import copy_error

STREAM_STALL_S: Final = 30.0
"""A stream without credit for this long is ended."""


class Outlet(Protocol):
    """Where answers go; called from the compute thread, must not block."""

    def result(self, number: int, message: types.Message) -> None:
        """Answer a call."""
        ...

    def error(self, number: int, error: errors.TrainyardError) -> None:
        """Fail a call or end a stream."""
        ...

    def tokens(self, batch: list[protocol.Tokens]) -> None:
        """Hand over the new tokens of one tick of all streams of this outlet."""
        ...


@dataclass
class _Stream:
    outlet: Outlet
    number: int
    credit: int = protocol.CREDIT_TOKENS
    parked_at: float | None = None


class Streams:
    """Streams by caller (outlet and number); ids inside the core are made here, so that callers cannot collide.

    Args:
        core: Decodes.
        stall_s: How long a stream may be parked.
        monotonic: Seconds of a clock that only goes forward.
    """

    def __init__(self, core: cores.Core[Any], stall_s: float, monotonic: Callable[[], float]) -> None:
        self._core = core
        self._stall_s = stall_s
        self._monotonic = monotonic
        self._by_id: dict[str, _Stream] = {}
        self._ids: dict[tuple[Outlet, int], str] = {}
        self._made = 0

    @property
    def can_decode(self) -> bool:
        """At least one stream has credit."""
        return any(stream.parked_at is None for stream in self._by_id.values())

    def stalls_in_s(self) -> float | None:
        """Seconds until the first parked stream is ended; None when none is parked."""
        parked = [stream.parked_at for stream in self._by_id.values() if stream.parked_at is not None]
        return max(0.0, min(parked) + self._stall_s - self._monotonic()) if parked else None

    def admit(self, outlet: Outlet, number: int, request: types.GenerateRequest) -> None:
        """Start a stream; raises what the core says."""
        self._made += 1
        stream_id = f"{self._made}:{request.stream_id}"
        self._core.admit(msgspec.structs.replace(request, stream_id=stream_id))
        self._by_id[stream_id] = _Stream(outlet, number)
        self._ids[outlet, number] = stream_id

    def cancel(self, outlet: Outlet, number: int) -> bool:
        """End a stream; false when there is none of that number."""
        stream_id = self._ids.get((outlet, number))
        if stream_id is None:
            return False
        self._core.cancel(stream_id)
        self._forget(stream_id)
        return True

    def add_credit(self, outlet: Outlet, number: int, tokens: int) -> None:
        """Let a stream run further ahead; one that is over already needs none."""
        stream_id = self._ids.get((outlet, number))
        if stream_id is not None:
            stream = self._by_id[stream_id]
            stream.credit += tokens
            stream.parked_at = None

    def tick(self) -> None:
        """Decode one token for every stream with credit and hand them over, one batch per outlet."""
        self._end_stalled()
        if not self.can_decode:
            return
        parked = frozenset(key for key, stream in self._by_id.items() if stream.parked_at is not None)
        events: dict[str, list[types.TokenEvent]] = defaultdict(list)
        for stream_id, event in self._core.tick(parked):
            events[stream_id].append(event)
        for stream_id, error in self._core.failures():
            self._end(stream_id, error)
        batches: dict[Outlet, list[protocol.Tokens]] = defaultdict(list)
        for stream_id, new in events.items():
            stream = self._by_id[stream_id]
            batches[stream.outlet].append(protocol.Tokens(stream.number, new))
            self._charge(stream_id, stream, new)
        for outlet, batch in batches.items():
            outlet.tokens(batch)

    def end_all(self, error: errors.TrainyardError) -> None:
        """End every stream with an error."""
        for stream_id in list(self._by_id):
            self._end(stream_id, error)

    def drop_outlet(self, outlet: Outlet) -> None:
        """Cancel the streams of a caller that is gone."""
        for _, number in [key for key in self._ids if key[0] is outlet]:
            self.cancel(outlet, number)

    def _charge(self, stream_id: str, stream: _Stream, new: list[types.TokenEvent]) -> None:
        stream.credit -= len(new)
        if new[-1].finish is not None:
            self._forget(stream_id)
        elif stream.credit <= 0:
            stream.parked_at = self._monotonic()

    def _end_stalled(self) -> None:
        now = self._monotonic()
        for stream_id, stream in list(self._by_id.items()):
            if stream.parked_at is not None and now - stream.parked_at >= self._stall_s:
                message = f"the stream was not read for {self._stall_s:g} s and has ended; read faster or ask for less"
                self._end(stream_id, errors.DeadlineExceeded(message, code="stream_stalled"))

    def _end(self, stream_id: str, error: errors.TrainyardError) -> None:
        stream = self._by_id[stream_id]
        self._core.cancel(stream_id)
        self._forget(stream_id)
        stream.outlet.error(stream.number, copy_error(error))

    def _forget(self, stream_id: str) -> None:
        stream = self._by_id.pop(stream_id)
        del self._ids[stream.outlet, stream.number]
