"""Malformed requests to Signal's routes, as a table that every server has to stand.

`{run}` in a path is an active run of the caller. Each row names its status and words of the message that say what would
be right.
"""

import json
from dataclasses import dataclass

MODEL = "{model}"
"""Stands for the name of a model that can be trained, in bodies."""

BATCH = {"batch_data": [{"text": "some text"}]}


@dataclass(frozen=True, slots=True)
class Malformed:
    """One request that must not succeed.

    Attributes:
        name: For the test's id.
        path: With `{run}` for the id of an active run.
        body: JSON value, or raw bytes.
        status: What it is answered with.
        says: Has to be in the answer's `error`.
        method: HTTP method.
    """

    name: str
    path: str
    body: object
    status: int
    says: str
    method: str = "POST"

    def content(self, model: str) -> bytes:
        """Give the bytes to send, with the model's name filled in."""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).replace(MODEL, model).encode()


def _config(**fields: object) -> dict[str, object]:
    return {"base_model": MODEL, **fields}


def _chat(**message: object) -> dict[str, object]:
    return {"batch_data": [{"messages": [message]}]}


REQUESTS = (
    Malformed("no body", "/runs", b"", 422, "required"),
    Malformed("not JSON", "/runs", b"{base_model: x}", 422, "not valid JSON"),
    Malformed("not UTF-8", "/runs", b'{"base_model": "\xff"}', 422, "not valid UTF-8"),
    Malformed("a list for an object", "/runs", [1], 422, "dictionary"),
    Malformed("no model", "/runs", {"lora_r": 8}, 422, "base_model"),
    Malformed("path for a model", "/runs", {"base_model": "../../etc/passwd"}, 422, "org/name"),
    Malformed("absolute path for a model", "/runs", {"base_model": "/etc/passwd"}, 422, "org/name"),
    Malformed("unknown model", "/runs", {"base_model": "org/none"}, 400, MODEL),
    Malformed("unknown field", "/runs", _config(lora_rank=8), 422, "did you mean lora_r?"),
    Malformed("text for a number", "/runs", _config(lora_r="8"), 422, "lora_r: Input should be a valid integer"),
    Malformed("number out of bounds", "/runs", _config(lora_r=513), 422, "less than or equal to 512"),
    Malformed("not a number", "/runs", b'{"base_model": "a/b", "learning_rate": NaN}', 422, "finite"),
    Malformed("unknown optimizer", "/runs", _config(optimizer="sgd"), 422, "'adamw' or 'adamw_8bit'"),
    Malformed("unknown module", "/runs", _config(lora_target_modules=["x"]), 422, "'q_proj'"),
    Malformed("GPU of another form", "/runs", _config(gpu_config="H100"), 422, "TYPE:COUNT"),
    Malformed("schedule without length", "/runs", _config(lr_scheduler="cosine"), 422, "lr_total_steps"),
    Malformed("longer than the context", "/runs", _config(max_seq_length=131_072), 422, "send at most"),
    Malformed("empty batch", "/runs/{run}/forward_backward", {"batch_data": []}, 422, "at least 1"),
    Malformed("example in no format", "/runs/{run}/forward_backward", {"batch_data": [{}]}, 422, "Must provide one of"),
    Malformed(
        "example in two formats",
        "/runs/{run}/forward_backward",
        {"batch_data": [{"text": "a", "messages": [{"role": "user", "content": "b"}]}]},
        422,
        "only ONE format",
    ),
    Malformed(
        "preference example",
        "/runs/{run}/forward_backward",
        {"batch_data": [{"prompt": "a", "chosen": "b", "rejected": "c"}]},
        422,
        "Must provide one of: text, messages",
    ),
    Malformed("loss of a later day", "/runs/{run}/forward_backward", {**BATCH, "loss_fn": "dpo"}, 422, "'causal_lm'"),
    Malformed("reward without a loss", "/runs/{run}/forward_backward", {**BATCH, "rewards": [1]}, 422, "causal_lm"),
    Malformed("loss option", "/runs/{run}/forward_backward", {**BATCH, "loss_kwargs": {"b": 1}}, 422, "no options"),
    Malformed("unknown role", "/runs/{run}/forward_backward", _chat(role="robot", content="a"), 422, "'assistant'"),
    Malformed("nothing to learn", "/runs/{run}/forward_backward", _chat(role="user", content="a"), 422, "assistant"),
    Malformed("surrogate", "/runs/{run}/forward_backward", b'{"batch_data":[{"text":"\\ud800"}]}', 422, "string"),
    Malformed("negative learning rate", "/runs/{run}/optim_step", {"learning_rate": -1}, 422, "greater than 0"),
    Malformed("prompt for prompts", "/runs/{run}/sample", {"prompt": "a"}, 422, "did you mean prompts?"),
    Malformed("top_p of nothing", "/runs/{run}/sample", {"prompts": ["a"], "top_p": 0}, 422, "greater than 0"),
    Malformed("over the context", "/runs/{run}/sample", {"prompts": ["a"], "max_tokens": 131_072}, 422, "context"),
    Malformed("no texts", "/runs/{run}/embeddings", {"texts": []}, 422, "at least 1"),
    Malformed("129 texts", "/runs/{run}/embeddings", {"texts": ["a"] * 129}, 422, "at most 128"),
    Malformed("no such pooling", "/runs/{run}/embeddings", {"texts": ["a"], "pooling": "max"}, 422, "'cls_token'"),
    Malformed("no such layer", "/runs/{run}/embeddings", {"texts": ["a"], "layer": 99}, 422, "this model has layers"),
    Malformed("text too long", "/runs/{run}/embeddings", {"texts": ["a", "a" * 9000]}, 422, "texts[1] has 9000 tokens"),
    Malformed("push without a hub", "/runs/{run}/save_state", {"push_to_hub": True}, 422, "No hub is configured"),
    Malformed("unknown mode", "/runs/{run}/save_state", {"mode": "full"}, 422, "'adapter' or 'merged'"),
    Malformed("negative id", "/runs/{run}/detokenize", {"token_ids": [-1]}, 422, "greater than or equal to 0"),
    Malformed("id too large", "/runs/{run}/detokenize", {"token_ids": [2_000_000_000]}, 422, "lie between 0 and"),
    Malformed("chat without messages", "/runs/{run}/apply_chat_template", {"messages": []}, 422, "at least 1"),
    Malformed("path for a run", "/runs/..%2F..%2Fetc/status", b"", 404, "", "GET"),
    Malformed("id of another form", "/runs/run_XYZ/status", b"", 404, "16 hex digits", "GET"),
    Malformed("method that is not there", "/runs/{run}/status", b"", 405, "GET", "DELETE"),
)  # fmt: skip
