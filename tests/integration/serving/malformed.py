"""Malformed generation requests: each with the status that answers it and a word that its message has to say."""

import json
from typing import Any, NamedTuple


class Malformed(NamedTuple):
    """One request that has to be refused.

    Attributes:
        name: What is wrong.
        path: Where it is sent.
        body: JSON value, or raw bytes.
        status: Of the answer.
        says: Part of the message: what is wrong, or what would be right.
    """

    name: str
    path: str
    body: Any
    status: int
    says: str

    @property
    def content(self) -> bytes:
        """The bytes to send."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


GENERATE, CHAT, COMPLETIONS = "/v1/generate", "/v1/chat/completions", "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
HELLO = [{"role": "user", "content": "hello"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}


def chat(model: str, **more: Any) -> dict[str, Any]:
    """A chat body that is right but for what is given."""
    return {"model": model, "messages": HELLO, "max_tokens": 4, **more}


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    """A tool in OpenAI's shape."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def named(name: str) -> dict[str, Any]:
    """The choice of a tool."""
    return {"type": "function", "function": {"name": name}}


def schema(given: Any) -> dict[str, Any]:
    """A response format."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": given}}


def table(model: str) -> list[Malformed]:
    """List the requests, for a server that serves this model."""
    return [
        Malformed("no JSON", GENERATE, b"{prompt: hi}", 422, "JSON"),
        Malformed("no body", CHAT, b"", 400, "empty"),
        Malformed("an array", CHAT, [1, 2], 400, "object"),
        Malformed("not UTF-8", GENERATE, b'{"prompt": "\xff\xfe"}', 422, "UTF-8"),
        Malformed("no prompt", GENERATE, {"model": model}, 422, "required"),
        Malformed("empty prompt", GENERATE, {"prompt": ""}, 422, ">= 1"),
        Malformed("prompt of another type", GENERATE, {"prompt": 7}, 422, "str"),
        Malformed("no tokens", GENERATE, {"prompt": "x", "max_new_tokens": 0}, 422, ">= 1"),
        Malformed("hot", GENERATE, {"prompt": "x", "temperature": 2.5}, 422, "<= 2"),
        Malformed("top_p of zero", GENERATE, {"prompt": "x", "top_p": 0}, 422, "> 0"),
        Malformed("negative top_k", GENERATE, {"prompt": "x", "top_k": -1}, 422, ">= 0"),
        Malformed("a number to stop at", GENERATE, {"prompt": "x", "stop": [3]}, 422, "str"),
        Malformed("an empty stop string", GENERATE, {"prompt": "x", "stop": [""]}, 422, ">= 1"),
        Malformed("a field with a slip", GENERATE, {"prompt": "x", "temprature": 1}, 422, "temperature"),
        Malformed("a path as model", GENERATE, {"prompt": "x", "model": "../../etc/passwd"}, 404, model),
        Malformed("a stranger's run", CHAT, chat("run_ffffffffffffffff"), 404, "not yours"),
        Malformed("unknown model", COMPLETIONS, {"model": "gpt-9", "prompt": "x"}, 404, model),
        Malformed("no messages", CHAT, chat(model, messages=[]), 400, ">= 1"),
        Malformed("an unknown role", CHAT, chat(model, messages=[{"role": "king", "content": "x"}]), 400, "king"),
        Malformed(
            "a picture",
            CHAT,
            chat(model, messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
            400,
            "image_url",
        ),
        Malformed("no tools", CHAT, chat(model, tools=[]), 400, ">= 1"),
        Malformed("a tool without a type", CHAT, chat(model, tools=[{"function": {"name": "f"}}]), 400, "type"),
        Malformed("a tool with a space", CHAT, chat(model, tools=[tool("a b")]), 400, "a-zA-Z0-9"),
        Malformed("two tools of a name", CHAT, chat(model, tools=[tool("f"), tool("f")]), 400, "same name"),
        Malformed("a choice without tools", CHAT, chat(model, tool_choice="required"), 400, "needs tools"),
        Malformed("a choice of nothing", CHAT, chat(model, tools=[tool("f")], tool_choice=named("g")), 400, "none of"),
        Malformed("arguments of no schema", CHAT, chat(model, tools=[tool("f", {"not": {}})]), 400, "Unimplemented"),
        Malformed("a result of no call", CHAT, chat(model, messages=[*HELLO, RESULT]), 400, "no call of an earlier"),
        Malformed("a turn of nothing", CHAT, chat(model, messages=[{"role": "user"}]), 400, "content is missing"),
        Malformed(
            "calls of a user", CHAT, chat(model, messages=[{**HELLO[0], "tool_calls": [CALL]}]), 400, "assistant"
        ),
        Malformed("an unknown format", CHAT, chat(model, response_format={"type": "xml"}), 400, "xml"),
        Malformed("a bad schema", CHAT, chat(model, response_format=schema({"type": "foo"})), 400, "foo"),
        Malformed(
            "a remote schema", CHAT, chat(model, response_format=schema({"$ref": "http://x/y"})), 400, "http://x/y"
        ),
        Malformed("a kept answer", CHAT, chat(model, store=True), 400, "store"),
        Malformed("metadata", CHAT, chat(model, metadata={"a": "b"}), 400, "valid fields"),
        Malformed("a bias", CHAT, chat(model, logit_bias={"1": 5}), 400, "valid fields"),
        Malformed("no input", EMBEDDINGS, {"model": model}, 400, "input"),
        Malformed("an empty input", EMBEDDINGS, {"model": model, "input": ["a", ""]}, 400, "empty"),
        Malformed("mixed inputs", EMBEDDINGS, {"model": model, "input": ["a", 1]}, 400, "not a mixture"),
        Malformed("too many inputs", EMBEDDINGS, {"model": model, "input": ["a"] * 2049}, 400, "2048"),
        Malformed("too many numbers", EMBEDDINGS, {"model": model, "input": "a", "dimensions": 60_000}, 400, "numbers"),
        Malformed("an unknown encoding", EMBEDDINGS, {"model": model, "input": "a", "encoding_format": "x"}, 400, "x"),
        Malformed("a JSON schema", CHAT, chat(model, response_format={"type": "json_schema"}), 400, "json_schema"),
        Malformed("two lengths", CHAT, chat(model, max_completion_tokens=9), 400, "differ"),
        Malformed("too many choices", CHAT, chat(model, n=9), 400, "<= 8"),
        Malformed("a penalty", CHAT, chat(model, presence_penalty=2.5), 400, "<= 2"),
        Malformed("rivals without logprobs", CHAT, chat(model, top_logprobs=2), 400, "logprobs"),
        Malformed("options without stream", CHAT, chat(model, stream_options={}), 400, "stream"),
        Malformed("a negative seed", CHAT, chat(model, seed=-1), 400, ">= 0"),
        Malformed("echo", COMPLETIONS, {"model": model, "prompt": "x", "echo": True}, 400, "echo"),
        Malformed("a mixture", COMPLETIONS, {"model": model, "prompt": ["x", 1]}, 400, "mixture"),
        Malformed("one empty prompt of two", COMPLETIONS, {"model": model, "prompt": ["x", ""]}, 400, "empty"),
        Malformed("an id beyond", COMPLETIONS, {"model": model, "prompt": [10**9]}, 400, "between"),
        Malformed("over-long", GENERATE, {"prompt": "word " * 40_000}, 422, "context"),
    ]
