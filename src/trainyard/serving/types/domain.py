"""What the service works on, whatever the dialect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from trainyard.core.metering.types import FREE, Prices
from trainyard.core.ports.adapters import AdapterModel
from trainyard.engine.types import Grammar

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for.

    Attributes:
        parameters: JSON Schema of its arguments, an object.
    """

    name: str
    description: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Chat:
    """Turns for the model's chat template.

    Attributes:
        messages: Each with `role` and `content`; those of the assistant may have `tool_calls` in OpenAI's shape, those
            of role `tool` have a `tool_call_id`.
        tools: What the model may call.
    """

    messages: Sequence[Mapping[str, object]]
    tools: Sequence[Tool] = ()


Prompt = str | Sequence[int] | Chat
"""Text, token ids, or a chat."""


class Ask(Struct, frozen=True, kw_only=True):
    """One request for text.

    Attributes:
        model: As the caller wrote it; None = the default model.
        prompts: At least one.
        n: Choices per prompt.
        max_tokens: None = `default_max_tokens` or what the context leaves, whichever is less.
        stop: Strings that end the text.
        seed: Of the first choice; the following ones count up.
        logprobs: -1 none, 0 of the drawn tokens, n also of the n likeliest.
        form: What the text has to be; None = anything.
        tool_choice: `auto`, `none`, `required`, or the name of the tool that has to be called; read with tools only.
        parallel_tool_calls: Whether one answer may hold several calls.
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
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = -1
    form: Grammar | None = None
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    end_user: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a name stands for.

    Attributes:
        name: Canonical name: of the catalog, or `run_<id>`.
        base_model: Catalog name whose backend does the work.
        adapter: The trained weights on top, if any.
        revision: What has to be equal for two answers to be the same: version of weights and of the entry.
        prices: Of the catalog's entry.
        prefix_scope: Whose prompts may share computed beginnings with this request's; None = nobody's.
    """

    name: str
    base_model: str
    adapter: AdapterModel | None = None
    revision: str = ""
    prices: Prices = FREE
    prefix_scope: str | None = None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One token of an answer, for those who ask for log-probabilities.

    Attributes:
        raw: Its bytes; part of a character is possible.
        logprob: Natural log of its probability.
        top: The likeliest (bytes, logprob) pairs, best first.
    """

    raw: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """What is new of one tool call; `id` and `name` come with its first part.

    Attributes:
        index: Number of the call within the answer, from 0.
        arguments: JSON text to append.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Piece(Struct, frozen=True, kw_only=True):
    """What became certain of one answer; the last piece has a finish reason.

    Attributes:
        text: New characters.
        tokens: Those behind them; empty unless log-probabilities were asked for.
        tool_calls: What is new of tool calls.
        finish_reason: On the last piece only.
        completion_tokens: Tokens drawn so far, all of them.
        prompt_tokens: What the model read, where it tells; None leaves what was counted before.
        cached_tokens: Tokens of the prompt that were found computed.
        version: Of the weights: `base`, `<run_id>@<step>`, or what an upstream calls its own.
        model: Catalog name of the model that answered in place of the one that was asked for; None = that one. Such
            an answer is not kept in a cache.
    """

    text: str = ""
    tokens: tuple[TokenInfo, ...] = ()
    tool_calls: tuple[ToolDelta, ...] = ()
    finish_reason: Finish | None = None
    completion_tokens: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    version: str = "base"
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer; `index` counts over prompts first, then choices."""

    index: int
    piece: Piece
    finish_reason: Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedAsk:
    """Texts, or token ids, to turn into vectors.

    Attributes:
        dimensions: Keep this many leading numbers and normalise again; None = all.
    """

    model: str | None
    inputs: Sequence[str | Sequence[int]]
    param: str
    dimensions: int | None = None
    end_user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Vectors in the order of the inputs, L2 norm 1."""

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model as its callers see it.

    Attributes:
        owner: Who made it: the user of a run, `trainyard` for the catalog.
        created_at: Unix seconds: of the run, or of this server's start for the catalog.
        status: `available`, `off` (its entry says so), or `unavailable` (what does the work does not answer).
        root: The base model; the name itself for base models.
        step: Optimiser steps behind a run.
        is_default: Whether requests that name no model get this one.
    """

    name: str
    owner: str
    created_at: float
    status: Literal["available", "off", "unavailable"]
    backend: str
    capabilities: tuple[str, ...]
    aliases: tuple[str, ...]
    root: str
    step: int | None
    is_default: bool = False
