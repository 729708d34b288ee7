"""What metering needs to know of one piece of work."""

from dataclasses import dataclass

from msgspec import Struct

from trainyard.core.ledger.types import Outcome, Work


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, in millionths of the currency per million tokens."""

    prompt: int = 0
    completion: int = 0

    def cost_micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Charge whole micros, rounded up, so that many small requests are not free."""
        return -(-(prompt_tokens * self.prompt + completion_tokens * self.completion) // 1_000_000)


FREE = Prices()


class Job(Struct, frozen=True, kw_only=True, gc=False):
    """What is about to be done, before it is let in.

    Attributes:
        route: Template of the path.
        model: Canonical name of the model.
        request_id: Of the request.
        prompt_tokens: Counted, or an upper bound where the model's tokenizer is not here.
        max_completion_tokens: Most that may be generated, over all answers.
        prices: Of the model.
        cached: The answer is there already: a request is taken, but no tokens.
        began_s: Moment of the clock's `monotonic` at which the request came; None = when it asks to be let in.
    """

    route: str
    model: str
    request_id: str
    prompt_tokens: int
    max_completion_tokens: int
    prices: Prices = FREE
    cached: bool = False
    began_s: float | None = None


class Used(Struct, frozen=True, kw_only=True, gc=False):
    """What was done in the end, as the answer says it.

    Attributes:
        model: Who answered in place of the model that was asked for, at whose prices it is; None = that one.
        free_prompt_tokens: Those of the prompt tokens that belong to parts of the answer which were there already, in a
            batch of which other parts were computed: neither charged nor counted against limits.
        free_completion_tokens: The same of the completion tokens.
        work: What it took beside tokens, if that is counted.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    outcome: Outcome = "done"
    free_prompt_tokens: int = 0
    free_completion_tokens: int = 0
    model: str | None = None
    work: Work | None = None
