"""Every route: the scope that it needs and a request that it answers. What is not here is a failure of the table."""

from typing import Any, NamedTuple

MODEL = "yard/tiny"
"""Of the fake engine."""

REMOTES = [f"yard/remote-{number}" for number in range(8)]
"""Models whose upstream is not there."""

ANY = "any"
"""Of a route that takes a key of every scope."""

HELLO = [{"role": "user", "content": "hello"}]


class Known(NamedTuple):
    """What the table knows about a route.

    Attributes:
        scope: What its key needs; None = no key.
        body: A good one.
        missing: Values of path parameters that lead to nothing; empty where every value leads somewhere.
        values: Of path parameters, where they are not those of other routes.
    """

    scope: str | None
    body: Any = None
    missing: tuple[str, ...] = ("run_ffffffffffffffff",)
    values: dict[str, str] = {}  # noqa: RUF012 - never changed


_TRAIN = {"batch_data": [{"text": "some text"}]}

ROUTES: dict[str, Known] = {
    "GET /": Known(None),
    "GET /healthz": Known(None),
    "GET /health": Known(None),
    "GET /readyz": Known(None),
    "GET /metrics": Known(None),
    "GET /models": Known("train"),
    "GET /runs": Known("train"),
    "POST /runs": Known("train", {"base_model": MODEL, "lora_r": 4}),
    "GET /runs/{run_id}/status": Known("train"),
    "GET /runs/{run_id}/metrics": Known("train"),
    "POST /runs/{run_id}/forward_backward": Known("train", _TRAIN),
    "POST /runs/{run_id}/optim_step": Known("train", {}),
    "POST /runs/{run_id}/sample": Known("train", {"prompts": ["a"], "max_tokens": 2}),
    "POST /runs/{run_id}/sample/stream": Known("train", {"prompt": "a", "max_tokens": 2}),
    "POST /runs/{run_id}/embeddings": Known("train", {"texts": ["a"]}),
    "POST /runs/{run_id}/save_state": Known("train", {"mode": "adapter"}),
    "GET /runs/{run_id}/artifacts": Known("train"),
    "GET /runs/{run_id}/artifacts/{artifact_id}/download": Known("train"),
    "POST /runs/{run_id}/tokenize": Known("train", {"text": "a"}),
    "POST /runs/{run_id}/detokenize": Known("train", {"token_ids": [65]}),
    "GET /runs/{run_id}/tokenizer_info": Known("train"),
    "GET /runs/{run_id}/model_info": Known("train"),
    "POST /runs/{run_id}/apply_chat_template": Known("train", {"messages": HELLO}),
    "POST /runs/{run_id}/complete": Known("train"),
    "GET /v1/models": Known("generate"),
    "GET /v1/models/{name}": Known("generate", missing=("no/such", "run_ffffffffffffffff"), values={"name": MODEL}),
    "POST /v1/generate": Known("generate", {"prompt": "a", "max_new_tokens": 2}),
    "POST /v1/generate/batch": Known("generate", {"prompts": ["a", "b"], "max_new_tokens": 2}),
    "POST /v1/stream": Known("generate", {"prompt": "a", "max_new_tokens": 2}),
    "POST /v1/chat/completions": Known("generate", {"messages": HELLO, "max_tokens": 2}),
    "POST /v1/completions": Known("generate", {"prompt": "a", "max_tokens": 2}),
    "POST /v1/embeddings": Known("generate", {"input": "some words"}),
    "POST /v1/admin/keys": Known("admin", {"user_id": "ann", "scopes": ["generate"]}),
    "GET /v1/admin/keys": Known("admin"),
    "GET /v1/admin/keys/{key_id}": Known("admin", missing=("key_none", "x" * 300)),
    "PATCH /v1/admin/keys/{key_id}": Known("admin", {"description": "changed"}, missing=("key_none",)),
    "POST /v1/admin/keys/{key_id}/rotate": Known("admin", {"overlap_s": 0}, missing=("key_none",)),
    "DELETE /v1/admin/keys/{key_id}": Known("admin", missing=("key_none",)),
    "GET /v1/admin/tenants": Known("admin"),
    "GET /v1/admin/tenants/{name}": Known("admin", missing=("nobody",)),
    "PUT /v1/admin/tenants/{name}": Known("admin", {"limits": {"requests": 1000}}, missing=()),
    "PATCH /v1/admin/tenants/{name}": Known("admin", {"limits": {"requests": 1000}}, missing=("nobody",)),
    "DELETE /v1/admin/tenants/{name}": Known("admin", missing=("nobody",)),
    "GET /v1/admin/usage": Known("admin", missing=()),
    "GET /v1/admin/logs": Known("admin", missing=()),
    "GET /v1/admin/stats": Known("admin", missing=()),
    "GET /v1/me/usage": Known(ANY),
}
