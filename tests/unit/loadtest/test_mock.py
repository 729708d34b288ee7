"""The mock over a real connection, read by the published client where there is one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from trainyard.loadtest.mock import Fault, Latency, MockServer, in_thread
from trainyard.loadtest.mock import text as words

HELLO: list[Any] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def mock() -> AsyncIterator[MockServer]:
    async with MockServer().listening() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def post(
    http: aiohttp.ClientSession, url: str, body: dict[str, Any], fault: Fault | str | None = None
) -> tuple[int, str]:
    headers = {} if fault is None else {"x-mock-fault": str(fault)}
    async with http.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_the_published_client_reads_whole_answers(mock: MockServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{mock.url}/v1", api_key="x") as client:
        answer = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=3, n=2)
        assert [len((choice.message.content or "").split()) for choice in answer.choices] == [3, 3]
        assert answer.choices[0].message.content != answer.choices[1].message.content
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 6)
        assert [model.id async for model in client.models.list()] == ["mock"]
        vector = await client.embeddings.create(model="m", input=["a", "b"], dimensions=3)  # base64 on the wire
        assert [len(row.embedding) for row in vector.data] == [3, 3]
        assert vector.data[0].embedding == pytest.approx(words.vector("a", 3), abs=1e-6)


async def test_the_published_client_reads_streams(mock: MockServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{mock.url}/v1", api_key="x") as client:
        stream = await client.chat.completions.create(
            model="m",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(model="m", messages=HELLO)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert len(text.split()) == 16
        assert chunks[-1].usage == whole.usage
        assert chunks[-2].choices[0].finish_reason == "stop"


async def test_tools_are_called_with_arguments_that_fit(mock: MockServer, http: aiohttp.ClientSession) -> None:
    schema = {"type": "object", "properties": {"place": {"type": "string"}, "n": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": schema | {"required": ["place", "n"]}}}]
    _, raw = await post(http, f"{mock.url}/v1/chat/completions", {"model": "m", "messages": HELLO, "tools": tools})
    choice = json.loads(raw)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"place": "x", "n": 0}
    _, raw = await post(http, f"{mock.url}/api/chat", {"messages": HELLO, "tools": tools, "stream": False})
    assert json.loads(raw)["message"]["tool_calls"][0]["function"] == {
        "name": "look",
        "arguments": {"place": "x", "n": 0},
    }


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, {"a": True}),
        ({"type": "array", "items": {"type": "number", "minimum": 3}, "minItems": 2}, [3, 3]),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 5}, 5),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "minLength": 4}}}, "xxxx"),
        ({"type": ["integer", "null"], "exclusiveMinimum": 7}, 8),
    ],
)
async def test_a_schema_is_answered_with_an_instance(
    mock: MockServer, http: aiohttp.ClientSession, schema: dict[str, Any], value: object
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": HELLO, "response_format": form}
    _, raw = await post(http, f"{mock.url}/v1/chat/completions", body)
    assert json.loads(json.loads(raw)["choices"][0]["message"]["content"]) == value
    _, raw = await post(http, f"{mock.url}/api/generate", {"prompt": "x", "format": schema, "stream": False})
    assert json.loads(json.loads(raw)["response"]) == value


@pytest.mark.parametrize(
    ("wanted", "limit", "stop", "said", "finish"),
    [(3, None, [], 3, "stop"), (3, 2, [], 2, "length"), (3, None, ["zzz"], 3, "stop")],
)
def test_an_answer_ends_where_it_should(
    wanted: int, limit: int | None, stop: list[str], said: int, finish: str
) -> None:
    answer = words.say("a prompt", wanted, limit, stop, 0)
    assert (len(answer.tokens), answer.finish) == (said, finish)


def test_a_stop_string_cuts_inside_of_a_token() -> None:
    whole = words.say("a prompt", 4, None, [], 0)
    second = whole.tokens[1].strip()
    cut = words.say("a prompt", 4, None, [second[1:]], 0)
    assert cut.text == f"{whole.tokens[0]} {second[0]}"
    assert cut.finish == "stop"


@pytest.mark.parametrize("status", ["400", "401", "404", "429", "500", "502", "503", "504"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_a_status_is_answered_in_the_shape_of_the_dialect(
    mock: MockServer, http: aiohttp.ClientSession, status: str, path: str
) -> None:
    async with http.post(mock.url + path, json={"model": f"m:{status}", "messages": HELLO}) as answer:
        error = (await answer.json())["error"]
        assert answer.status == int(status)
        assert answer.headers.get("Retry-After") == ("1" if status == "429" else None)
        assert isinstance(error, str if path.startswith("/api") else dict)


async def test_planned_faults_hit_as_often_as_planned(mock: MockServer, http: aiohttp.ClientSession) -> None:
    await post(http, f"{mock.url}/_mock/faults", {"fault": "503", "times": 2, "model": "m"})
    url, body = f"{mock.url}/v1/chat/completions", {"model": "m", "messages": HELLO}
    statuses = [(await post(http, url, body | {"model": model}))[0] for model in ("m", "other", "m", "m")]
    assert statuses == [503, 200, 503, 200]
    await post(http, f"{mock.url}/_mock/faults", {"fault": "500"})
    assert [(await post(http, url, body))[0] for _ in range(3)] == [500, 500, 500]
    async with http.delete(f"{mock.url}/_mock/faults") as answer:
        assert (await answer.json())["faults"] == {"503": 2, "500": 3}
    assert (await post(http, url, body))[0] == 200


@pytest.mark.parametrize("fault", [Fault.DROP_HEAD, Fault.DROP_BODY, Fault.CUT_EVENT])
@pytest.mark.parametrize("is_stream", [True, False])
async def test_connections_break_where_they_should(
    mock: MockServer, http: aiohttp.ClientSession, fault: Fault, is_stream: bool
) -> None:
    with pytest.raises(aiohttp.ClientError):
        await post(http, f"{mock.url}/v1/chat/completions", {"messages": HELLO, "stream": is_stream}, fault)


@pytest.mark.parametrize("fault", [Fault.STALL_HEAD, Fault.STALL_BODY])
async def test_a_stall_lasts_until_the_client_leaves(
    mock: MockServer, http: aiohttp.ClientSession, fault: Fault
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await post(http, f"{mock.url}/v1/chat/completions", {"messages": HELLO, "stream": True}, fault)
    for _ in range(100):
        if mock.seen.aborted:
            break
        await asyncio.sleep(0.01)
    assert (mock.seen.aborted, mock.seen.in_flight) == (1, 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_slow_bytes_and_odd_events_say_the_same(mock: MockServer, http: aiohttp.ClientSession, path: str) -> None:
    plain = await post(http, mock.url + path, {"messages": HELLO, "stream": True})
    assert await post(http, mock.url + path, {"messages": HELLO, "stream": True}, Fault.SLOW_BYTES) == plain


async def test_latency_is_what_was_asked_for(mock: MockServer, http: aiohttp.ClientSession) -> None:
    async with http.put(f"{mock.url}/_mock/latency", json={"first_token_s": 0.05, "token_s": 0.01, "answer_tokens": 6}):
        pass
    began = time.monotonic()
    async with http.post(f"{mock.url}/v1/completions", json={"prompt": "x", "stream": True}) as answer:
        await answer.content.readany()
        first_s = time.monotonic() - began
        await answer.read()
    whole_s = time.monotonic() - began
    assert first_s >= 0.05
    assert whole_s >= 0.05 + 5 * 0.01
    began = time.monotonic()
    await post(http, f"{mock.url}/v1/completions", {"prompt": "x"})
    assert time.monotonic() - began >= 0.05 + 5 * 0.01


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("GET", "/_mock/nowhere", None, 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/_mock/faults", b'{"fault": "nonsense"}', 400),
        ("PUT", "/_mock/latency", b'{"first_s": 1}', 400),
        ("GET", "/api/version", None, 200),
        ("GET", "/api/tags", None, 200),
        ("POST", "/api/show", b'{"model": "m"}', 200),
        ("POST", "/_mock/reset", None, 200),
    ],
)
async def test_every_path_answers(
    mock: MockServer, http: aiohttp.ClientSession, method: str, path: str, body: bytes | None, status: int
) -> None:
    async with http.request(method, mock.url + path, data=body) as answer:
        assert answer.status == status
        assert await answer.json()


async def test_what_was_seen_is_counted_and_kept(mock: MockServer, http: aiohttp.ClientSession) -> None:
    await post(http, f"{mock.url}/v1/chat/completions", {"model": "a", "messages": HELLO})
    await post(http, f"{mock.url}/api/embed", {"model": "b", "input": "x"})
    async with http.get(f"{mock.url}/_mock/seen") as answer:
        seen = await answer.json()
    assert seen["total"] == 2
    assert seen["models"] == {"a": 1, "b": 1}
    assert [one.path for one in mock.seen.recent] == ["/v1/chat/completions", "/api/embed"]
    assert json.loads(mock.seen.recent[0].body)["model"] == "a"
    mock.seen.reset()
    assert (mock.seen.total, list(mock.seen.recent)) == (0, [])


async def test_a_key_is_asked_for_when_it_has_one(http: aiohttp.ClientSession) -> None:
    async with MockServer(api_key="sk-right").listening() as mock:
        for key, status in (("sk-right", 200), ("sk-wrong", 401)):
            headers = {"Authorization": f"Bearer {key}"}
            async with http.post(f"{mock.url}/v1/completions", json={"prompt": "x"}, headers=headers) as answer:
                assert answer.status == status


def test_it_runs_in_a_thread_for_callers_without_a_loop() -> None:
    with (
        in_thread(MockServer(latency=Latency(answer_tokens=2))) as mock,
        openai.OpenAI(base_url=f"{mock.url}/v1", api_key="x") as client,
    ):
        answer = client.completions.create(model="m", prompt="x", logprobs=1)
        assert len(answer.choices[0].text.split()) == 2
        assert answer.choices[0].logprobs is not None
        assert answer.choices[0].logprobs.token_logprobs == [-0.1, -0.2]


async def test_what_is_no_http_closes_the_connection(mock: MockServer) -> None:
    reader, writer = await asyncio.open_connection(*mock.url.removeprefix("http://").split(":"))
    writer.write(b"\x00\x01\x02 nonsense\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


async def test_requests_in_one_write_are_answered_in_turn(mock: MockServer) -> None:
    mock.latency = Latency(first_token_s=0.02)
    reader, writer = await asyncio.open_connection(*mock.url.removeprefix("http://").split(":"))
    body = b'{"prompt": "x"}'
    one = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    writer.write(one + b"GET /api/version HTTP/1.1\r\nhost: x\r\n\r\n")
    raw = await reader.readuntil(b"0.0.0-mock")
    assert raw.index(b"text_completion") < raw.index(b"0.0.0-mock")
    writer.close()
