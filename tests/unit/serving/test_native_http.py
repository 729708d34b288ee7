"""The native routes: parameters, batches, streams, and who pays for what when callers leave."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.unit.serving.test_http import leave_after
from tests.unit.serving.yard import ANSWER, CONTEXT, MODEL, Yard, events
from trainyard.core import errors
from trainyard.core.clock import SystemClock
from trainyard.engine import calls
from trainyard.engine.types import Grammar

GREEDY: dict[str, Any] = {"prompt": "hi", "temperature": 0}


def sampled(yard: Yard) -> list[Any]:
    return [call.request for call in yard.engine.seen if isinstance(call, calls.Generate)]


def charged(yard: Yard) -> list[tuple[int, int, str]]:
    return [
        (one.used.prompt_tokens, one.used.completion_tokens, one.used.outcome)
        for one in yard.meter.settled
        if one.used is not None
    ]


# ---------------------------------------------------------------- parameters
async def test_every_parameter_reaches_the_engine(yard: Yard, client: httpx.AsyncClient) -> None:
    body = {"prompt": "a", "min_p": 0.1, "presence_penalty": -1, "frequency_penalty": 1.5, "top_k": 4, "top_p": 0.9}
    await client.post("/v1/generate", json=body)
    sampling = sampled(yard)[0].sampling
    assert (sampling.min_p, sampling.presence_penalty, sampling.frequency_penalty) == (0.1, -1, 1.5)
    assert (sampling.top_k, sampling.top_p, sampling.temperature) == (4, 0.9, 1.0)
    assert sampled(yard)[0].prefix_scope == "default"
    assert sampled(yard)[0].timeout_s <= 60.0


@pytest.mark.parametrize(
    ("field", "value", "grammar"),
    [
        ("regex", "[0-9]+", Grammar(kind="regex", text="[0-9]+")),
        ("grammar", 'start: "a"', Grammar(kind="lark", text='start: "a"')),
        ("json_schema", {"type": "null"}, Grammar(kind="json_schema", text='{"type":"null"}')),
    ],
)
async def test_one_form_of_the_answer_reaches_the_engine(
    yard: Yard, client: httpx.AsyncClient, field: str, value: Any, grammar: Grammar
) -> None:
    assert (await client.post("/v1/generate", json={"prompt": "a", field: value})).status_code == 200
    assert sampled(yard)[0].sampling.grammar == grammar


async def test_two_forms_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "a", "regex": "a", "grammar": "start: x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "json_schema")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_p", 1.1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("top_k", -1),
        ("regex", ""),
        ("json_schema", "{}"),
        ("cache", "yes"),
        ("max_new_tokens", 0),
        ("temperature", 2.1),
        ("seed", -1),
    ],
)
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/generate/batch", "/v1/stream"])
async def test_what_is_out_of_bounds_is_refused_by_name(
    client: httpx.AsyncClient, path: str, field: str, value: Any
) -> None:
    prompt = {"prompts": ["a"]} if path.endswith("batch") else {"prompt": "a"}
    answer = await client.post(path, json={**prompt, field: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, field)


# ---------------------------------------------------------------- streams
async def test_a_stream_is_text_then_counts_then_done(yard: Yard, client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/v1/stream", json={"prompt": "hi"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-trainyard-cache"] == "bypass"
        seen = [event async for event in events(answer)]
    assert seen.pop() == "[DONE]"
    last = seen.pop()
    assert last == {
        "model": MODEL,
        "cached": False,
        "usage": {"prompt_tokens": 2, "completion_tokens": 15, "cached_tokens": 0},
    }
    assert "".join(event["text"] for event in seen) == ANSWER
    assert [event.get("finish_reason") for event in seen][-1] == "stop"
    assert charged(yard) == [(2, 15, "done")]


async def test_a_kept_stream_is_one_event_of_text(client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json=GREEDY)
    async with client.stream("POST", "/v1/stream", json=GREEDY) as answer:
        seen = [event async for event in events(answer)]
    assert seen[0] == {"text": ANSWER, "finish_reason": "stop"}
    assert seen[1]["cached"] is True
    assert seen[2:] == ["[DONE]"]


async def test_what_a_broken_stream_has_delivered_is_paid_for(yard: Yard, client: httpx.AsyncClient) -> None:
    yard.engine.die_after_tokens(4)
    async with client.stream("POST", "/v1/stream", json={"prompt": "hi"}) as answer:
        seen = [event async for event in events(answer)]
    assert seen[-1]["error"]["code"] == "engine_restarting"
    assert seen[-1]["code"] == "engine_restarting"  # the native shape
    assert "[DONE]" not in seen
    assert charged(yard) == [(2, 4, "failed")]


async def test_a_stream_that_fails_before_its_first_text_has_a_status_and_costs_nothing(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/generate", json={"prompt": "warm up"})
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    answer = await client.post("/v1/stream", json={"prompt": "hi"})
    assert (answer.status_code, answer.json()["code"]) == (503, "engine_restarting")
    assert len(charged(yard)) == 1
    assert yard.meter.opened[-1].is_refunded


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/generate"])
@pytest.mark.parametrize("temperature", [0, 1])
async def test_who_leaves_frees_the_engine_and_pays_for_what_was_drawn(
    yard: Yard, path: str, temperature: float
) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.02)
    app = yard.app(clock=SystemClock())
    client = await yard.client(app=app)
    body = {"prompt": "hi", "temperature": temperature}
    await leave_after(app, path, body, client.headers["authorization"], 0.15)
    assert (await yard.engine.stats()).active_streams == 0
    ((prompt, completion, outcome),) = charged(yard)
    assert (prompt, outcome) == (2, "cancelled")
    assert 1 <= completion < 30
    assert yard.meter.running == []


async def test_the_first_ones_leaving_does_not_end_what_others_wait_for(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 30, token_s=0.01)
    app = yard.app(clock=SystemClock())
    client = await yard.client(app=app)
    body = {"prompt": "hi", "temperature": 0, "max_new_tokens": 20}
    leaving = asyncio.create_task(leave_after(app, "/v1/stream", body, client.headers["authorization"], 0.1))
    await asyncio.sleep(0.05)
    answer = await client.post("/v1/generate", json=body)
    await leaving
    assert answer.json() == {"model": MODEL, "output": "x" * 20, "cached": True}
    assert len(sampled(yard)) == 1
    assert sorted(charged(yard)) == [(2, 20, "cancelled"), (2, 20, "done")]
    assert [one.job.cached for one in yard.meter.opened] == [False, True]


async def test_when_all_have_left_the_work_ends(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.02)
    app = yard.app(clock=SystemClock())
    client = await yard.client(app=app)
    key = client.headers["authorization"]
    await asyncio.gather(
        leave_after(app, "/v1/stream", GREEDY, key, 0.1), leave_after(app, "/v1/generate", GREEDY, key, 0.2)
    )
    assert (await yard.engine.stats()).active_streams == 0
    assert yard.meter.running == []
    assert len(charged(yard)) == 2


# ---------------------------------------------------------------- batches
async def batch(client: httpx.AsyncClient, prompts: list[str], **more: Any) -> httpx.Response:
    return await client.post("/v1/generate/batch", json={"prompts": prompts, **more})


async def test_a_batch_answers_in_order_and_is_one_request(yard: Yard, client: httpx.AsyncClient) -> None:
    answer = (await batch(client, ["one two", "three"], model="yard/parrot")).json()
    assert answer == {
        "model": "yard/parrot",
        "results": [result("one two", 2, 2), result("three", 1, 1)],
    }
    (charge,) = yard.meter.settled
    assert (charge.job.route, charge.job.cached, charge.job.prompt_tokens) == ("/v1/generate/batch", False, 3)
    assert charged(yard) == [(3, 3, "done")]


def result(output: str, prompt: int, completion: int, *, cached: bool = False) -> dict[str, Any]:
    return {
        "output": output,
        "cached": cached,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "finish_reason": "stop",
        "error": None,
    }


async def test_kept_and_repeated_prompts_of_a_batch_are_free(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json={"prompt": "kept", "model": "yard/parrot", "temperature": 0})
    answer = await batch(client, ["new one", "kept", "new one"], model="yard/parrot", temperature=0)
    assert answer.json()["results"] == [
        result("new one", 2, 2),
        result("kept", 1, 1, cached=True),
        result("new one", 2, 2, cached=True),
    ]
    used = yard.meter.settled[-1].used
    assert used is not None
    assert (used.prompt_tokens, used.free_prompt_tokens) == (5, 3)
    assert (used.completion_tokens, used.free_completion_tokens) == (5, 3)
    assert yard.meter.settled[-1].job.prompt_tokens == 2


async def test_a_batch_that_is_all_kept_takes_no_tokens(yard: Yard, client: httpx.AsyncClient) -> None:
    await batch(client, ["a", "b"], model="yard/parrot", temperature=0)
    answer = await batch(client, ["b", "a"], model="yard/parrot", temperature=0)
    assert [one["cached"] for one in answer.json()["results"]] == [True, True]
    assert yard.meter.settled[-1].job.cached is True


async def test_what_a_batch_made_is_kept_for_others(client: httpx.AsyncClient) -> None:
    await batch(client, ["a", "b"], model="yard/parrot", temperature=0)
    answer = await client.post("/v1/generate", json={"prompt": "b", "model": "yard/parrot", "temperature": 0})
    assert answer.json()["cached"] is True


async def test_one_prompt_that_does_not_fit_refuses_the_batch_before_any_work(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    answer = await batch(client, ["a", "x" * CONTEXT])
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "prompts[1]")
    assert yard.meter.opened == []
    assert sampled(yard) == []


async def test_one_prompt_that_fails_is_told_beside_the_others(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json={"prompt": "warm up"})
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    results = (await batch(client, ["a", "bc"])).json()["results"]
    assert [one["output"] for one in results] == ["", ANSWER]
    assert results[0]["error"] == {"code": "engine_restarting", "message": "away"}
    assert charged(yard)[-1] == (2, 15, "done")


async def test_a_batch_of_which_nothing_came_is_an_error_and_free(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json={"prompt": "warm up"})
    for _ in range(2):
        yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    answer = await batch(client, ["a", "b"])
    assert (answer.status_code, answer.json()["code"]) == (503, "engine_restarting")
    assert yard.meter.opened[-1].is_refunded


async def test_a_batch_that_is_not_let_in_leaves_nothing_behind(yard: Yard, client: httpx.AsyncClient) -> None:
    yard.meter.refusals = [errors.LimitReached("slow down")]
    assert (await batch(client, ["a", "b"], temperature=0)).status_code == 429
    assert (await batch(client, ["a", "b"], temperature=0)).status_code == 200
    assert len(sampled(yard)) == 2


async def test_a_batch_joins_work_that_runs(yard: Yard) -> None:
    yard.engine = yard.new_engine(ANSWER, token_s=0.01)
    client = await yard.client(app=yard.app())
    single = asyncio.create_task(client.post("/v1/generate", json=GREEDY))
    await asyncio.sleep(0.05)
    results = (await batch(client, ["hi", "ho"], temperature=0)).json()["results"]
    await single
    assert [one["cached"] for one in results] == [True, False]
    assert len(sampled(yard)) == 2


async def test_who_leaves_a_batch_pays_for_what_was_drawn(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.02)
    app = yard.app(clock=SystemClock())
    client = await yard.client(app=app)
    body = {"prompts": ["a", "b", "c"]}
    await leave_after(app, "/v1/generate/batch", body, client.headers["authorization"], 0.15)
    assert (await yard.engine.stats()).active_streams == 0
    ((prompt, completion, outcome),) = charged(yard)
    assert (prompt, outcome) == (3, "cancelled")
    assert 3 <= completion < 90


@pytest.mark.parametrize("prompts", [[], ["a"] * 65, [""], "a"])
async def test_a_batch_has_1_to_64_texts(client: httpx.AsyncClient, prompts: Any) -> None:
    assert (await batch(client, prompts)).status_code == 422


async def test_a_batch_of_sixty_four_is_answered(yard: Yard, client: httpx.AsyncClient) -> None:
    answer = await batch(client, [f"{number}" for number in range(64)])
    assert [one["output"] for one in answer.json()["results"]] == [ANSWER] * 64
    assert json.loads(answer.text)["results"][0]["finish_reason"] == "stop"
