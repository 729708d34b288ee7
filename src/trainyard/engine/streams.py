"""Token streams of one core: who reads them, how far they may run ahead, and when a reader has stalled."""

import math
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
    """A stream and its limits in time.

    Attributes:
        deadline: When it ends whatever happens; infinite without a timeout.
        stalled_at: When it ends unless it gets credit; infinite while it has some.
    """

    outlet: Outlet
    number: int
    timeout_s: float
    deadline: float
    credit: int = protocol.CREDIT_TOKENS
    stalled_at: float = math.inf

    @property
    def is_parked(self) -> bool:
        """Whether it has no credit."""
        return self.stalled_at < math.inf

    @property
    def ends_at(self) -> float:
        """When it ends if nothing comes from it or from its reader."""
        return min(self.deadline, self.stalled_at)


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
        return any(not stream.is_parked for stream in self._by_id.values())

    def ends_in_s(self) -> float | None:
        """Seconds until the first stream is ended for being late; None when none will be."""
        first = min((stream.ends_at for stream in self._by_id.values()), default=math.inf)
        return max(0.0, first - self._monotonic()) if first < math.inf else None

    def admit(self, outlet: Outlet, number: int, request: types.GenerateRequest, since: float) -> None:
        """Start a stream whose time counts from `since`; raises what the core says."""
        timeout_s = math.inf if request.timeout_s is None else request.timeout_s
        if not timeout_s > 0:
            raise errors.InvalidRequest(f"timeout_s = {timeout_s:g} must be above 0", param="timeout_s")
        self._made += 1
        stream_id = f"{self._made}:{request.stream_id}"
        self._core.admit(msgspec.structs.replace(request, stream_id=stream_id))
        self._by_id[stream_id] = _Stream(outlet, number, timeout_s, since + timeout_s)
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
            stream.stalled_at = math.inf

    def tick(self) -> None:
        """Decode one token for every stream with credit and hand them over, one batch per outlet."""
        self._end_late()
        if not self.can_decode:
            return
        parked = frozenset(key for key, stream in self._by_id.items() if stream.is_parked)
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
            stream.stalled_at = self._monotonic() + self._stall_s

    def _end_late(self) -> None:
        now = self._monotonic()
        for stream_id, stream in list(self._by_id.items()):
            if now >= stream.deadline:
                message = f"{stream.timeout_s:g} s are over; ask for fewer tokens or allow more time"
                self._end(stream_id, errors.DeadlineExceeded(message, code="generation_timeout"))
            elif now >= stream.stalled_at:
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
