"""What upstreams are sent: keys, limits, parameters, tools, forms, texts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.serving import fleet
from tests.contract.serving.fleet import HELLO, Fleet
from trainyard.core import errors
from trainyard.engine.types import Grammar
from trainyard.serving.types import Chat, EmbedAsk, pieces

ENTRIES = """
  - {name: far, backend: openai, base_url: MOCK/v1}
  - {name: oll, backend: ollama, base_url: MOCK, context_tokens: 2048}
  - {name: keyed, backend: openai, base_url: MOCK/v1, api_key_env: FAR_KEY}
  - {name: small, backend: openai, base_url: MOCK/v1, context_tokens: 100, max_tokens: 7}
  - {name: chatty, backend: openai, base_url: MOCK/v1, text_prompts: chat}
  - {name: newer, backend: openai, base_url: MOCK/v1, length_parameter: max_completion_tokens}
  - {name: extra, backend: openai, base_url: MOCK/v1, extra_parameters: [top_k, min_p]}
"""
OBJECT = Grammar(kind="json_object")


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet.fleet(tmp_path, ENTRIES) as built:
        yield built


async def test_a_key_goes_to_its_upstream_and_nowhere_else(yard: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    yard.mock.plan.add("401", times=1)
    with pytest.raises(errors.UpstreamFailed) as caught:
        await yard.collect("keyed")
    await yard.collect("far")
    keyed, far = yard.mock.seen.recent
    assert keyed.headers[b"authorization"] == b"Bearer sk-upstream-secret"
    assert b"authorization" not in far.headers
    printed = "".join(capsys.readouterr())
    assert "sk-upstream-secret" not in f"{caught.value}{caught.value.data}{printed}{yard.models.get_model('keyed')}"


async def test_limits_of_the_entry_hold(yard: Fleet) -> None:
    await yard.collect("small", default_max_tokens=1_000_000)
    assert yard.sent()["max_tokens"] == 7
    await yard.collect("small", max_tokens=50)
    assert yard.sent()["max_tokens"] == 50
    with pytest.raises(errors.InvalidRequest) as caught:
        await yard.collect("small", max_tokens=100)
    assert caught.value.code == "context_length_exceeded"


async def test_a_chat_is_told_its_limit_by_the_name_that_its_server_knows(yard: Fleet) -> None:
    answer = await yard.collect("newer", max_tokens=3)
    assert (answer.completion_tokens, answer.finish_reason) == (3, "length")
    assert (yard.sent()["max_completion_tokens"], "max_tokens" in yard.sent()) == (3, False)
    assert (await yard.stream("newer", max_tokens=3))[-1].completion_tokens == 3
    await yard.collect("newer", "once", max_tokens=3)
    assert yard.sent()["max_tokens"] == 3


async def test_everything_that_was_asked_for_is_sent(yard: Fleet) -> None:
    asked: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "presence_penalty": 0.2,
        "frequency_penalty": -0.3, "stop": ("END",), "seed": 7, "max_tokens": 9,
    }  # fmt: skip
    await yard.collect("extra", **asked)
    body = yard.sent()
    assert {name: body[name] for name in asked if name != "stop"} == {k: v for k, v in asked.items() if k != "stop"}
    assert (body["stop"], body["model"]) == (["END"], "extra")
    await yard.collect("oll", **asked)
    options = yard.sent()["options"]
    assert options.pop("num_predict") == 9
    assert options.pop("repeat_penalty") == 1.0
    assert options.pop("num_ctx") == 2048
    assert options.pop("stop") == ["END"]
    assert options == {name: value for name, value in asked.items() if name not in ("stop", "max_tokens")}


async def test_choices_count_their_seeds_up(yard: Fleet) -> None:
    (prepared,) = await yard.backend.prepare(fleet.target("far"), fleet.ask(seed=5, n=2))
    texts = [(await prepared.collect(choice, 5)).text for choice in range(2)]
    assert texts[0] != texts[1]
    assert yard.sent()["seed"] == 6


async def test_text_for_a_model_of_chats_is_one_message(yard: Fleet) -> None:
    await yard.collect("chatty", "once upon")
    assert yard.sent()["messages"] == [{"role": "user", "content": "once upon"}]
    with pytest.raises(errors.InvalidRequest, match="no token ids"):
        await yard.collect("chatty", [1, 2])
    await yard.collect("far", [1, 2, 3])
    assert yard.sent()["prompt"] == [1, 2, 3]


@pytest.mark.parametrize("model", ["far", "oll"])
async def test_tools_are_offered_called_and_answered(yard: Fleet, model: str) -> None:
    chat = Chat(HELLO.messages, fleet.TOOLS)
    for made in (await yard.collect(model, chat), pieces.join(await yard.stream(model, chat))):
        (call,) = made.tool_calls
        assert (made.finish_reason, call.name, call.arguments) == ("tool_calls", "look", '{"at":"x"}')
    assert call.id is not None
    called = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}
    turns = [
        *HELLO.messages,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
    ]
    assert (await yard.collect(model, Chat(turns, fleet.TOOLS))).finish_reason == "stop"
    assert (await yard.collect(model, chat, tool_choice="none")).finish_reason == "stop"
    bad = called | {"function": {"name": "look", "arguments": "no JSON"}}
    with pytest.raises(errors.InvalidRequest):
        await yard.collect("oll", Chat([{"role": "assistant", "tool_calls": [bad]}]))


async def test_a_tool_is_named_and_several_calls_are_forbidden(yard: Fleet) -> None:
    await yard.collect("far", Chat(HELLO.messages, fleet.TOOLS), tool_choice="look", parallel_tool_calls=False)
    body = yard.sent()
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["parallel_tool_calls"] is False


# ----------------------------------------------------------------------- forms
@pytest.mark.parametrize("model", ["far", "oll"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_of_the_wrong_form_is_repaired_once(yard: Fleet, model: str, is_stream: bool) -> None:
    yard.mock.plan.add("invalid-once")
    made = await yard.stream(model, form=OBJECT) if is_stream else [await yard.collect(model, form=OBJECT)]
    (answer,) = made
    assert answer.text.startswith('{"echo":')
    assert yard.mock.seen.total == 2
    turns = yard.sent()["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert "the text is not JSON" in turns[2]["content"]
    single = await yard.collect(model)
    assert single.prompt_tokens is not None
    assert answer.prompt_tokens is not None
    assert answer.prompt_tokens > 2 * single.prompt_tokens  # both attempts, the second with two turns more
    assert yard.counted("trainyard_upstream_repairs_total", model=model, outcome="valid") == 1


@pytest.mark.parametrize("model", ["far", "oll"])
@pytest.mark.parametrize("prompt", [HELLO, "once"], ids=["chat", "text"])
async def test_an_answer_that_stays_wrong_is_an_error(yard: Fleet, model: str, prompt: Any) -> None:
    yard.mock.plan.add("invalid-output")
    with pytest.raises(errors.UpstreamFailed) as caught:
        await yard.collect(model, prompt, form=Grammar(kind="regex", text=r"\d+"))
    assert caught.value.code == "invalid_output"
    assert yard.mock.seen.total == 2


async def test_a_schema_is_passed_on_in_the_words_of_the_dialect(yard: Fleet) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = Grammar(kind="json_schema", text='{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}')
    assert (await yard.collect("far", form=form)).text == '{"a":0}'
    assert yard.sent()["response_format"]["json_schema"]["schema"] == schema
    assert (await yard.collect("oll", form=form)).text == '{"a":0}'
    assert yard.sent()["format"] == schema
    await yard.collect("oll", form=OBJECT)
    assert yard.sent()["format"] == "json"


async def test_an_answer_that_its_limit_cuts_off_is_given_as_it_is(yard: Fleet) -> None:
    answer = await yard.collect("far", form=OBJECT, max_tokens=2)
    assert (answer.finish_reason, yard.mock.seen.total) == ("length", 1)


# ------------------------------------------------------------------ embeddings
@pytest.mark.parametrize("model", ["far", "oll"])
@pytest.mark.parametrize("fault", ["garbage", "empty", "html"])
async def test_vectors_that_are_none_are_an_error(yard: Fleet, model: str, fault: str) -> None:
    yard.mock.plan.add(fault)
    asked = EmbedAsk(model=None, inputs=["a"], param="input")
    with pytest.raises(errors.UpstreamFailed):
        await yard.backend.embed(fleet.target(model), asked, 5)


async def test_texts_that_cannot_be_embedded_are_refused(yard: Fleet) -> None:
    with pytest.raises(errors.InvalidRequest, match="Text 1 is empty"):
        await yard.backend.count(fleet.target("far"), EmbedAsk(model=None, inputs=["a", ""], param="input"))
    with pytest.raises(errors.InvalidRequest, match="no token ids"):
        await yard.backend.embed(fleet.target("oll"), EmbedAsk(model=None, inputs=[[1]], param="input"), 5)
