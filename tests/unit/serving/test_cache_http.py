"""Answers that were computed before: hits, whom they belong to, what the caller can say about it, single flight."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.serving.yard import ANSWER, MODEL, RUN, Yard, events
from trainyard.core import errors
from trainyard.engine import calls, types
from trainyard.testing import run_specs

DATUM = types.Datum(tokens=types.int32([1]), targets=types.int32([2]), weights=types.float32([1.0]))
GREEDY: dict[str, Any] = {"prompt": "hi", "temperature": 0}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def generated(yard: Yard) -> int:
    return sum(isinstance(call, calls.Generate) for call in yard.engine.seen)


def charged(yard: Yard) -> list[tuple[bool, int, int, str]]:
    return [
        (one.job.cached, one.used.prompt_tokens, one.used.completion_tokens, one.used.outcome)
        for one in yard.meter.settled
        if one.used is not None
    ]


async def ask(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> tuple[Any, str]:
    answer = await client.post("/v1/generate", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["cached"], answer.headers["x-trainyard-cache"]


async def test_the_same_question_is_computed_once(yard: Yard, client: httpx.AsyncClient) -> None:
    assert await ask(client, GREEDY) == (False, "miss")
    answer = await client.post("/v1/generate", json=GREEDY)
    assert answer.json() == {"model": MODEL, "output": ANSWER, "cached": True}
    assert answer.headers["x-trainyard-cache"] == "hit"
    assert generated(yard) == 1
    assert charged(yard) == [(False, 2, 15, "done"), (True, 2, 15, "done")]


@pytest.mark.parametrize(
    "change",
    [{"prompt": "ho"}, {"max_new_tokens": 9}, {"top_p": 0.5}, {"stop": "x"}, {"seed": 3}, {"model": "yard/plain"}],
)
async def test_another_question_is_computed(yard: Yard, client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    await ask(client, GREEDY)
    assert await ask(client, {**GREEDY, **change}) == (False, "miss")
    assert generated(yard) == 2


@pytest.mark.parametrize(
    ("body", "first", "second"),
    [
        ({"prompt": "a"}, "bypass", "bypass"),
        ({"prompt": "a", "seed": 1}, "miss", "hit"),
        ({"prompt": "a", "cache": True}, "miss", "hit"),
        ({"prompt": "a", "temperature": 0, "cache": False}, "bypass", "bypass"),
    ],
    ids=["drawn by chance", "from a seed", "asked for", "refused"],
)
async def test_deterministic_answers_are_kept_and_others_when_asked(
    client: httpx.AsyncClient, body: dict[str, Any], first: str, second: str
) -> None:
    assert [(await ask(client, body))[1] for _ in range(2)] == [first, second]


@pytest.mark.parametrize(
    ("header", "second", "third"),
    [
        ("no-store", "bypass", "hit"),
        ("no-cache", "miss", "hit"),
        ("max-age=0", "miss", "hit"),
        ("max-age=3600", "hit", "hit"),
        ("no-transform", "hit", "hit"),
    ],
)
async def test_the_header_says_whether_a_kept_answer_is_good_enough(
    yard: Yard, client: httpx.AsyncClient, header: str, second: str, third: str
) -> None:
    await ask(client, GREEDY)
    assert (await ask(client, GREEDY, **{"cache-control": header}))[1] == second
    assert (await ask(client, GREEDY))[1] == third


async def test_no_cache_puts_the_new_answer_in_place_of_the_old_one(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, GREEDY)
    yard.engine._fake._script = None  # the model draws something else from now on
    fresh = (await client.post("/v1/generate", json=GREEDY, headers={"cache-control": "no-cache"})).json()["output"]
    assert fresh != ANSWER
    assert (await client.post("/v1/generate", json=GREEDY)).json() == {"model": MODEL, "output": fresh, "cached": True}


async def test_an_answer_that_is_too_old_for_the_caller_is_made_anew(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, GREEDY)
    yard.clock.advance(11)
    assert (await ask(client, GREEDY, **{"cache-control": "max-age=10"}))[1] == "miss"
    assert (await ask(client, GREEDY, **{"cache-control": "max-age=10"}))[1] == "hit"


async def test_max_age_is_a_number(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/generate", json=GREEDY, headers={"cache-control": "max-age=soon"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "Cache-Control")


async def test_an_answer_is_forgotten_after_its_time(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, GREEDY)
    yard.clock.advance(yard.settings.cache.ttl_s)
    assert await ask(client, GREEDY) == (False, "miss")


async def test_tenants_know_nothing_of_each_other(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, GREEDY)
    stranger = await yard.client("zoe", tenant="elsewhere")
    assert await ask(stranger, GREEDY) == (False, "miss")
    colleague = await yard.client("bob")
    assert await ask(colleague, GREEDY) == (True, "hit")


async def test_dialects_share_answers(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json={**GREEDY, "max_new_tokens": 30})
    answer = await client.post("/v1/completions", json={**GREEDY, "model": MODEL, "max_tokens": 30})
    assert answer.headers["x-trainyard-cache"] == "hit"
    assert answer.json()["choices"][0]["text"] == ANSWER
    assert answer.json()["usage"]["total_tokens"] == 17


@pytest.mark.parametrize("first_streams", [False, True])
async def test_a_hit_is_replayed_as_a_stream_of_the_same_shape(
    yard: Yard, client: httpx.AsyncClient, first_streams: bool
) -> None:
    body = {**CHAT, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    plain = {name: value for name, value in body.items() if not name.startswith("stream")}
    first = await client.post("/v1/chat/completions", json=body if first_streams else plain)
    assert (first.status_code, generated(yard)) == (200, 2)
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        seen = [event async for event in events(answer)]
    assert (generated(yard), answer.headers["x-trainyard-cache"]) == (2, "hit")
    assert seen.pop() == "[DONE]"
    usage = seen.pop()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (20, 30)
    for index in (0, 1):
        mine = [event["choices"][0] for event in seen if event["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in mine) == ANSWER
        assert mine[-1]["finish_reason"] == "stop"


async def test_the_next_step_of_a_run_never_hits_an_old_answer(
    yard: Yard, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await yard.engine.open_run(run_specs.make(RUN.run_id, tmp_path / "state"))
    body = {**GREEDY, "model": RUN.name}
    yard.adapters.adapters = [replace(RUN, step=0)]
    assert [(await ask(client, body))[1] for _ in range(2)] == ["miss", "hit"]
    await yard.engine.forward_backward(RUN.run_id, [DATUM], accumulate=False)
    await yard.engine.optim_step(RUN.run_id)
    assert (await ask(client, body))[1] == "hit"  # asked as step 0, which the catalog still names
    yard.adapters.adapters = [replace(RUN, step=1)]
    assert [(await ask(client, body))[1] for _ in range(2)] == ["miss", "hit"]


async def test_an_answer_is_kept_for_the_weights_that_made_it(
    yard: Yard, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The engine is at step 0 while the catalog says 1: the answer belongs to step 0."""
    await yard.engine.open_run(run_specs.make(RUN.run_id, tmp_path / "state"))
    body = {**GREEDY, "model": RUN.name}
    yard.adapters.adapters = [replace(RUN, step=1)]
    assert [(await ask(client, body))[1] for _ in range(2)] == ["miss", "miss"]
    yard.adapters.adapters = [replace(RUN, step=0)]
    assert (await ask(client, body))[1] == "hit"


