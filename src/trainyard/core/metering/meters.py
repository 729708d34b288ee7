"""Prometheus' view of metering."""

from typing import NamedTuple

from prometheus_client import Counter

from trainyard.core import errors
from trainyard.core.ledger.types import Entry
from trainyard.core.telemetry import Metrics


class MeterMetrics:
    """The metrics of one meter; models are those of the catalog, so that labels stay few.

    Attributes:
        open: Reservations that are neither settled nor refunded.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._admitted = metrics.counter("trainyard_admitted_requests", "Requests let in by the limits", ("route",))
        self._refused = metrics.counter(
            "trainyard_refused_requests", "Requests not let in, by the bar in their way", ("reason",)
        )
        self.open = metrics.gauge("trainyard_open_reservations", "Requests that hold a reservation").of()
        self._ended = metrics.counter(
            "trainyard_charges",
            "Ends of admitted requests: done, cancelled, failed, cached, refunded or lost",
            ("end",),
        )
        self._tokens = metrics.counter(
            "trainyard_settled_tokens", "Tokens in the ledger by model and kind", ("model", "kind")
        )
        self._cached = self._ended.of("cached")
        self._of_model: dict[str, _OfModel] = {}
        self._cost = metrics.counter("trainyard_settled_cost_micros", "Millionths of the currency charged", ("model",))

    def admit(self, route: str) -> None:
        """Count a request that was let in."""
        self._admitted.of(route).inc()
        self.open.inc()

    def pass_by(self, route: str) -> None:
        """Count a request that was let in and holds nothing."""
        self._admitted.of(route).inc()

    def refuse(self, error: errors.TrainyardError) -> None:
        """Count a request that was not let in, by code and dimension."""
        dimension = error.data.get("dimension")
        self._refused.of(f"{error.code}:{dimension}" if isinstance(dimension, str) else error.code).inc()

    def end(self, how: str) -> None:
        """Count the end of a request that held something."""
        self.open.dec()
        self.end_hit(how)

    def end_hit(self, how: str) -> None:
        """Count the end of a request that held nothing."""
        self._ended.of(how).inc()

    def settle_hit(self, entry: Entry) -> None:
        """Count what the entry of a request that held nothing says."""
        self._cached.inc()
        self.use(entry)

    def settle(self, entry: Entry) -> None:
        """Count what an entry says."""
        self.end("cached" if entry.cached else entry.outcome)
        self.use(entry)

    def use(self, entry: Entry) -> None:
        """Count the tokens of an entry."""
        of_model = self._of_model.get(entry.model) or self._found(entry.model)
        if entry.charged_tokens:
            of_model.prompt.inc(entry.prompt_tokens)
            of_model.completion.inc(entry.completion_tokens)
            if entry.cached_tokens:
                of_model.prompt_cached.inc(entry.cached_tokens)
        else:
            of_model.free.inc(entry.prompt_tokens + entry.completion_tokens)
        if entry.cost_micros:
            of_model.cost.inc(entry.cost_micros)

    def _found(self, model: str) -> "_OfModel":
        found = self._of_model[model] = _OfModel(
            prompt=self._tokens.of(model, "prompt"),
            prompt_cached=self._tokens.of(model, "prompt_cached"),
            completion=self._tokens.of(model, "completion"),
            free=self._tokens.of(model, "free"),
            cost=self._cost.of(model),
        )
        return found


class _OfModel(NamedTuple):
    """The children of one model, looked up at once."""

    prompt: Counter
    prompt_cached: Counter
    completion: Counter
    free: Counter
    cost: Counter
