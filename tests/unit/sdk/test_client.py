"""Every verb of both clients: what goes over the wire, and what comes back."""

from typing import Any

import httpx
import pytest

from tests.unit.sdk.wire import KEY, Wire, asynchronous, blocking, events
from trainyard.sdk import AsyncRun, NotFoundError, Run

RUN = "run_0123456789abcdef"
STATUS = {"run_id": RUN, "status": "active", "current_step": 3, "config": {"lora_r": 8}}
MESSAGES = [{"role": "user", "content": "hello"}]

Case = tuple[str, tuple[Any, ...], dict[str, Any], str, Any, Any, Any]

# verb, arguments, keyword arguments, request line, body, answer, result
VERBS: list[Case] = [
    ("models", (), {}, "GET /models", None, {"models": ["a/b"]}, ["a/b"]),
    ("list_models", (), {}, "GET /models", None, {"models": ["a/b"]}, ["a/b"]),
    ("list_runs", (), {}, "GET /runs", None, {"runs": [STATUS]}, [STATUS]),
    ("get_run_status", (RUN,), {}, f"GET /runs/{RUN}/status", None, STATUS, STATUS),
    ("get_run_metrics", (RUN,), {}, f"GET /runs/{RUN}/metrics", None, {"metrics": []}, {"metrics": []}),
    ("list_artifacts", (RUN,), {}, f"GET /runs/{RUN}/artifacts", None, [{"id": "art_1"}], [{"id": "art_1"}]),
    (
        "forward_backward", (RUN, [{"text": "a"}]), {"accumulate": True},
        f"POST /runs/{RUN}/forward_backward",
        {"batch_data": [{"text": "a"}], "accumulate": True, "loss_fn": "causal_lm"}, {"loss": 2.5}, {"loss": 2.5},
    ),
    ("optim_step", (RUN,), {}, f"POST /runs/{RUN}/optim_step", {}, {"step": 1}, {"step": 1}),
    (
        "optim_step", (RUN,), {"learning_rate": 0.5},
        f"POST /runs/{RUN}/optim_step", {"learning_rate": 0.5}, {"step": 1}, {"step": 1},
    ),
    (
        "sample", (RUN, ["once"]), {"max_tokens": 4, "temperature": 0.0, "return_logprobs": True, "seed": 1},
        f"POST /runs/{RUN}/sample",
        {"prompts": ["once"], "max_tokens": 4, "temperature": 0.0, "return_logprobs": True, "seed": 1},
        {"outputs": ["upon"]}, {"outputs": ["upon"]},
    ),
    (
        "embeddings", (RUN, ("a", "b")), {"layer": 0, "pooling": "last_token"},
        f"POST /runs/{RUN}/embeddings", {"texts": ["a", "b"], "layer": 0, "pooling": "last_token"},
        {"embeddings": [[1.0]], "dimensions": 1}, {"embeddings": [[1.0]], "dimensions": 1},
    ),
    (
        "save_state", (RUN, "merged"), {},
        f"POST /runs/{RUN}/save_state", {"mode": "merged"}, {"local_path": "/x"}, {"local_path": "/x"},
    ),
    (
        "tokenize", (RUN, "a b"), {},
        f"POST /runs/{RUN}/tokenize", {"text": "a b", "add_special_tokens": True}, {"tokens": []}, {"tokens": []},
    ),
    (
        "tokenize", (RUN, ("a", "b")), {"add_special_tokens": False},
        f"POST /runs/{RUN}/tokenize", {"text": ["a", "b"], "add_special_tokens": False}, {"tokens": []}, {"tokens": []},
    ),
    ("detokenize", (RUN, [1]), {}, f"POST /runs/{RUN}/detokenize", {"token_ids": [1]}, {"text": "a"}, {"text": "a"}),
    ("get_tokenizer_info", (RUN,), {}, f"GET /runs/{RUN}/tokenizer_info", None, {"vocab_size": 9}, {"vocab_size": 9}),
    ("get_model_info", (RUN,), {}, f"GET /runs/{RUN}/model_info", None, {"num_layers": 2}, {"num_layers": 2}),
    (
        "apply_chat_template", (RUN, MESSAGES), {"add_generation_prompt": True},
        f"POST /runs/{RUN}/apply_chat_template",
        {"messages": MESSAGES, "add_generation_prompt": True}, {"text": "x"}, {"text": "x"},
    ),
    ("complete", (RUN,), {}, f"POST /runs/{RUN}/complete", None, {"success": True}, {"success": True}),
    ("served_models", (), {}, "GET /v1/models", None, {"data": [{"id": "a/b"}]}, [{"id": "a/b"}]),
    (
        "generate", ("once",), {"model": "a/b", "max_new_tokens": 3, "stop": ("\n",)},
        "POST /v1/generate", {"prompt": "once", "model": "a/b", "max_new_tokens": 3, "stop": ["\n"]},
        {"model": "a/b", "output": "x", "cached": False}, {"model": "a/b", "output": "x", "cached": False},
    ),
    (
        "generate", ("once",), {"seed": 1, "min_p": 0.1, "json_schema": {"type": "null"}, "cache": False},
        "POST /v1/generate",
        {"prompt": "once", "seed": 1, "min_p": 0.1, "json_schema": {"type": "null"}, "cache": False},
        {"model": "a/b", "output": "null", "cached": False}, {"model": "a/b", "output": "null", "cached": False},
    ),
    (
        "generate_batch", (("a", "b"),), {"model": "a/b", "max_new_tokens": 3, "stop": ["x"]},
        "POST /v1/generate/batch", {"prompts": ["a", "b"], "model": "a/b", "max_new_tokens": 3, "stop": ["x"]},
        {"model": "a/b", "results": [{"output": "x"}]}, {"model": "a/b", "results": [{"output": "x"}]},
    ),
    (
        "chat", (MESSAGES,), {"model": "a/b", "temperature": 0},
        "POST /v1/chat/completions", {"model": "a/b", "temperature": 0, "messages": MESSAGES},
        {"choices": [{"message": {"content": "hi"}}]}, {"choices": [{"message": {"content": "hi"}}]},
    ),
    (
        "embed", (("a", "b"),), {"model": "m", "dimensions": 2},
        "POST /v1/embeddings", {"input": ["a", "b"], "model": "m", "dimensions": 2},
        {"data": [{"embedding": [1.0]}]}, {"data": [{"embedding": [1.0]}]},
    ),
    (
        "chat", (MESSAGES,), {}, "POST /v1/chat/completions", {"messages": MESSAGES},
        {"choices": [{"message": {"content": "hi"}}]}, {"choices": [{"message": {"content": "hi"}}]},
    ),
]  # fmt: skip

