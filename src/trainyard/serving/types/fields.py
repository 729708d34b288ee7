"""Request fields that several routes share, each with its bounds and what it means."""

from typing import Annotated, Any

from msgspec import Meta

MAX_PROMPT_CHARS = 4 * 1024 * 1024
MAX_GRAMMAR_CHARS = 64 * 1024
MAX_CHOICES = 8
MAX_STREAMS = 16  # choices of one request over all its prompts

ModelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="A name from GET /v1/models: a model, an alias, or `run_<id>`; null = the default model.",
    ),
]
PromptText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_PROMPT_CHARS,
        description="Text to continue; control tokens that it spells out count as such. Never empty.",
    ),
]
MaxTokens = Annotated[
    int,
    Meta(
        ge=1,
        le=1_000_000,
        description="Most tokens to generate; prompt and answer share the model's context. Null = what the context "
        "leaves, but at most 256 on /v1/generate and 16 on /v1/completions.",
    ),
]
Temperature = Annotated[
    float,
    Meta(ge=0, le=2, description="0 takes the likeliest token; 1 and null draw from the model's own distribution."),
]
TopP = Annotated[
    float, Meta(gt=0, le=1, description="Draw from the likeliest tokens that hold this probability; null = 1, all.")
]
TopK = Annotated[int, Meta(ge=0, le=1_000_000, description="Draw from this many likeliest tokens; 0 and null = all.")]
Seed = Annotated[
    int,
    Meta(
        ge=0,
        le=2**63 - 1,
        description="Same seed, prompt and weights give the same text; choice i uses seed + i. Null = drawn.",
    ),
]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
StopTexts = Annotated[
    StopText | Annotated[list[StopText], Meta(max_length=8)],
    Meta(description="Text ends before the first of these; up to 8 strings of 1-256 characters."),
]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES, description="Answers to generate, side by side; null = 1.")]
MinP = Annotated[
    float,
    Meta(
        ge=0,
        le=1,
        description="Drop tokens below this share of the likeliest one's probability, after the temperature; 0 and "
        "null = none.",
    ),
]
PresencePenalty = Annotated[
    float,
    Meta(ge=-2, le=2, description="Taken off the logit of every token that the answer holds already; null = 0."),
]
FrequencyPenalty = Annotated[
    float,
    Meta(ge=-2, le=2, description="Taken off a token's logit once for each time that the answer holds it; null = 0."),
]
JsonSchema = Annotated[
    dict[str, Any],
    Meta(description="JSON Schema (draft 2020-12) that the answer is an instance of; the text is JSON and no more."),
]
Regex = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_GRAMMAR_CHARS, description="Regular expression that the whole answer matches."),
]
Lark = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_GRAMMAR_CHARS,
        description="Grammar in llguidance's variant of Lark; the answer is a sentence of its `start`.",
    ),
]
UseCache = Annotated[
    bool,
    Meta(
        description="true: take a kept answer and keep this one, also where it is drawn by chance (temperature above 0 "
        "and no seed); false: neither; null: only deterministic answers. The header Cache-Control goes first."
    ),
]
EndUser = Annotated[
    str, Meta(min_length=1, max_length=512, description="Your id of your user; written to this server's log only.")
]


def stop_tuple(stop: str | list[str] | None) -> tuple[str, ...]:
    """Bring the forms of `stop` together."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)
