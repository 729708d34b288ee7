"""When a call is made again, and after how long; nothing that could be done twice ever is."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from trainyard.sdk import errors
from trainyard.sdk.call import Call

ENGINE_AWAY = frozenset({"engine_restarting", "engine_starting"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is.

    Attributes:
        attempts: Tries in all; 1 = never again.
        first_pause_s: Pause before the second try when the server names none; doubles each time.
        longest_pause_s: A `Retry-After` above this is left to the caller.
    """

    attempts: int = 4
    first_pause_s: float = 0.25
    longest_pause_s: float = 30.0

    def pause_s(self, call: Call[Any], error: errors.TrainyardAPIError, attempt: int) -> float | None:
        """Say how long to wait before trying again.

        * 429 with `Retry-After`: any call, since it was refused before anything was done.
        * 503 while the engine restarts, and no connection: calls that are idempotent.
        * Everything else, time-outs included: never.

        Args:
            call: The call that failed.
            error: What it ended with.
            attempt: Tries made so far, 1 at first.

        Returns:
            Seconds, or None when the error is the answer.
        """
        if attempt >= self.attempts or not self._may_repeat(call, error):
            return None
        pause_s = error.retry_after_s
        if pause_s is None:
            pause_s = self.first_pause_s * 2.0 ** (attempt - 1)
        return pause_s if pause_s <= self.longest_pause_s else None

    def _may_repeat(self, call: Call[Any], error: errors.TrainyardAPIError) -> bool:
        if isinstance(error, errors.RateLimitError):
            return error.retry_after_s is not None
        engine_away = error.status_code == 503 and error.code in ENGINE_AWAY
        return call.is_idempotent and (engine_away or isinstance(error, errors.ConnectionError))


class Attempts:
    """Counts the tries of one call; as a context it swallows an error after which the call may be made again."""

    def __init__(self, call: Call[Any], policy: RetryPolicy) -> None:
        """Start counting.

        Args:
            call: What is tried.
            policy: Decides.
        """
        self._call = call
        self._policy = policy
        self._tries = 0
        self.pause_s = 0.0

    def __enter__(self) -> "Attempts":
        self._tries += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, errors.TrainyardAPIError):
            return False
        pause_s = self._policy.pause_s(self._call, error, self._tries)
        self.pause_s = pause_s or 0.0
        return pause_s is not None
