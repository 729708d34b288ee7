"""What the mock can get wrong, and how a request chooses it.

Three ways, the first that names a fault wins: the header `x-mock-fault`, a model name that ends in `:<fault>`, or a
fault that was planned through the control endpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One way to fail; the value is its name on the wire. Statuses are answered with an error body of the dialect."""

    BAD_REQUEST = "400"
    UNAUTHENTICATED = "401"
    NOT_FOUND = "404"
    TOO_LARGE = "413"
    OVERLOADED = "429"  # with Retry-After: 1
    FAILED = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    GATEWAY_TIMEOUT = "504"
    REDIRECT = "302"  # to another host
    GARBAGE = "garbage"  # 200 and JSON that breaks off; in a stream an event that is no JSON
    HTML = "html"  # 200 and a page
    EMPTY = "empty"  # 200 and an object without any of the fields
    STALL_HEAD = "stall-head"  # nothing is ever answered
    STALL_BODY = "stall-body"  # silence after half of a body or two events
    DROP_HEAD = "drop-head"  # the connection closes unanswered
    DROP_BODY = "drop-body"  # it closes after half of a body or two events
    CUT_EVENT = "cut-event"  # it closes in the middle of the third event
    SLOW_BYTES = "slow-bytes"  # a right answer, one byte at a time
    ERROR_EVENT = "error-event"  # an error as the third event of a stream
    NO_USAGE = "no-usage"  # a right answer that counts no tokens
    NO_STREAM_OPTIONS = "no-stream-options"  # 400 when `stream_options` is there
    NO_DONE = "no-done"  # a stream without its last line
    ODD_SSE = "odd-sse"  # a right stream with CRLF, comments, other fields and data over two lines
    INVALID_OUTPUT = "invalid-output"  # text that keeps no schema
    INVALID_ONCE = "invalid-once"  # the same until the conversation holds an answer already


STATUSES: Mapping[Fault, int] = {fault: int(fault) for fault in Fault if fault.isdecimal()}
"""Faults that are a status."""

_BY_NAME: Mapping[str, Fault] = {fault.value: fault for fault in Fault}


@dataclass(slots=True)
class Planned:
    """A fault for the next requests.

    Attributes:
        times: How often; None = until it is taken back.
        model: Only for this model; None = for all.
    """

    fault: Fault
    times: int | None = None
    model: str | None = None


@dataclass(slots=True)
class Plan:
    """Chooses the fault of a request."""

    planned: list[Planned] = field(default_factory=list)

    def add(self, fault: Fault | str, times: int | None = None, model: str | None = None) -> None:
        """Make the next requests fail."""
        self.planned.append(Planned(Fault(fault), times, model))

    def clear(self) -> None:
        """Make nothing fail any more, but what names its fault itself."""
        self.planned.clear()

    def choose(self, header: bytes | None, model: str) -> Fault | None:
        """Find the fault of one request and count it; an unknown name in the header is none."""
        if header is not None:
            return _BY_NAME.get(header.decode("latin-1"))
        if ":" in model and (named := _BY_NAME.get(model.rpartition(":")[2])):
            return named
        for one in self.planned:
            if one.model is None or one.model == model:
                return self._taken(one)
        return None

    def _taken(self, one: Planned) -> Fault:
        if one.times is not None:
            one.times -= 1
            if one.times <= 0:
                self.planned.remove(one)
        return one.fault
