"""Requests that come again byte for byte: never another answer than the long way would give."""

import json
from typing import Any

import httpx
import pytest

from tests.unit.serving.yard import ANSWER, MODEL, Yard
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.settings import LogSettings
from trainyard.core.telemetry import Metrics, configure_logging
from trainyard.engine import calls
from trainyard.serving.cache.entry import Entry
from trainyard.serving.hits import Hit
from trainyard.serving.meters import GenerationMetrics
from trainyard.serving.repeats import Repeats, Written
from trainyard.serving.types import Ask, Target

GREEDY: dict[str, Any] = {"prompt": "hi", "temperature": 0}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def generated(yard: Yard) -> int:
    return sum(isinstance(call, calls.Generate) for call in yard.engine.seen)


def remembered(yard: Yard) -> int:
    return len(yard.services[-1].repeating.known._known)


async def ask(client: httpx.AsyncClient, times: int, path: str = "/v1/generate", body: Any = GREEDY) -> list[Any]:
    answers = [await client.post(path, json=body) for _ in range(times)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


async def test_the_third_answer_is_the_second_ones(yard: Yard, client: httpx.AsyncClient) -> None:
    answers = await ask(client, 4)
    assert answers[1:] == [{"model": MODEL, "output": ANSWER, "cached": True}] * 3
    assert (generated(yard), remembered(yard)) == (1, 1)
    assert [one.job.cached for one in yard.meter.settled] == [False, True, True, True]
    assert {one.used.completion_tokens for one in yard.meter.settled if one.used} == {15}


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {**GREEDY, "max_tokens": 30})]
)
async def test_an_answer_with_a_name_and_a_time_gets_its_own_each_time(
    yard: Yard, client: httpx.AsyncClient, path: str, body: Any
) -> None:
    answers = []
    for _ in range(4):
        answers += await ask(client, 1, path, body)
        yard.clock.advance(2)
    assert len({answer.pop("id") for answer in answers}) == 4
    assert [answer.pop("created") for answer in answers] == [1_700_000_000 + 2 * number for number in range(4)]
    assert answers[1] == answers[2] == answers[3]


async def test_everybody_is_charged_for_himself(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3)
    colleague = await yard.client("bob")
    await ask(colleague, 1)
    assert [one.principal.user for one in yard.meter.settled] == ["ann", "ann", "ann", "bob"]


async def test_another_tenant_is_another_question(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3)
    assert [one["cached"] for one in await ask(await yard.client("zoe", tenant="elsewhere"), 2)] == [False, True]


async def test_limits_hold_for_repeats(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3)
    yard.meter.refusals = [errors.LimitReached("slow down")]
    assert (await client.post("/v1/generate", json=GREEDY)).status_code == 429
    assert len(await ask(client, 1)) == 1


async def test_a_repeat_that_cannot_be_charged_does_not_go_out(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3)
    yard.meter.loses = True
    assert (await client.post("/v1/generate", json=GREEDY)).status_code == 503
    assert yard.meter.opened[-1].is_refunded


@pytest.mark.parametrize(("loses", "outcome"), [(False, "done"), (True, "failed")])
async def test_the_line_of_a_repeat_says_how_it_ended(
    yard: Yard, client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], loses: bool, outcome: str
) -> None:
    await ask(client, 3)
    yard.meter.loses = loses
    configure_logging(LogSettings(level="info", format="json"))
    await client.post("/v1/generate", json=GREEDY)
    yard.meter.loses = False
    await client.post("/v1/generate", json=GREEDY)
    configure_logging(LogSettings(level="warning", format="json"))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    shown = [(line["outcome"], line["cache"]) for line in lines if line["logger"] == "access"]
    assert shown == [(outcome, "hit"), ("done", "hit")]


async def test_an_answer_that_expired_is_made_anew(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3)
    yard.clock.advance(yard.settings.cache.ttl_s)
    assert [one["cached"] for one in await ask(client, 3)] == [False, True, True]


async def test_a_fresher_answer_takes_its_place(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3)
    yard.engine._fake._script = None
    fresh = (await client.post("/v1/generate", json=GREEDY, headers={"cache-control": "no-cache"})).json()["output"]
    assert fresh != ANSWER
    assert [one["output"] for one in await ask(client, 2)] == [fresh] * 2


@pytest.mark.parametrize("header", [{"cache-control": "no-store"}, {"idempotency-key": "order-1"}])
async def test_headers_that_say_something_take_the_long_way(
    yard: Yard, client: httpx.AsyncClient, header: dict[str, str]
) -> None:
    await ask(client, 3)
    answer = await client.post("/v1/generate", json=GREEDY, headers=header)
    assert answer.json()["cached"] is ("idempotency-key" in header)


async def test_a_catalog_that_was_read_again_is_asked_again(yard: Yard, client: httpx.AsyncClient) -> None:
    body = {"prompt": "one", "model": "yard/parrot", "temperature": 0}
    await ask(client, 3, body=body)
    file = yard.settings.data_dir.parent / "models.yaml"
    file.write_text(file.read_text().replace("name: yard/parrot,", 'name: yard/parrot, load: "off",'))
    yard.models.reload()
    answer = await client.post("/v1/generate", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "model_off")


async def test_what_is_drawn_by_chance_is_never_remembered(yard: Yard, client: httpx.AsyncClient) -> None:
    await ask(client, 3, body={"prompt": "hi"})
    assert (remembered(yard), generated(yard)) == (0, 3)


# ---------------------------------------------------------------- by hand
HIT = Hit.of(
    Ask(model=None, prompts=["x"], param="prompt", default_max_tokens=1),
    Target("m", "m"),
    b"k",
    b"r",
    Entry((), 0, 0, 0.0),
    GenerationMetrics(Metrics()),
)


def test_bytes_are_bounded_and_counted() -> None:
    repeats = Repeats(5_000)
    for number in range(20):
        repeats.keep(("t", "r", b"%d" % number), HIT, b"x" * 500)
        assert repeats.bytes_held == sum(size for _, _, size in repeats._known.values()) <= 5_000
    assert len(repeats._known) == 3
    assert repeats.find(("t", "r", b"19")) is not None
    repeats.drop(("t", "r", b"19"))
    repeats.drop(("t", "r", b"19"))
    assert repeats.find(("t", "r", b"19")) is None


@pytest.mark.parametrize("name", [("t", "r", b""), ("t", "r", b"x" * 70_000)])
def test_nameless_and_large_ones_are_not_kept(name: Any) -> None:
    repeats = Repeats()
    repeats.keep(name, HIT, b"x")
    assert repeats.bytes_held == 0


def test_an_id_inside_of_the_text_stays_as_it_is(clock: FakeClock) -> None:
    head = '"id":"chatcmpl-00ff","object":"chat.completion","created":5'
    said = f'{{{head},"text":{json.dumps(head)}}}'
    again = json.loads(Written.of(said.encode()).again(clock))
    assert again["id"].startswith("chatcmpl-")
    assert again["id"] != "chatcmpl-00ff"
    assert again["created"] == 1_700_000_000
    assert again["text"] == head


def test_an_answer_without_a_name_is_the_same_bytes(clock: FakeClock) -> None:
    assert Written.of(b'{"model":"m"}').again(clock) == b'{"model":"m"}'
