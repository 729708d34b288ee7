"""What serving counts, by base model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainyard.core.ledger.types import Outcome
from trainyard.core.telemetry import Metrics
from trainyard.serving.types.tally import Usage

_OUTCOMES: tuple[Outcome, ...] = ("done", "cancelled", "failed")


class GenerationMetrics:
    """Finds the counters of a model."""

    def __init__(self, metrics: Metrics) -> None:
        self.tokens = metrics.counter("trainyard_llm_tokens", "Tokens read and generated", ("model", "direction"))
        self.requests = metrics.counter("trainyard_llm_requests", "Generation requests", ("model", "outcome"))
        self.request_s = metrics.histogram("trainyard_llm_request_seconds", "Seconds to the last token", ("model",))
        self.first_token_s = metrics.histogram("trainyard_llm_first_token_seconds", "Seconds to the first", ("model",))
        self._models: dict[str, ModelMetrics] = {}

    def of(self, model: str) -> "ModelMetrics":
        """Find the counters of a model of the catalog."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = self._make(model)
        return found

    def _make(self, model: str) -> "ModelMetrics":
        return ModelMetrics(
            first_token=self.first_token_s.of(model).observe,
            request_s=self.request_s.of(model).observe,
            prompt=self.tokens.of(model, "prompt").inc,
            completion=self.tokens.of(model, "completion").inc,
            requests={outcome: self.requests.of(model, outcome).inc for outcome in _OUTCOMES},
        )


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """The counters of one model, found once.

    Attributes:
        first_token: Takes the seconds to a first token.
        request_s: Takes those to the last one.
        prompt: Takes tokens that were read.
        completion: Takes tokens that were generated.
        requests: Count one more, by outcome.
    """

    first_token: Callable[[float], None]
    request_s: Callable[[float], None]
    prompt: Callable[[float], None]
    completion: Callable[[float], None]
    requests: Mapping[Outcome, Callable[[], None]]

    def end(self, outcome: Outcome, took_s: float, computed: Usage | None) -> None:
        """Count a request; nothing is computed for one that the cache answers."""
        self.requests[outcome]()
        self.request_s(took_s)
        if computed is not None:
            self.prompt(computed.prompt_tokens)
            self.completion(computed.completion_tokens)
