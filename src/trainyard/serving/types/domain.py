"""What the service works on, whatever the dialect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard.core.ports.adapters import AdapterModel
from trainyard.engine.generation import TextFinish, TextPiece


@dataclass(frozen=True, slots=True)
class Chat:
    """Turns for the model's chat template, each with `role` and `content`."""

    messages: Sequence[Mapping[str, str]]


Prompt = str | Sequence[int] | Chat
"""Text, token ids, or a chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for text.

    Attributes:
        model: As the caller wrote it; None = the default model.
        prompts: At least one.
        n: Choices per prompt.
        max_tokens: None = `default_max_tokens` or what the context leaves, whichever is less.
        stop: Strings that end the text.
        seed: Of the first choice; the following ones count up.
        logprobs: -1 none, 0 of the drawn tokens, n also of the n likeliest.
        end_user: The caller's id of its own user, for the log.
        param: Name of the field that holds the prompt, for errors.
    """

    model: str | None
    prompts: Sequence[Prompt]
    param: str
    n: int = 1
    max_tokens: int | None = None
    default_max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = -1
    end_user: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a name stands for.

    Attributes:
        name: Canonical name: of the catalog, or `run_<id>`.
        base_model: Catalog name whose backend does the work.
        adapter: The trained weights on top, if any.
    """

    name: str
    base_model: str
    adapter: AdapterModel | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer; `index` counts over prompts first, then choices."""

    index: int
    piece: TextPiece
    finish_reason: TextFinish


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model as its callers see it.

    Attributes:
        owner: Who made it: the user of a run, `trainyard` for the catalog.
        created_at: Unix seconds: of the run, or of this server's start for the catalog.
        root: The base model; the name itself for base models.
        step: Optimiser steps behind a run.
        is_default: Whether requests that name no model get this one.
    """

    name: str
    owner: str
    created_at: float
    is_off: bool
    backend: str
    capabilities: tuple[str, ...]
    aliases: tuple[str, ...]
    root: str
    step: int | None
    is_default: bool = False
