"""Signal's routes in process, over the fake engine: each route, who may call it, and what it answers."""

import asyncio
import io
import json
import tarfile

import httpx
import pytest

from tests.unit.training.yard import CONTEXT, MODEL, Yard
from trainyard.core import errors

BATCH = {"batch_data": [{"text": "hello"}]}
CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]

ROUTES: tuple[tuple[str, str, object], ...] = (
    ("GET", "status", None),
    ("GET", "metrics", None),
    ("GET", "artifacts", None),
    ("POST", "forward_backward", BATCH),
    ("POST", "optim_step", {}),
    ("POST", "sample", {"prompts": ["a"], "max_tokens": 1}),
    ("POST", "sample/stream", {"prompt": "a", "max_tokens": 1}),
    ("POST", "embeddings", {"texts": ["a"]}),
    ("POST", "save_state", {}),
    ("POST", "tokenize", {"text": "a"}),
    ("POST", "detokenize", {"token_ids": [64]}),
    ("GET", "tokenizer_info", None),
    ("GET", "model_info", None),
    ("POST", "apply_chat_template", {"messages": CHAT}),
    ("POST", "complete", None),
    ("GET", "artifacts/art_1/download", None),
)
READ_BY_ADMIN = {"status", "metrics", "artifacts", "tokenizer_info", "model_info"}


async def new_run(client: httpx.AsyncClient, **config: object) -> str:
    answer = await client.post("/runs", json={"base_model": MODEL, **config})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run_id"])


async def call(client: httpx.AsyncClient, run_id: str, route: tuple[str, str, object]) -> httpx.Response:
    method, name, body = route
    return await client.request(method, f"/runs/{run_id}/{name}", json=body) if body is not None else (
        await client.request(method, f"/runs/{run_id}/{name}")
    )  # fmt: skip


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


async def test_a_whole_training_goes_through_the_routes(yard: Yard) -> None:
    client = await yard.client()
    created = (await client.post("/runs", json={"base_model": MODEL, "gpu_config": "H100:2"})).json()
    run_id = created["run_id"]
    assert (created["status"], created["user_id"], created["config"]["lora_alpha"]) == ("active", "ann", 64)
    assert created["gpu"]["applied"] is False
    for number in (1, 2, 3):
        first = await client.post(f"/runs/{run_id}/forward_backward", json=BATCH)
        assert set(first.json()) == {
            "loss", "step", "grad_norm", "grad_stats", "request_id", "status", "rl_metrics", "metrics",
        }  # fmt: skip
        second = await client.post(f"/runs/{run_id}/forward_backward", json={**BATCH, "accumulate": True})
        assert second.status_code == 200
        stepped = (await client.post(f"/runs/{run_id}/optim_step", json={})).json()
        assert stepped["step"] == number
    sampled = (await client.post(f"/runs/{run_id}/sample", json={"prompts": ["a", "b"], "max_tokens": 3})).json()
    assert len(sampled["outputs"]) == 2
    saved = (await client.post(f"/runs/{run_id}/save_state", json={"mode": "adapter"})).json()
    assert (saved["name"], saved["pushed_to_hub"]) == ("step_3", False)
    status = (await client.get(f"/runs/{run_id}/status")).json()
    assert (status["current_step"], status["rolled_back"], status["cost_so_far"]) == (3, None, 0.0)
    metrics = (await client.get(f"/runs/{run_id}/metrics")).json()
    assert [entry["step"] for entry in metrics["metrics"]] == [1, 2, 3]
    assert metrics["metrics"][0]["loss"] > metrics["metrics"][2]["loss"]
    done = (await client.post(f"/runs/{run_id}/complete")).json()
    assert (done["success"], done["status"], done["total_cost"]) == (True, "completed", 0.0)
    assert (await client.post(f"/runs/{run_id}/forward_backward", json=BATCH)).status_code == 409


async def test_the_models_are_those_that_can_be_trained(yard: Yard) -> None:
    assert (await (await yard.client()).get("/models")).json() == {"models": [MODEL]}


async def test_runs_are_listed_newest_first_and_for_their_owner_alone(yard: Yard) -> None:
    ann, bob = await yard.client("ann"), await yard.client("bob")
    first = await new_run(ann)
    yard.clock.advance(1)
    second = await new_run(ann)
    await new_run(bob)
    assert [run["run_id"] for run in (await ann.get("/runs")).json()["runs"]] == [second, first]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route[1])
