"""A circuit breaker: after failures in a row nobody is sent to a server until one probe has come back."""

from enum import StrEnum

from trainyard.core.clock import Clock

FAILURES = 5
"""In a row, after which the circuit opens."""

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 120.0
"""A pause doubles with every probe that fails, up to this."""


class State(StrEnum):
    """Of a circuit."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Pass(StrEnum):
    """What somebody gets who wants to send a request."""

    REFUSED = "refused"
    NORMAL = "normal"
    PROBE = "probe"


class Breaker:
    """Counts failures of one server and decides who may try it.

    Every pass that was not refused is followed by exactly one of `succeeded`, `failed`, `abandoned` with it.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        failures: int = FAILURES,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._clock = clock
        self._threshold = failures
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._in_a_row = 0
        self._pause_s = first_pause_s
        self._opened_at_s: float | None = None
        self._is_probing = False

    @property
    def state(self) -> State:
        """Open while everybody is refused; half open from the end of a pause until its probe has come back."""
        if self._opened_at_s is None:
            return State.CLOSED
        return State.HALF_OPEN if self.wait_s == 0 else State.OPEN

    @property
    def wait_s(self) -> float:
        """Seconds until a probe is let through; 0 when one may go or is under way, or the circuit is closed."""
        if self._opened_at_s is None:
            return 0.0
        return max(0.0, self._opened_at_s + self._pause_s - self._clock.monotonic())

    def enter(self) -> Pass:
        """Ask to send a request; in a half-open circuit exactly one gets through until it has come back."""
        if self._opened_at_s is None:
            return Pass.NORMAL
        if self._is_probing or self.wait_s > 0:
            return Pass.REFUSED
        self._is_probing = True
        return Pass.PROBE

    def succeeded(self, given: Pass) -> None:
        """Report that the server answered as it should, or refused a request for a fault of the request.

        What was sent before the circuit opened does not close it.
        """
        if self._opened_at_s is not None and given is not Pass.PROBE:
            return
        self._in_a_row = 0
        self._opened_at_s = None
        self._is_probing = False
        self._pause_s = self._first_pause_s

    def failed(self, given: Pass) -> None:
        """Report that the server did not."""
        self._in_a_row += 1
        if given is Pass.PROBE:
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
            self._opened_at_s = self._clock.monotonic()
            self._is_probing = False
        elif self._opened_at_s is None and self._in_a_row >= self._threshold:
            self._opened_at_s = self._clock.monotonic()

    def abandoned(self, given: Pass) -> None:
        """Report that nothing was learnt: the caller went away, or the server said only that it is busy."""
        if given is Pass.PROBE:
            self._is_probing = False
