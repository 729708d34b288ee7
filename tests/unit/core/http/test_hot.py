import json

import msgspec
import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient

from trainyard.core import errors
from trainyard.core.http import bodies, hot
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.settings import Settings

CHAT = "/v1/chat/completions"


def test_a_struct_goes_in_and_comes_out(client: TestClient) -> None:
    answer = client.post(CHAT, json={"prompt": "ab", "n": 2})
    assert (answer.status_code, answer.json()) == (200, {"output": "abab"})
    assert answer.headers["content-type"] == "application/json"


def test_a_response_of_the_handler_goes_out_as_it_is(client: TestClient) -> None:
    assert client.post(CHAT, json={"prompt": "plain"}).text == "plain"


@pytest.mark.parametrize(
    ("content", "param", "message"),
    [
        (b'{"prompt": 3}', "prompt", "prompt: Expected `str`, got `int`"),
        (b'{"prompt": "x", "n": 9}', "n", "n: Expected `int` <= 4"),
        (b'{"prompt": "x", "stops": ["a", "abcd"]}', "stops[1]", "stops[1]: Expected `str` of length <= 3"),
        (b"{}", "prompt", "prompt: this field is required"),
        (b'{"promt": "x"}', "promt", "promt: unknown field; did you mean 'prompt'?"),
        (b'{"prompt": "x", "zzz": 1}', "zzz", "zzz: unknown field; valid fields: prompt, n, stops"),
        (b"[]", None, "Expected `object`, got `array`"),
        (b"{", None, "The body is not valid JSON: Input data was truncated"),
        (b"", None, "The body is not valid JSON: it is empty"),
        (b'{"prompt": "\xff"}', None, "The body is not valid"),
        (b'{"prompt": "x", "n": 1e400}', None, ""),
        (b'{"prompt": "\\ud800"}', None, ""),
        (b'{"prompt": "x", "\\ud800": 1}', None, ""),
        (b'{"prompt": "x", "n": ' + b"9" * 1000 + b"}", None, ""),
    ],
)
def test_a_body_that_does_not_fit_names_the_field(
    client: TestClient, content: bytes, param: str | None, message: str
) -> None:
    answer = client.post(CHAT, content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith(message)
    assert param is None or error["param"] == param


def test_an_unknown_field_inside_another_keeps_its_whole_path() -> None:
    class Inner(msgspec.Struct, forbid_unknown_fields=True):
        a: int = 0

    class Outer(msgspec.Struct):
        items: list[Inner]

    with pytest.raises(errors.InvalidRequest, match=r"items\[0\]\.b: unknown field") as caught:
        bodies.decode(msgspec.json.Decoder(Outer), b'{"items": [{"b": 1}]}')
    assert caught.value.param == "items[0].b"


def test_brackets_without_end_are_no_crash() -> None:
    class Anything(msgspec.Struct):
        items: list[object]

    with pytest.raises(errors.InvalidRequest, match="nested too deeply"):
        bodies.decode(msgspec.json.Decoder(Anything), b'{"items": ' + b"[" * 100_000)


def test_the_document_holds_hot_and_control_routes(stranger: TestClient) -> None:
    document = stranger.get("/openapi.json").json()
    operation = document["paths"][CHAT]["post"]
    assert operation["summary"] == "Chat"
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ChatBody")
    assert document["components"]["schemas"]["ChatBody"]["required"] == ["prompt"]
    assert {"/runs", "/v1/things/fail/{kind}", "/health"} <= set(document["paths"])
    references = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])
    schemes = {name for each in operation["security"] for name in each}
    assert schemes <= set(document["components"]["securitySchemes"])
    assert stranger.get("/openapi.json").json() == document


def test_two_types_of_one_name_are_refused(signal_router: APIRouter, parts: HttpParts) -> None:
    class RunBody(msgspec.Struct):
        x: int

    async def handler(*_: object) -> RunBody:
        raise NotImplementedError

    route = hot.hot_route(
        "/twice",
        handler,
        request_type=RunBody,
        response_type=RunBody,
        scope="train",
        dialect="native",
        summary="Twice",
    )
    built = build_http(Settings(), parts, routers=[(signal_router, "signal")], hot_routes=[route])
    with pytest.raises(errors.TrainyardError, match="named RunBody"):
        built.openapi()