# verb, arguments, keyword arguments, path, body, events, items
STREAMS: list[Case] = [
    (
        "sample_stream", (RUN, "once"), {"max_tokens": 2},
        f"/runs/{RUN}/sample/stream", {"prompt": "once", "max_tokens": 2},
        [{"token": "a", "is_finished": False}, {"token": "b", "is_finished": True}],
        [{"token": "a", "is_finished": False}, {"token": "b", "is_finished": True}],
    ),
    (
        "generate_stream", ("once",), {"model": "m", "stop": ["."]},
        "/v1/stream", {"model": "m", "stop": ["."], "prompt": "once"},
        [{"text": "up"}, {"text": "on", "finish_reason": "stop"}, {"model": "m", "usage": {}}], ["up", "on"],
    ),
    (
        "chat_stream", (MESSAGES,), {"model": "m", "seed": 4},
        "/v1/chat/completions", {"model": "m", "seed": 4, "messages": MESSAGES, "stream": True},
        [
            {"choices": [{"delta": {"role": "assistant"}}]},
            {"choices": [{"delta": {"content": "hi"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        ],
        ["hi"],
    ),
]  # fmt: skip

PER_RUN = [case for case in (*VERBS, *STREAMS) if case[1] and case[1][0] == RUN]
RENAMED = {"get_run_status": "get_status", "get_run_metrics": "get_metrics"}


def line_of(wire: Wire) -> str:
    request = wire.requests[-1]
    return f"{request.method} {request.url.raw_path.decode()}"


@pytest.mark.parametrize(("verb", "args", "kwargs", "line", "body", "answer", "result"), VERBS)
def test_a_blocking_verb_sends_its_request_and_reads_the_answer(
    verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], line: str, body: Any, answer: Any, result: Any
) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    with blocking(wire) as client:
        assert getattr(client, verb)(*args, **kwargs) == result
    assert (line_of(wire), wire.body) == (line, body)


@pytest.mark.parametrize(("verb", "args", "kwargs", "line", "body", "answer", "result"), VERBS)
async def test_an_async_verb_sends_the_same(
    verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], line: str, body: Any, answer: Any, result: Any
) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    async with asynchronous(wire) as client:
        assert await getattr(client, verb)(*args, **kwargs) == result
    assert (line_of(wire), wire.body) == (line, body)


@pytest.mark.parametrize(("verb", "args", "kwargs", "path", "body", "payloads", "items"), STREAMS)
def test_a_blocking_stream_yields_the_items_of_its_events(
    verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], path: str, body: Any, payloads: Any, items: Any
) -> None:
    wire = Wire(events(*payloads))
    with blocking(wire) as client:
        assert list(getattr(client, verb)(*args, **kwargs)) == items
    assert (line_of(wire), wire.body) == (f"POST {path}", body)


@pytest.mark.parametrize(("verb", "args", "kwargs", "path", "body", "payloads", "items"), STREAMS)
async def test_an_async_stream_yields_the_same(
    verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], path: str, body: Any, payloads: Any, items: Any
) -> None:
    wire = Wire(events(*payloads))
    async with asynchronous(wire) as client:
        assert [item async for item in getattr(client, verb)(*args, **kwargs)] == items
    assert (line_of(wire), wire.body) == (f"POST {path}", body)


