"""The serving verbs as calls; a trained run is a model by the name of its id, none = the server's default model."""

from collections.abc import Sequence

from trainyard.sdk import results
from trainyard.sdk.call import Call, StreamCall, given
from trainyard.sdk.training_calls import Message


def served_models() -> Call[list[results.Result]]:
    """List everything that can be called by name: base models and your own live runs."""
    return Call("GET", "/v1/models", lambda body: list(body["data"]), is_idempotent=True)


def generate(
    prompt: str,
    *,
    model: str | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    stop: Sequence[str] | None = None,
) -> Call[results.Generation]:
    """Continue a prompt; the answer has `model`, `output`, `cached`."""
    body = given(
        prompt=prompt,
        model=model,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=None if stop is None else list(stop),
    )
    return Call("POST", "/v1/generate", results.Generation, body, is_idempotent=True)


def generate_stream(
    prompt: str,
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: Sequence[str] | None = None,
    seed: int | None = None,
) -> StreamCall[str]:
    """Continue a prompt piece by piece: strings, as they are written."""
    body = _sampling(model, max_tokens, temperature, top_p, stop, seed) | {"prompt": prompt, "stream": True}
    return StreamCall("/v1/completions", _completion_text, body)


def chat(
    messages: Sequence[Message],
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: Sequence[str] | None = None,
    seed: int | None = None,
) -> Call[results.Chat]:
    """Answer a conversation; `text` of the result is what the assistant said."""
    body = _sampling(model, max_tokens, temperature, top_p, stop, seed) | {"messages": list(messages)}
    return Call("POST", "/v1/chat/completions", results.Chat, body, is_idempotent=True)


def chat_stream(
    messages: Sequence[Message],
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: Sequence[str] | None = None,
    seed: int | None = None,
) -> StreamCall[str]:
    """Answer a conversation piece by piece: strings, as they are written."""
    body = _sampling(model, max_tokens, temperature, top_p, stop, seed)
    return StreamCall("/v1/chat/completions", _chat_text, body | {"messages": list(messages), "stream": True})


def _sampling(
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    stop: Sequence[str] | None,
    seed: int | None,
) -> dict[str, object]:
    return given(
        model=model,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=None if stop is None else list(stop),
        seed=seed,
    )


def _completion_text(event: results.Result) -> str | None:
    return "".join(choice.get("text") or "" for choice in event.get("choices", ())) or None


def _chat_text(event: results.Result) -> str | None:
    return "".join(choice.get("delta", {}).get("content") or "" for choice in event.get("choices", ())) or None
