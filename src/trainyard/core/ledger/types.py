"""What the ledger holds: one entry per request that did work, append-only."""

from typing import Literal

from msgspec import Struct

Outcome = Literal["done", "cancelled", "failed"]


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One request.

    Attributes:
        entry_id: `use_…`; a second entry of the same id is not written.
        at: When it was settled, Unix seconds.
        key_id: Of the key that asked.
        request_id: Of the answer's `X-Request-ID`.
        route: Template of the path, `/v1/generate`.
        model: Name of the model that answered.
        outcome: `cancelled` when the caller left, `failed` when it ended by an error after tokens were made.
        cached: Whether the answer came from the cache.
        prompt_tokens: As the answer said.
        cached_tokens: Those of the prompt that were not computed again.
        completion_tokens: As the answer said.
        charged_tokens: What counts against quotas: 0 for a cached answer, prompt + completion otherwise.
        cost_micros: Millionths of the currency, by the model's prices.
        seconds: From the request's arrival to its last token.
    """

    entry_id: str
    at: float
    tenant: str
    user: str
    key_id: str
    request_id: str
    route: str
    model: str
    outcome: Outcome
    cached: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    charged_tokens: int
    cost_micros: int
    seconds: float


class Work(Struct, frozen=True, kw_only=True, gc=False):
    """What is counted of work beside tokens.

    Attributes:
        cpu_s: User and system time of all its processes.
        bytes_in: Of what came with the request.
        bytes_out: Of what it left: answers and files.
    """

    cpu_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
