"""One accepted request: its answers as events or as a whole, counted and logged when it ends."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from trainyard.core.clock import Clock
from trainyard.core.telemetry import Metrics
from trainyard.serving import streams
from trainyard.serving.backends.base import Prepared
from trainyard.serving.streams import Event
from trainyard.serving.types import Ask, Choice, Piece, Target, pieces

_log = structlog.get_logger("serving")

HEARTBEAT_S = 15.0


class GenerationMetrics:
    """What serving counts, by base model."""

    def __init__(self, metrics: Metrics) -> None:
        self.tokens = metrics.counter("trainyard_llm_tokens", "Tokens read and generated", ("model", "direction"))
        self.requests = metrics.counter("trainyard_llm_requests", "Generation requests", ("model", "outcome"))
        self.request_s = metrics.histogram("trainyard_llm_request_seconds", "Seconds to the last token", ("model",))
        self.first_token_s = metrics.histogram("trainyard_llm_first_token_seconds", "Seconds to the first", ("model",))


@dataclass(slots=True)
class Work:
    """A request whose prompts are counted and fit; nothing is generated before it is asked for.

    Attributes:
        target: The model.
        ask: The request.
        prepared: One per prompt.
        began_s: Moment of `clock.monotonic` at which the request came.
        ends_at_s: Moment at which its time is over.
    """

    target: Target
    ask: Ask
    prepared: Sequence[Prepared]
    clock: Clock
    metrics: GenerationMetrics
    began_s: float
    ends_at_s: float
    _drawn: dict[int, int] = field(default_factory=dict)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts; each is read once, however many choices follow."""
        return sum(one.prompt_tokens for one in self.prepared)

    @property
    def completion_tokens(self) -> int:
        """Tokens drawn so far, over all choices."""
        return sum(self._drawn.values())

    async def events(self, heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[Event | None, None]:
        """Generate; gives (index, piece) as text becomes certain, None after a silence. Closing it stops the work.

        Raises:
            errors.Unavailable: What does the work is away.
            errors.DeadlineExceeded: The time is over.
        """
        left_s = self.ends_at_s - self.clock.monotonic()
        running = [one.stream(choice, left_s) for one in self.prepared for choice in range(self.ask.n)]
        merged = streams.merge(running, clock=self.clock, ends_at_s=self.ends_at_s, heartbeat_s=heartbeat_s)
        outcome = "failed"
        try:
            async with aclosing(merged):
                async for event in merged:
                    if event is not None:
                        self._count(*event)
                    yield event
            outcome = "done"
        except (GeneratorExit, asyncio.CancelledError):
            outcome = "cancelled"
            raise
        finally:
            self._finish(outcome)

    async def collect(self) -> list[Choice]:
        """Generate to the end.

        Raises:
            errors.Unavailable: As `events`.
            errors.DeadlineExceeded: As `events`.
        """
        parts: Mapping[int, list[Piece]] = {index: [] for index in range(len(self.prepared) * self.ask.n)}
        async with aclosing(self.events()) as events:
            async for event in events:
                if event is not None:
                    parts[event[0]].append(event[1])
        return [_choice(index, pieces.join(mine)) for index, mine in parts.items()]

    def _count(self, index: int, piece: Piece) -> None:
        if not self._drawn:
            waited_s = self.clock.monotonic() - self.began_s
            self.metrics.first_token_s.of(self.target.base_model).observe(waited_s)
        self._drawn[index] = piece.completion_tokens

    def _finish(self, outcome: str) -> None:
        model, took_s = self.target.base_model, self.clock.monotonic() - self.began_s
        self.metrics.requests.of(model, outcome).inc()
        self.metrics.request_s.of(model).observe(took_s)
        self.metrics.tokens.of(model, "prompt").inc(self.prompt_tokens)
        self.metrics.tokens.of(model, "completion").inc(self.completion_tokens)
        _log.info(
            "generation",
            model=self.target.name,
            outcome=outcome,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            ms=round(took_s * 1000, 2),
            **({"end_user": self.ask.end_user} if self.ask.end_user else {}),
        )


def _choice(index: int, piece: Piece) -> Choice:
    assert piece.finish_reason is not None, "a finished stream says why"
    return Choice(index, piece, piece.finish_reason)