async def test_nobody_gets_to_a_run_of_somebody_else(yard: Yard, route: tuple[str, str, object]) -> None:
    run_id = await new_run(await yard.client("ann"))
    bob = await yard.client("bob")
    foreign = await call(bob, run_id, route)
    unknown = await call(bob, "run_0123456789abcdef", route)
    keyless = await call(await yard.keyless(), run_id, route)
    wrong = await call(await yard.keyless({"Authorization": "Bearer sk-wrong"}), run_id, route)
    scopeless = await call(await yard.client("ann", scopes=("generate",)), run_id, route)
    found = [answer.status_code for answer in (foreign, unknown, keyless, wrong, scopeless)]
    assert found == [403, 404, 401, 401, 403]
    assert "somebody else" in foreign.json()["error"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route[1])
async def test_an_administrator_reads_and_no_more(yard: Yard, route: tuple[str, str, object]) -> None:
    run_id = await new_run(await yard.client("ann"))
    root = await yard.client("root", scopes=("train", "admin"))
    answer = await call(root, run_id, route)
    if route[1] in READ_BY_ADMIN:
        assert answer.status_code == 200
    else:
        assert answer.status_code == (404 if route[1].endswith("download") else 403)


async def test_of_twenty_runs_at_once_exactly_five_are_made(yard: Yard) -> None:
    client = await yard.client()
    answers = await asyncio.gather(*(client.post("/runs", json={"base_model": MODEL}) for _ in range(20)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 5 + [429] * 15
    refused = next(answer for answer in answers if answer.status_code == 429).json()
    assert refused["code"] == "too_many_runs"
    assert len((await client.get("/runs")).json()["runs"]) == 5


async def test_a_completed_run_makes_room_for_another(yard: Yard) -> None:
    client = await yard.client()
    runs = [await new_run(client) for _ in range(5)]
    assert (await client.post("/runs", json={"base_model": MODEL})).status_code == 429
    await client.post(f"/runs/{runs[0]}/complete")
    await new_run(client)


async def test_optim_step_without_gradients_is_409_and_needs_no_body(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    answer = await client.post(f"/runs/{run_id}/optim_step")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_gradients")


async def test_a_crash_of_the_engine_is_503_then_409_once_and_the_status_tells(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    await client.post(f"/runs/{run_id}/forward_backward", json=BATCH)
    yard.engine.fail_next(errors.Unavailable("died", code="engine_restarting", retry_after_s=1))
    away = await client.post(f"/runs/{run_id}/optim_step")
    assert (away.status_code, away.json()["code"], away.headers["retry-after"]) == (503, "engine_restarting", "1")
    yard.engine.die()
    lost = await client.post(f"/runs/{run_id}/optim_step")
    assert (lost.status_code, lost.json()["code"]) == (409, "gradients_lost")
    assert (await client.get(f"/runs/{run_id}/status")).json()["current_step"] == 0
    await client.post(f"/runs/{run_id}/forward_backward", json=BATCH)
    assert (await client.post(f"/runs/{run_id}/optim_step")).json()["step"] == 1


async def test_a_stream_sends_an_event_per_token(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    answer = await client.post(f"/runs/{run_id}/sample/stream", json={"prompt": "ab", "max_tokens": 5})
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer.text)
    assert all(set(event) == {"token", "token_id", "logprob", "is_finished"} for event in found)
    assert len([event for event in found if event["token_id"] is not None]) == 5
    assert [event["is_finished"] for event in found].count(True) == 1
    assert found[-1]["is_finished"]


async def test_a_stream_ends_with_an_error_event_when_the_engine_dies(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    yard.engine.die_after_tokens(3)
    answer = await client.post(f"/runs/{run_id}/sample/stream", json={"prompt": "ab", "max_tokens": 64})
    assert answer.status_code == 200
    last = events(answer.text)[-1]
    assert last["code"] == "engine_restarting"
    assert {"error", "detail", "request_id"} <= set(last)


async def test_a_stream_that_cannot_begin_is_a_plain_error(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting", retry_after_s=1))
    answer = await client.post(f"/runs/{run_id}/sample/stream", json={"prompt": "ab"})
    assert answer.status_code == 503
    long = await client.post(f"/runs/{run_id}/sample/stream", json={"prompt": "a" * CONTEXT})
    assert (long.status_code, long.json()["code"]) == (422, "context_length_exceeded")


async def test_a_reader_that_leaves_frees_its_place_in_the_engine(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    begun = asyncio.Event()
    async with asyncio.timeout(10):
        body = {"prompt": "ab", "max_tokens": 3000}
        await leave(yard, client, f"/runs/{run_id}/sample/stream", body, when=begun, began=begun)
        await until_idle(yard)
    assert (await yard.engine.stats()).sampled_tokens < 3000


async def test_texts_become_vectors_of_the_weights_of_the_moment(yard: Yard) -> None:
    client = await yard.client("ann")
    run_id = await new_run(client)
    body = {"texts": ["a", "bc", "a"], "layer": 1, "pooling": "last_token"}
    before = (await client.post(f"/runs/{run_id}/embeddings", json=body)).json()
    assert (before["dimensions"], before["weights_version"]) == (16, f"{run_id}@0")
    assert [len(vector) for vector in before["embeddings"]] == [16] * 3
    assert before["embeddings"][0] == before["embeddings"][2] != before["embeddings"][1]
    await call(client, run_id, ("POST", "forward_backward", BATCH))
    await call(client, run_id, ("POST", "optim_step", {}))
    after = (await client.post(f"/runs/{run_id}/embeddings", json=body)).json()
    assert after["weights_version"] == f"{run_id}@1"
    assert after["embeddings"] != before["embeddings"]


async def test_a_caller_that_leaves_before_his_samples_are_there_frees_their_places(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    gone = asyncio.Event()
    body = {"prompts": ["ab", "cd", "ef"], "max_tokens": 3000}
    async with asyncio.timeout(10):
        call = asyncio.ensure_future(leave(yard, client, f"/runs/{run_id}/sample", body, when=gone))
        while (await yard.engine.stats()).active_streams < 3:
            pass
        gone.set()
        await call
        await until_idle(yard)
    assert (await yard.engine.stats()).sampled_tokens < 3 * 3000


async def until_idle(yard: Yard) -> None:
    while (await yard.engine.stats()).active_streams:  # each question waits for the compute thread
        pass


async def leave(
    yard: Yard,
    client: httpx.AsyncClient,
    path: str,
    body: object,
    *,
    when: asyncio.Event,
    began: asyncio.Event | None = None,
) -> None:
    """Send a request over plain ASGI and disconnect at an event; `began` is set by the first piece of an answer."""
    sent = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive() -> dict[str, object]:
        if (message := next(sent, None)) is not None:
            return message
        await when.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if began is not None and message["type"] == "http.response.body" and message.get("body"):
            began.set()

    headers = [(b"authorization", client.headers["authorization"].encode()), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("yard", 80), "state": {},
    }  # fmt: skip
    await yard.app(scope, receive, send)  # type: ignore[arg-type]  # ASGI's types are wider than the server's


async def test_a_saved_adapter_is_listed_and_downloaded_by_its_link(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    saved = (await client.post(f"/runs/{run_id}/save_state")).json()
    (listed,) = (await client.get(f"/runs/{run_id}/artifacts")).json()
    assert (listed["id"], listed["mode"], listed["download_count"]) == (saved["artifact_id"], "adapter", 0)
    assert listed["manifest"] == saved["manifest"]
    assert saved["download_url"].startswith(f"http://yard/runs/{run_id}/artifacts/{listed['id']}/download?")
    answer = await client.get(saved["download_url"])
    assert (answer.status_code, int(answer.headers["content-length"])) == (200, len(answer.content))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert sorted(archive.getnames()) == [f"{run_id}-step_0/{name}" for name in sorted(saved["manifest"])]
    (counted,) = (await client.get(f"/runs/{run_id}/artifacts")).json()
    assert counted["download_count"] == 1


async def test_an_owner_downloads_without_a_signature(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    saved = (await client.post(f"/runs/{run_id}/save_state", json={"mode": "merged"})).json()
    assert saved["name"] == "step_0_merged"
    answer = await client.get(f"/runs/{run_id}/artifacts/{saved['artifact_id']}/download")
    assert answer.headers["content-type"] == "application/x-tar"


async def test_a_link_ends_after_an_hour_and_cannot_be_forged(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    link = (await client.post(f"/runs/{run_id}/save_state")).json()["download_url"]
    plain = link.partition("?")[0]
    forged = await client.get(plain, params={"expires": 2**40, "signature": "0" * 64})
    half = await client.get(plain, params={"signature": "0" * 64})
    yard.clock.advance(3600)
    over = await client.get(link)
    assert [forged.status_code, half.status_code, over.status_code] == [403, 422, 403]
    assert [forged.json()["code"], over.json()["code"]] == ["signature_invalid", "link_expired"]


async def test_text_becomes_tokens_and_tokens_text(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    one = (await client.post(f"/runs/{run_id}/tokenize", json={"text": "hé"})).json()
    assert [len(ids) for ids in one["token_ids"]] == [3]  # é is two bytes
    many = (await client.post(f"/runs/{run_id}/tokenize", json={"text": ["a", "bc"]})).json()
    assert many["tokens"] == [["a"], ["b", "c"]]
    back = await client.post(f"/runs/{run_id}/detokenize", json={"token_ids": one["token_ids"][0]})
    assert back.json() == {"text": "hé"}
    nested = await client.post(f"/runs/{run_id}/detokenize", json={"token_ids": many["token_ids"]})
    assert nested.json() == {"text": ["a", "bc"]}
    assert (await client.post(f"/runs/{run_id}/detokenize", json={"token_ids": []})).json() == {"text": ""}


async def test_a_chat_is_rendered_as_the_model_reads_it(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    body = {"messages": CHAT[:1], "add_generation_prompt": True}
    answer = (await client.post(f"/runs/{run_id}/apply_chat_template", json=body)).json()
    assert answer["text"] == "<|im_start|>user\nhi<|im_end|><|im_start|>assistant\n"
    assert len(answer["token_ids"]) == 9 + 1 + 9 + 1


async def test_long_text_is_read_like_short_text(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    text = "ab" * 10_000
    tokens = (await client.post(f"/runs/{run_id}/tokenize", json={"text": ["a", text]})).json()
    assert tokens["token_ids"] == [[64], [64, 65] * 10_000]
    assert tokens["tokens"] == [["a"], ["a", "b"] * 10_000]
    chat = [{"role": "user", "content": text}]
    shown = (await client.post(f"/runs/{run_id}/apply_chat_template", json={"messages": chat})).json()
    assert shown["text"] == f"<|im_start|>user\n{text}<|im_end|>"
    assert len(shown["token_ids"]) == 20_000 + 7
    over = await client.post(f"/runs/{run_id}/sample", json={"prompts": ["a", text], "max_tokens": 1})
    assert (over.status_code, over.json()["code"]) == (422, "context_length_exceeded")
    assert "prompts[1] has 20000 tokens" in over.text


async def test_the_model_and_its_tokenizer_are_described(yard: Yard) -> None:
    client = await yard.client()
    run_id = await new_run(client)
    model = (await client.get(f"/runs/{run_id}/model_info")).json()
    assert (model["base_model"], model["architecture"], model["max_position_embeddings"]) == (MODEL, "fake", CONTEXT)
    assert model["trainable_parameters"] > 0
    assert "im_start" in model["chat_template"]
    tokenizer = (await client.get(f"/runs/{run_id}/tokenizer_info")).json()
    assert (tokenizer["vocab_size"], tokenizer["eos_token_id"], tokenizer["bos_token_id"]) == (260, 259, None)
    await client.post(f"/runs/{run_id}/complete")
    assert (await client.get(f"/runs/{run_id}/model_info")).json()["trainable_parameters"] is None


async def test_users_are_apart_in_numbers_and_in_gradients(yard: Yard) -> None:
    ann, bob = await yard.client("ann"), await yard.client("bob")
    hers, his = await new_run(ann), await new_run(bob)
    await ann.post(f"/runs/{hers}/forward_backward", json=BATCH)
    assert (await bob.post(f"/runs/{his}/optim_step")).status_code == 409
    assert (await ann.post(f"/runs/{hers}/optim_step")).json()["step"] == 1
    assert (await bob.get(f"/runs/{his}/metrics")).json()["metrics"] == []
