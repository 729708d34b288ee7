"""The serving verbs as calls; a trained run is a model by the name of its id, none = the server's default model."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from trainyard.sdk import results
from trainyard.sdk.call import Call, StreamCall, given
from trainyard.sdk.training_calls import Message


def served_models() -> Call[list[results.Result]]:
    """List everything that can be called by name: base models and your own live runs."""
    return Call("GET", "/v1/models", lambda body: list(body["data"]), is_idempotent=True)


class Sampling(TypedDict, total=False):
    """How text is drawn and kept; what is left out or None is the server's default.

    Attributes:
        temperature: 0 = always the likeliest token.
        top_p: Share of the likelihood to draw from.
        top_k: Number of likeliest tokens to draw from; 0 = all.
        min_p: Drop tokens below this share of the likeliest one's probability.
        presence_penalty: -2 to 2, against tokens that the answer holds.
        frequency_penalty: -2 to 2, the same once per occurrence.
        stop: Texts before which the answer ends.
        seed: Same seed, prompt and weights: same text.
        json_schema: What the answer is an instance of.
        regex: What the whole answer matches.
        grammar: Lark grammar of the answer; at most one of the three.
        cache: True also takes and keeps answers that are drawn by chance, False none.
    """

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    stop: Sequence[str] | None
    seed: int | None
    json_schema: Mapping[str, object] | None
    regex: str | None
    grammar: str | None
    cache: bool | None


def generate(
    prompt: str,
    *,
    model: str | None = None,
    max_new_tokens: int | None = None,
    idempotency_key: str | None = None,
    **sampling: Unpack[Sampling],
) -> Call[results.Generation]:
    """Continue a prompt; the answer has `model`, `output`, `cached`.

    With an idempotency key it is done and charged once, however often it is sent.
    """
    body = given(prompt=prompt, model=model, max_new_tokens=max_new_tokens, **_drawn(sampling))
    return Call("POST", "/v1/generate", results.Generation, body, is_idempotent=True, headers=_keyed(idempotency_key))


def generate_batch(
    prompts: Sequence[str],
    *,
    model: str | None = None,
    max_new_tokens: int | None = None,
    idempotency_key: str | None = None,
    **sampling: Unpack[Sampling],
) -> Call[results.Batch]:
    """Continue 1 to 64 prompts as one request; `results` has `output`, `cached`, token counts and `error` of each."""
    body = given(prompts=list(prompts), model=model, max_new_tokens=max_new_tokens, **_drawn(sampling))
    path, headers = "/v1/generate/batch", _keyed(idempotency_key)
    return Call("POST", path, results.Batch, body, is_idempotent=True, headers=headers)


def generate_stream(
    prompt: str,
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    idempotency_key: str | None = None,
    **sampling: Unpack[Sampling],
) -> StreamCall[str]:
    """Continue a prompt piece by piece: strings, as they are written."""
    body = given(prompt=prompt, model=model, max_new_tokens=max_tokens, **_drawn(sampling))
    return StreamCall("/v1/stream", lambda _name, event: event.get("text") or None, body, _keyed(idempotency_key))


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


def embed(texts: Sequence[str], *, model: str | None = None, dimensions: int | None = None) -> Call[results.Vectors]:
    """Turn texts into vectors of length 1; `vectors` of the result are in their order."""
    body = given(input=list(texts), model=model, dimensions=dimensions)
    return Call("POST", "/v1/embeddings", results.Vectors, body, is_idempotent=True)


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


def _drawn(sampling: Sampling) -> dict[str, object]:
    stop = sampling.get("stop")
    return {**sampling, "stop": None if stop is None else list(stop)}


def _keyed(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}


def _chat_text(_name: str, event: results.Result) -> str | None:
    return "".join(choice.get("delta", {}).get("content") or "" for choice in event.get("choices", ())) or None
