"""What a hit was made of, so that an equal request can be seen to have the same answer."""

from dataclasses import dataclass
from typing import Self

from trainyard.core import telemetry
from trainyard.core.metering.types import Used
from trainyard.serving.cache.entry import Entry
from trainyard.serving.meters import GenerationMetrics, ModelMetrics
from trainyard.serving.types import Ask, Target


@dataclass(frozen=True, slots=True)
class Hit:
    """A request, what it meant, and what was kept for it.

    Attributes:
        key: Under which the answer is kept.
        raw: The kept bytes themselves: while these are under the key, it is the same answer.
        used: As the answer says it.
        metrics: Where it is counted.
        notes: For the log line of every request that it answers.
        noted: The same as they are written.
    """

    ask: Ask
    target: Target
    key: bytes
    raw: bytes
    entry: Entry
    used: Used
    metrics: ModelMetrics
    notes: dict[str, object]
    noted: bytes

    @classmethod
    def of(cls, ask: Ask, target: Target, key: bytes, raw: bytes, entry: Entry, metrics: GenerationMetrics) -> Self:
        """Put a hit together."""
        usage = entry.usage
        used = Used(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        )
        notes: dict[str, object] = {
            "model": target.name,
            "outcome": "done",
            "cache": "hit",
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        if ask.end_user:
            notes["end_user"] = ask.end_user
        return cls(ask, target, key, raw, entry, used, metrics.of(target.base_model), notes, telemetry.written(notes))
