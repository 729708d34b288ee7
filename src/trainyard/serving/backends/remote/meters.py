"""What is counted about upstreams, by catalog name."""

from trainyard.core.telemetry import Metrics
from trainyard.serving.backends.remote.breaker import State
from trainyard.serving.backends.remote.failures import Outcome

_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class UpstreamMetrics:
    """Attempts, retries, circuits, fallbacks."""

    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.counter(
            "trainyard_upstream_attempts", "Requests sent to servers elsewhere", ("model", "outcome")
        )
        self._retries = metrics.counter("trainyard_upstream_retries", "Attempts beyond the first", ("model",))
        self._circuit = metrics.gauge(
            "trainyard_upstream_circuit", "0 closed, 1 half open, 2 open: nobody is sent there", ("model",)
        )
        self._fallbacks = metrics.counter(
            "trainyard_model_fallbacks", "Answers of one model in place of another", ("model", "answered_by")
        )
        self._repairs = metrics.counter(
            "trainyard_upstream_repairs", "Answers that kept no schema and were asked for again", ("model", "outcome")
        )

        self._shown: dict[str, State] = {}

    def attempt(self, model: str, outcome: Outcome, state: State) -> None:
        """Count an attempt that ended."""
        self._attempts.of(model, outcome).inc()
        if self._shown.get(model) is not state:
            self._shown[model] = state
            self._circuit.of(model).set(_STATES[state])

    def retry(self, model: str) -> None:
        """Count an attempt beyond the first."""
        self._retries.of(model).inc()

    def fallback(self, model: str, answered_by: str) -> None:
        """Count an answer of another model."""
        self._fallbacks.of(model, answered_by).inc()

    def repair(self, model: str, *, has_worked: bool) -> None:
        """Count an answer that was asked for again."""
        self._repairs.of(model, "valid" if has_worked else "invalid").inc()