async def test_a_run_that_was_rolled_back_has_other_weights_at_the_same_step(
    yard: Yard, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    spec = run_specs.make(RUN.run_id, tmp_path / "state")
    await yard.engine.open_run(spec)
    yard.adapters.adapters = [replace(RUN, step=0)]
    body = {**GREEDY, "model": RUN.name}
    await ask(client, body)
    yard.engine.die()
    await yard.engine.open_run(spec)
    assert (await ask(client, body))[1] == "miss"


async def test_a_cache_that_is_switched_off_keeps_nothing(yard: Yard) -> None:
    yard.settings = yard.settings.model_copy(
        update={"cache": yard.settings.cache.model_copy(update={"enabled": False})}
    )
    client = await yard.client(app=yard.app())
    assert [await ask(client, GREEDY) for _ in range(2)] == [(False, "bypass")] * 2


# ---------------------------------------------------------------- single flight
async def test_a_hundred_equal_misses_are_one_generation(yard: Yard) -> None:
    yard.engine = yard.new_engine(ANSWER, token_s=0.003)
    client = await yard.client(app=yard.app())
    bodies = [{**CHAT, "stream": True} if number % 4 == 0 else CHAT for number in range(100)]
    answers = await asyncio.gather(*[client.post("/v1/chat/completions", json=body) for body in bodies])
    assert generated(yard) == 1
    for answer, body in zip(answers, bodies, strict=True):
        assert answer.status_code == 200
        assert said(answer, body) == ANSWER
    origins = [answer.headers["x-trainyard-cache"] for answer in answers]
    assert origins.count("miss") == 1
    assert set(origins) <= {"miss", "joined", "hit"}
    assert len(yard.meter.opened) == 100
    assert sorted(charged(yard)) == [(False, 20, 15, "done")] + [(True, 20, 15, "done")] * 99


def said(answer: httpx.Response, body: dict[str, Any]) -> str:
    if not body.get("stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines)


async def test_an_error_goes_to_all_who_wait_and_nobody_pays(yard: Yard) -> None:
    yard.engine = yard.new_engine(ANSWER, latency_s=0.02)
    client = await yard.client(app=yard.app())
    await client.post("/v1/generate", json={"prompt": "warm up"})
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting", retry_after_s=2.0))
    answers = await asyncio.gather(*[client.post("/v1/generate", json=GREEDY) for _ in range(10)])
    assert [answer.status_code for answer in answers] == [503] * 10
    assert len(charged(yard)) == 1  # the warm-up
    assert yard.meter.running == []
    assert (await ask(client, GREEDY))[1] == "miss"


async def test_the_first_ones_limits_are_not_the_others(yard: Yard) -> None:
    client = await yard.client(app=yard.app())
    yard.meter.refusals = [errors.LimitReached("slow down")]
    answers = await asyncio.gather(*[client.post("/v1/generate", json=GREEDY) for _ in range(5)])
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 429]
    assert generated(yard) == 1


async def test_a_prompt_that_does_not_fit_is_told_to_all(yard: Yard, client: httpx.AsyncClient) -> None:
    body = {"prompt": "x" * 100, "temperature": 0}
    answers = await asyncio.gather(*[client.post("/v1/generate", json=body) for _ in range(3)])
    assert [answer.json()["code"] for answer in answers] == ["context_length_exceeded"] * 3
    assert yard.meter.opened == []
