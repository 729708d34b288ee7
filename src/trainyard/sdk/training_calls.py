"""The training verbs as calls: fields left at None are not sent, so that the server's defaults hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.sdk import results
from trainyard.sdk.call import Call, StreamCall, given

Example = Mapping[str, Any]
Message = Mapping[str, str]


def models() -> Call[list[str]]:
    """List the names of the base models that can be trained or called."""
    return Call("GET", "/models", lambda body: list(body["models"]), is_idempotent=True)


def create_run(
    base_model: str,
    *,
    lora_r: int | None = None,
    lora_alpha: int | None = None,
    lora_dropout: float | None = None,
    lora_target_modules: Sequence[str] | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    lr_scheduler: str | None = None,
    warmup_steps: int | None = None,
    lr_total_steps: int | None = None,
    max_seq_length: int | None = None,
    bf16: bool | None = None,
    gradient_checkpointing: bool | None = None,
    gpu_config: str | None = None,
    seed: int | None = None,
) -> Call[results.RunStatus]:
    """Open a training run: a fresh LoRA adapter over a base model."""
    body = given(
        base_model=base_model,
        lora_r=lora_r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        lora_target_modules=None if lora_target_modules is None else list(lora_target_modules),
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        lr_scheduler=lr_scheduler,
        warmup_steps=warmup_steps,
        lr_total_steps=lr_total_steps,
        max_seq_length=max_seq_length,
        bf16=bf16,
        gradient_checkpointing=gradient_checkpointing,
        gpu_config=gpu_config,
        seed=seed,
    )
    return Call("POST", "/runs", results.RunStatus, body)


def list_runs() -> Call[list[results.RunStatus]]:
    """List your runs, newest first."""
    return Call("GET", "/runs", lambda body: [results.RunStatus(run) for run in body["runs"]], is_idempotent=True)


def get_run_status(run_id: str) -> Call[results.RunStatus]:
    """Tell where a run stands."""
    return Call("GET", f"/runs/{run_id}/status", results.RunStatus, is_idempotent=True)


def get_run_metrics(run_id: str) -> Call[results.RunMetrics]:
    """Read the numbers of every call of a run so far."""
    return Call("GET", f"/runs/{run_id}/metrics", results.RunMetrics, is_idempotent=True)


def list_artifacts(run_id: str) -> Call[list[results.Result]]:
    """List the saved checkpoints of a run."""
    return Call("GET", f"/runs/{run_id}/artifacts", list, is_idempotent=True)


def forward_backward(
    run_id: str,
    batch: Sequence[Example],
    accumulate: bool = False,
    loss_fn: str = "causal_lm",
    loss_kwargs: Mapping[str, Any] | None = None,
) -> Call[results.ForwardBackward]:
    """Compute the loss and the gradients of a batch; accumulate adds to those held, else they are replaced.

    Never repeated by the client: an accumulated batch would count twice.
    """
    body = given(batch_data=list(batch), accumulate=accumulate, loss_fn=loss_fn, loss_kwargs=loss_kwargs)
    return Call("POST", f"/runs/{run_id}/forward_backward", results.ForwardBackward, body)


def optim_step(run_id: str, learning_rate: float | None = None) -> Call[results.OptimStep]:
    """Apply and clear the gradients held; learning_rate is for this one step."""
    return Call("POST", f"/runs/{run_id}/optim_step", results.OptimStep, given(learning_rate=learning_rate))


def sample(
    run_id: str,
    prompts: Sequence[str],
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    return_logprobs: bool | None = None,
    seed: int | None = None,
) -> Call[results.Samples]:
    """Continue prompts with the weights as they are now."""
    body = given(
        prompts=list(prompts),
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        return_logprobs=return_logprobs,
        seed=seed,
    )
    return Call("POST", f"/runs/{run_id}/sample", results.Samples, body, is_idempotent=True)


def sample_stream(
    run_id: str,
    prompt: str,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> StreamCall[results.Result]:
    """Continue one prompt token by token: events with `token`, `token_id`, `logprob`, `is_finished`."""
    body = given(prompt=prompt, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    return StreamCall(f"/runs/{run_id}/sample/stream", lambda _name, event: event, body)


def embeddings(
    run_id: str, texts: Sequence[str], layer: int | None = None, pooling: str | None = None
) -> Call[results.Embeddings]:
    """Turn texts into vectors with the weights as they are now: `embeddings` and `dimensions`."""
    body = given(texts=list(texts), layer=layer, pooling=pooling)
    return Call("POST", f"/runs/{run_id}/embeddings", results.Embeddings, body, is_idempotent=True)


def save_state(
    run_id: str, mode: str = "adapter", push_to_hub: bool | None = None, hub_model_id: str | None = None
) -> Call[results.SavedState]:
    """Write a checkpoint: `adapter` in PEFT's format, or `merged` as a whole model."""
    body = given(mode=mode, push_to_hub=push_to_hub, hub_model_id=hub_model_id)
    return Call("POST", f"/runs/{run_id}/save_state", results.SavedState, body)


def tokenize(run_id: str, text: str | Sequence[str], add_special_tokens: bool = True) -> Call[results.Tokens]:
    """Turn text into token ids with the tokenizer of the run's model."""
    texts = text if isinstance(text, str) else list(text)
    body = {"text": texts, "add_special_tokens": add_special_tokens}
    return Call("POST", f"/runs/{run_id}/tokenize", results.Tokens, body, is_idempotent=True)


def detokenize(run_id: str, token_ids: Sequence[int] | Sequence[Sequence[int]]) -> Call[results.Result]:
    """Turn token ids into `text`: one string, or one for each list."""
    return Call(
        "POST", f"/runs/{run_id}/detokenize", results.Result, {"token_ids": list(token_ids)}, is_idempotent=True
    )


def get_tokenizer_info(run_id: str) -> Call[results.Result]:
    """Describe the tokenizer: size of the vocabulary, special tokens."""
    return Call("GET", f"/runs/{run_id}/tokenizer_info", results.Result, is_idempotent=True)


def get_model_info(run_id: str) -> Call[results.Result]:
    """Describe the base model and the adapter: parameters, layers, context."""
    return Call("GET", f"/runs/{run_id}/model_info", results.Result, is_idempotent=True)


def apply_chat_template(
    run_id: str, messages: Sequence[Message], add_generation_prompt: bool = False
) -> Call[results.ChatPrompt]:
    """Render messages as the model reads them: `text` and `token_ids`."""
    body = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
    return Call("POST", f"/runs/{run_id}/apply_chat_template", results.ChatPrompt, body, is_idempotent=True)


def complete(run_id: str) -> Call[results.Result]:
    """Close a run: its state is written, its place among your live runs is free. A second call changes nothing."""
    return Call("POST", f"/runs/{run_id}/complete", results.Result, is_idempotent=True)
