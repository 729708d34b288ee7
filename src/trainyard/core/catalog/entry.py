"""One model of the catalog: its keys, their bounds, and which of them belong to which backend."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from trainyard.core.metering.types import FREE, Prices
from trainyard.core.settings_sources import nearest
from trainyard.core.wire import Origin

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?"

ModelName = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
Capability = Literal["generate", "chat", "embed"]
Backend = Literal["local", "adapter", "openai", "ollama", "fake"]

_OLLAMA_URL = "http://127.0.0.1:11434"  # where Ollama listens unless told otherwise
_SHARED = frozenset({"name", "aliases", "backend", "load", "family", "capabilities", "prices", "fallbacks"})
_WEIGHTS = frozenset({"trainable", "gpu", "framework"})
_REMOTE = frozenset(
    {
        "base_url",
        "api_key_env",
        "upstream_model",
        "context_tokens",
        "max_tokens",
        "timeout_s",
        "connect_timeout_s",
        "first_byte_timeout_s",
        "idle_timeout_s",
        "retries",
        "max_concurrency",
    }
)
KEYS: Mapping[Backend, frozenset[str]] = {
    "local": _SHARED | _WEIGHTS | {"path"},
    "fake": _SHARED | _WEIGHTS,
    "adapter": _SHARED | {"base", "path"},
    "openai": _SHARED | _REMOTE | {"extra_parameters", "text_prompts", "length_parameter"},
    "ollama": _SHARED | _REMOTE,
}
"""Which keys an entry may have."""

_NEEDED: Mapping[Backend, tuple[str, ...]] = {"adapter": ("base", "path"), "openai": ("base_url",)}
_OF_ANSWERS = ("name", "backend", "path", "base", "base_url", "upstream_model", "text_prompts")
"""Keys that decide what a model answers; the others decide when, to whom and for how much."""


def _unquoted_off(value: object) -> object:
    """YAML reads an unquoted `off` as false."""
    return "off" if value is False else value


def _clean_url(value: str) -> str:
    try:
        Origin(value)
    except ValueError as error:
        hint = "" if {"@", "?"}.isdisjoint(value) else "; a key belongs into api_key_env"
        raise ValueError(f"{error}{hint}") from None
    return value.rstrip("/")


def _priced(value: object) -> object:
    """Read currency units per million tokens as micros of them."""
    if not isinstance(value, Mapping):
        return value
    unknown = set(value) - {"prompt", "completion"}
    if unknown:
        raise ValueError(f"unknown key {min(map(str, unknown))!r}; valid keys: prompt, completion")
    return Prices(**{name: _micros(name, amount) for name, amount in value.items()})


def _micros(name: str, amount: object) -> int:
    try:
        micros = Decimal(str(amount)) * 1_000_000
    except InvalidOperation:
        raise ValueError(f"{name} is a number: currency units per million tokens") from None
    if not 0 <= micros <= 10**15 or micros != micros.to_integral_value():
        raise ValueError(f"{name} is at least 0, at most 1000000000, with six decimals at most")
    return int(micros)


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class ModelEntry(BaseModel):
    """One model of the catalog.

    Attributes:
        name: `org/name` or `name`; never a path.
        aliases: Further names for the same model.
        backend: `local` is served by an engine of ours, `adapter` is a saved adapter on top of such a model, `openai`
            and `ollama` are servers elsewhere, `fake` answers by fixed rules (for tests and demonstrations).
        path: Directory of a local model (`config.json`, safetensors) or of an adapter in PEFT's format; relative ones
            start at the catalog's directory. A local model without one is looked up in the hub's cache on this
            machine, and None means that it is not there.
        load: `eager` starts its engine with the server, `lazy` at the first use, `off` lists it but refuses calls.
        trainable: Whether runs can be made on it; local models only.
        gpu: Wish such as `l40s:1`; recorded, and applied where that GPU is.
        framework: Kept from Signal's files; the engine is the same for all.
        base: Local model below an adapter.
        base_url: Of the upstream; `/chat/completions` (OpenAI) or `/api/chat` (Ollama) is appended.
        api_key_env: Environment variable that holds the upstream's key.
        upstream_model: Its name there; `name` when left out.
        fallbacks: Models that are asked in this order when this one fails before its first byte.
        context_tokens: Of prompt and answer together, where the upstream is known to have that limit.
        max_tokens: Length limit of answers whose caller sets none.
        timeout_s: Longest time of one attempt, to its last byte.
        connect_timeout_s: Longest time until a connection stands.
        first_byte_timeout_s: Longest time until the first byte of the answer's body; a whole answer comes in one
            piece, so it is the time of its generation.
        idle_timeout_s: Longest silence between two parts of a stream.
        retries: Further attempts at the same upstream after a failure that allows one.
        max_concurrency: Requests that may be there at once; more wait as long as for a first byte.
        prices: Micros of the currency per million tokens; in the file currency units per million tokens.
        extra_parameters: Parameters beyond OpenAI's that this upstream understands.
        length_parameter: By which name a chat is told its length limit; some servers know only the newer one.
        text_prompts: How a prompt that is no chat is sent: to `/completions`, or as the one message of a chat.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ModelName
    aliases: tuple[ModelName, ...] = ()
    backend: Backend = "local"
    path: Path | None = None
    load: Annotated[Literal["eager", "lazy", "off"], BeforeValidator(_unquoted_off)] = "lazy"
    trainable: bool = True
    gpu: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}(:[1-9][0-9]?)?$")] | None = None
    family: str | None = Field(default=None, max_length=64)
    framework: Literal["transformers", "unsloth", "native"] = "native"
    capabilities: tuple[Capability, ...] = Field(default=("generate", "chat"), min_length=1)
    base: ModelName | None = None
    base_url: Annotated[str, AfterValidator(_clean_url)] | None = None
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None
    upstream_model: str | None = Field(default=None, min_length=1, max_length=200)
    fallbacks: tuple[ModelName, ...] = ()
    context_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    timeout_s: Seconds = 600.0
    connect_timeout_s: Seconds = 5.0
    first_byte_timeout_s: Seconds = 120.0
    idle_timeout_s: Seconds = 60.0
    retries: int = Field(default=2, ge=0, le=10)
    max_concurrency: int | None = Field(default=None, ge=1, le=100_000)
    prices: Annotated[Prices, BeforeValidator(_priced)] = FREE
    extra_parameters: tuple[Literal["top_k", "min_p"], ...] = ()
    text_prompts: Literal["completion", "chat"] = "completion"
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    @model_validator(mode="after")
    def _fits_its_backend(self) -> Self:
        alien = sorted(self.model_fields_set - KEYS[self.backend])
        if alien:
            valid = sorted(KEYS[self.backend])
            guess = nearest(alien[0], valid)
            hint = f"; did you mean '{guess}'?" if guess else ""
            raise ValueError(f"{alien[0]} does not belong to backend {self.backend}{hint}; valid: {', '.join(valid)}")
        missing = [key for key in _NEEDED.get(self.backend, ()) if getattr(self, key) is None]
        if missing:
            raise ValueError(f"backend {self.backend} needs {missing[0]}")
        if self.load == "eager" and self.backend not in ("local", "fake"):
            raise ValueError(f"load: eager starts an engine, and backend {self.backend} has none; write lazy or off")
        return self

    @property
    def is_remote(self) -> bool:
        """Whether a server elsewhere does the work."""
        return self.backend in ("openai", "ollama")

    @property
    def url(self) -> str:
        """Where a remote model is."""
        return self.base_url or _OLLAMA_URL

    @cached_property
    def revision(self) -> str:
        """What changes whenever the same request may get another answer: the entry, and the files below its path."""
        facts = [f"{key}={getattr(self, key)!r}" for key in _OF_ANSWERS]
        if self.path is not None and self.path.is_dir():
            stats = ((file.name, file.stat()) for file in sorted(self.path.iterdir()) if file.is_file())
            facts += [f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