@pytest.mark.parametrize("case", PER_RUN, ids=lambda case: case[0])
def test_a_run_has_the_verb_without_its_id(case: Case) -> None:
    verb, args, kwargs, line, body, answer, result = case
    is_stream = "stream" in verb
    wire = Wire(events(*answer) if is_stream else httpx.Response(200, json=answer))
    with blocking(wire) as client:
        found = getattr(Run(client, RUN), RENAMED.get(verb, verb))(*args[1:], **kwargs)
        assert (list(found) if is_stream else found) == result
    assert (line_of(wire).endswith(line), wire.body) == (True, body)


@pytest.mark.parametrize("case", PER_RUN, ids=lambda case: case[0])
async def test_an_async_run_has_it_too(case: Case) -> None:
    verb, args, kwargs, line, body, answer, result = case
    is_stream = "stream" in verb
    wire = Wire(events(*answer) if is_stream else httpx.Response(200, json=answer))
    async with asynchronous(wire) as client:
        found = getattr(AsyncRun(client, RUN), RENAMED.get(verb, verb))(*args[1:], **kwargs)
        assert ([item async for item in found] if is_stream else await found) == result
    assert (line_of(wire).endswith(line), wire.body) == (True, body)


def test_create_run_sends_what_was_given_and_returns_a_run() -> None:
    wire = Wire(httpx.Response(201, json=STATUS))
    with blocking(wire) as client:
        run = client.create_run("a/b", lora_r=8, lora_target_modules=("q_proj",), bf16=False)
    assert wire.body == {"base_model": "a/b", "lora_r": 8, "lora_target_modules": ["q_proj"], "bf16": False}
    assert (run.run_id, run.config.lora_r, repr(run)) == (RUN, 8, f"Run('{RUN}')")


async def test_the_async_client_creates_runs_too() -> None:
    wire = Wire(httpx.Response(201, json=STATUS))
    async with asynchronous(wire) as client:
        run = await client.create_run("a/b")
    assert (run.run_id, run.config.lora_r, repr(run)) == (RUN, 8, f"AsyncRun('{RUN}')")


def test_runs_is_the_collection_of_runs() -> None:
    with blocking(Wire(httpx.Response(200, json=STATUS))) as client:
        assert client.runs.get(RUN).config == {"lora_r": 8}
        assert client.runs.create("a/b").run_id == RUN
    with blocking(Wire(httpx.Response(200, json={"runs": [STATUS]}))) as client:
        assert client.runs.list()[0].current_step == 3


async def test_runs_of_the_async_client_are_awaited() -> None:
    async with asynchronous(Wire(httpx.Response(200, json=STATUS))) as client:
        assert (await client.runs.get(RUN)).config == {"lora_r": 8}
        assert (await client.runs.create("a/b")).run_id == RUN
    async with asynchronous(Wire(httpx.Response(200, json={"runs": [STATUS]}))) as client:
        assert (await client.runs.list())[0].current_step == 3


def test_the_key_and_the_address_are_as_given() -> None:
    wire = Wire(httpx.Response(200, json={"models": []}))
    with blocking(wire) as client:
        client.base_url = client.base_url.rstrip("/")
        client.models()
        assert (client.api_key, client.base_url) == (KEY, "http://yard.test")
    assert wire.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_text_of_a_chat_is_what_the_assistant_said() -> None:
    with blocking(Wire(httpx.Response(200, json={"choices": [{"message": {"content": "hi"}}]}))) as client:
        assert client.chat(MESSAGES, model="m").text == "hi"


def test_a_verb_seen_from_the_class_is_its_builder() -> None:
    from trainyard.sdk import Client

    call = Client.optim_step(RUN, learning_rate=0.1)
    assert (call.method, call.path, call.body) == ("POST", f"/runs/{RUN}/optim_step", {"learning_rate": 0.1})
    assert Client.optim_step.__doc__ == "Apply and clear the gradients held; learning_rate is for this one step."


def test_a_refused_stream_raises_before_its_first_item() -> None:
    refusal = httpx.Response(404, json={"error": "no such run"})
    with blocking(Wire(refusal)) as client, pytest.raises(NotFoundError, match=r"^\[404\] no such run$"):
        next(client.sample_stream(RUN, "once"))


async def test_a_refused_async_stream_raises_too() -> None:
    async with asynchronous(Wire(httpx.Response(404, json={"error": "no such run"}))) as client:
        with pytest.raises(NotFoundError, match="no such run"):
            await anext(client.sample_stream(RUN, "once"))


@pytest.mark.parametrize(
    ("verb", "argument", "answer"),
    [("generate", "once", {"output": "x"}), ("generate_batch", ["once"], {"results": []})],
)
def test_an_idempotency_key_goes_into_its_header(verb: str, argument: Any, answer: Any) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    with blocking(wire) as client:
        getattr(client, verb)(argument, idempotency_key="order-1")
        assert wire.requests[-1].headers["idempotency-key"] == "order-1"
        getattr(client, verb)(argument)
        assert "idempotency-key" not in wire.requests[-1].headers


async def test_a_stream_can_have_an_idempotency_key_too() -> None:
    wire = Wire(httpx.Response(200, text="data: [DONE]\n\n"))
    async with asynchronous(wire) as client:
        assert [piece async for piece in client.generate_stream("once", idempotency_key="order-1")] == []
    assert wire.requests[-1].headers["idempotency-key"] == "order-1"
