"""What crosses the border of an engine: frozen messages, encodable by msgspec, free of torch.

Arrays travel as raw little-endian bytes; `int32` and `float32` build and read them.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear maps of a layer that can carry an adapter, in PEFT's names."""

OptimizerName = Literal["adamw", "adamw_8bit"]
SchedulerName = Literal["cosine", "linear", "constant_with_warmup"]
FinishReason = Literal["stop", "length", "cancelled"]


def int32(values: Sequence[int]) -> bytes:
    """Encode whole numbers as little-endian int32."""
    return np.asarray(values, dtype="<i4").tobytes()


def float32(values: Sequence[float]) -> bytes:
    """Encode numbers as little-endian float32."""
    return np.asarray(values, dtype="<f4").tobytes()


def read_int32(raw: bytes) -> list[int]:
    """Decode what `int32` encoded."""
    return [int(v) for v in np.frombuffer(raw, dtype="<i4")]


def read_float32(raw: bytes) -> list[float]:
    """Decode what `float32` encoded."""
    return [float(v) for v in np.frombuffer(raw, dtype="<f4")]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that crosses the border."""


class ModelInfo(Message, frozen=True, kw_only=True):
    """What a base model is; answered by `Engine.info`."""

    name: str
    architecture: str  # as in config.json, e.g. "LlamaForCausalLM"
    parameters: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    max_positions: int
    dtype: str  # of the frozen weights in memory, e.g. "float32"
    device: str  # "cpu" or "cuda:0"
    bf16_default: bool  # what bf16 = null means on this device
    gradient_checkpointing_default: bool


class RunSpec(Message, frozen=True, kw_only=True):
    """Everything that the engine must know to open a run; equal for its whole life.

    Attributes:
        state_dir: Directory (made by the engine when absent) for the durable state of the run; opening a run whose
            directory holds a state restores it.
        lr_total_steps: Optimiser steps over which `cosine` and `linear` fall to zero; required by both.
        seed: For the initial A matrices and for dropout.
    """

    run_id: str
    state_dir: str
    lora_r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: tuple[str, ...]
    optimizer: OptimizerName
    learning_rate: float
    weight_decay: float
    lr_scheduler: SchedulerName | None
    warmup_steps: int
    lr_total_steps: int | None
    bf16: bool
    gradient_checkpointing: bool
    seed: int


class RolledBack(Message, frozen=True, kw_only=True):
    """A crash took the run from step `from_step` back to `to_step`."""

    from_step: int
    to_step: int


class RunState(Message, frozen=True, kw_only=True):
    """Where a run stands inside its engine.

    Attributes:
        current_step: Optimiser steps applied in memory.
        durable_step: Steps that survive a crash now.
        pending_tokens: Weighted tokens whose gradients wait for `optim_step`; 0 = none.
        gradients_lost: Gradients were held when the engine died; the next `optim_step` is refused once.
        trainable_parameters: Numbers in A and B.
    """

    run_id: str
    current_step: int
    durable_step: int
    pending_tokens: int
    gradients_lost: bool
    rolled_back: RolledBack | None
    trainable_parameters: int
    learning_rate: float  # of the next step, schedule applied


class Datum(Message, frozen=True, kw_only=True):
    """One training sequence of length T, already shifted: position t predicts targets[t] with weights[t].

    Attributes:
        tokens: int32[T] bytes, input ids.
        targets: int32[T] bytes, ids to predict.
        weights: float32[T] bytes, >= 0; a position of weight 0 never reaches the head.
    """

    tokens: bytes
    targets: bytes
    weights: bytes

    @property
    def length(self) -> int:
        """T, in tokens."""
        return len(self.tokens) // 4


class ForwardBackwardResult(Message, frozen=True, kw_only=True):
    """Answer of one `forward_backward`.

    Attributes:
        loss: Sum of weight x negative log-likelihood over the sum of weights of this call, in nats.
        loss_sum: The same before the division.
        weight_sum: Sum of the weights of this call.
        tokens: Input tokens of this call (all positions).
        grad_norm: L2 norm of the gradient held after this call (accumulated sum / accumulated weight).
        grad_max: Largest absolute entry of it.
        step: Optimiser steps applied so far.
        packed_runs: Runs that shared a forward pass with this call, itself included (largest over its micro-steps).
        compute_s: Wall seconds of compute spent on passes that this call was part of.
    """

    loss: float
    loss_sum: float
    weight_sum: float
    tokens: int
    grad_norm: float
    grad_max: float
    step: int
    packed_runs: int
    compute_s: float


class OptimResult(Message, frozen=True, kw_only=True):
    """Answer of one `optim_step`."""

    step: int  # after this step
    learning_rate: float  # that was applied
    grad_norm: float
    weight_norm: float  # L2 norm of all A and B after the step
    durable_step: int


class SaveResult(Message, frozen=True, kw_only=True):
    """Answer of one `save`: what lies on disk, verified by reading it back."""

    directory: str
    mode: Literal["adapter", "merged"]
    step: int
    files: dict[str, int]  # relative path -> size in bytes


class Grammar(Message, frozen=True, kw_only=True):
    """What the text of an answer has to be; kept by a mask over the vocabulary before every token.

    Attributes:
        kind: `json_schema` (JSON Schema, draft 2020-12), `json_object` (any object; text is ignored), `regex` (Rust's
            syntax), `lark` (llguidance's variant of Lark).
        text: The schema as JSON, the expression or the grammar.
    """

    kind: Literal["json_schema", "json_object", "regex", "lark"]
    text: str = ""


class Sampling(Message, frozen=True, kw_only=True):
    """How tokens are drawn; the defaults draw from the model's own distribution."""

    max_tokens: int
    temperature: float = 1.0  # 0 = greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 = all
    seed: int | None = None  # same seed, same prompt, same weights: same tokens
    stop_token_ids: tuple[int, ...] = ()  # end of sequence included by the caller
    logprobs: int = -1  # -1 none, 0 of the drawn token, n > 0 also the n likeliest
    prompt_logprobs: bool = False
    min_p: float = 0.0  # drop tokens below this share of the likeliest one's probability, after temperature
    presence_penalty: float = 0.0  # -2..2, off the logit of every token that the answer holds
    frequency_penalty: float = 0.0  # -2..2, the same times the number of its occurrences in the answer
    grammar: Grammar | None = None


class GenerateRequest(Message, frozen=True, kw_only=True):
    """One sequence to continue.

    Attributes:
        stream_id: Chosen by the caller, unique among its live streams; names the stream in `cancel`.
        prompt: int32[P] bytes, P >= 1.
        run_id: Live adapter of that run; None = base model (unless adapter_dir is given).
        adapter_dir: A saved adapter in PEFT's format instead of a live run.
        prefix_scope: Streams of the same scope share computed beginnings of their prompts; None shares nothing.
        timeout_s: Seconds from arrival after which the stream ends with errors.DeadlineExceeded; None = no end.
    """

    stream_id: str
    prompt: bytes
    sampling: Sampling
    run_id: str | None = None
    adapter_dir: str | None = None
    prefix_scope: str | None = None
    timeout_s: float | None = None


class TokenEvent(Message, frozen=True, kw_only=True):
    """One decoded token, or the end of the stream.

    Attributes:
        token: Drawn id; -1 on an end without a token. A stop token comes with finish = "stop" and counts as drawn.
        logprob: Natural log of the drawn token's probability under the model, before temperature and truncation; NaN
            when not asked.
        top: Likeliest (id, logprob) pairs, best first; empty when not asked.
        finish: Set on the last event of the stream.
        weights_version: `<run_id>@<step>` or `base`, on every event.
        prompt_logprobs: float32[P] bytes on the first event when asked (the first entry is NaN); else empty.
        cached_tokens: On the first event: tokens of the prompt that were found computed; else 0.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    finish: FinishReason | None
    weights_version: str
    prompt_logprobs: bytes = b""
    cached_tokens: int = 0


class EmbedRequest(Message, frozen=True, kw_only=True):
    """Texts to turn into vectors.

    Attributes:
        inputs: int32[T] bytes each, T >= 1 and at most `max_positions`.
        pooling: `mean` over all tokens, `last_token`, or `cls_token` (the first).
        layer: Whose output is pooled: 0 = token embeddings, 1..layers = after that layer, -1 = the last one, final norm
            applied.
        normalize: Divide each vector by its L2 norm.
        run_id: As in `GenerateRequest`; likewise `adapter_dir`.
    """

    inputs: tuple[bytes, ...]
    pooling: Literal["mean", "last_token", "cls_token"] = "mean"
    layer: int = -1
    normalize: bool = False
    run_id: str | None = None
    adapter_dir: str | None = None


class EmbedResult(Message, frozen=True, kw_only=True):
    """Vectors in the order of the inputs.

    Attributes:
        vectors: float32[D] bytes each.
        dimensions: D.
        tokens: Tokens read, over all inputs.
        weights_version: As in `TokenEvent`.
    """

    vectors: tuple[bytes, ...]
    dimensions: int
    tokens: int
    weights_version: str


class EngineStats(Message, frozen=True, kw_only=True):
    """A snapshot for metrics and readiness."""

    open_runs: int
    active_streams: int
    queued_streams: int
    trained_tokens: int  # since start
    sampled_tokens: int  # since start
    started_at: float  # Unix seconds
    rss_bytes: int
    kv_bytes: int = 0  # in use by streams and kept prefixes
    kv_max_bytes: int = 0
    prefix_hit_tokens: int = 0  # prompt tokens that were found computed, since start
    prompt_tokens: int = 0  # prompt tokens of all admitted streams, since start
