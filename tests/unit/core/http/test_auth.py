import asyncio
import re

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http import auth
from trainyard.core.http.application import HttpParts
from trainyard.core.http.routing import PUBLIC_PATHS

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("path", ["/runs", "/runs/1/fail/bug", "/v1/things/fail/bug", CHAT, "/nowhere", "/docs/x"])
def test_without_a_key_every_path_is_401_and_says_what_to_send(stranger: TestClient, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="trainyard"'
    assert "missing_api_key" in answer.text
    assert "authorization" in answer.text.lower()


@pytest.mark.parametrize("path", sorted(PUBLIC_PATHS - {"/docs/oauth2-redirect"}))
def test_public_paths_answer_without_a_key(stranger: TestClient, path: str) -> None:
    assert stranger.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk-" + "a" * 43},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "ApiKey tml-" + "a" * 43},
        {"X-API-Key": "nonsense"},
    ],
)
def test_a_bad_key_is_401_in_the_words_of_the_guide(stranger: TestClient, headers: dict[str, str]) -> None:
    answer = stranger.post("/runs", headers=headers, content=b"not even json")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")
    assert "invalid api key" in answer.json()["error"].lower()
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer ", "Digest x", "", "ApiKey", "sk-" + "a" * 43])
def test_another_scheme_counts_as_no_key(stranger: TestClient, value: str) -> None:
    answer = stranger.post("/runs", headers={"Authorization": value}, json={"rank": 1})
    assert (answer.status_code, answer.json()["code"]) == (401, "missing_api_key")


@pytest.mark.parametrize(
    "form",
    [
        {"Authorization": "Bearer {key}"},
        {"Authorization": "bearer  {key} "},
        {"Authorization": "ApiKey {key}"},
        {"X-API-Key": "{key}"},
        {"X-API-Key": "{tml}"},
        {"Authorization": "Basic eDp5", "X-API-Key": "{key}"},
    ],
)
def test_a_key_is_accepted_in_every_form(stranger: TestClient, parts: HttpParts, form: dict[str, str]) -> None:
    key = parts.keys.generate_key("ada")
    headers = {name: value.format(key=key, tml="tml-" + key[3:]) for name, value in form.items()}
    answer = stranger.post("/runs", headers=headers, json={"rank": 1})
    assert (answer.status_code, answer.json()) == (200, {"rank": 1, "user": "ada"})


@pytest.mark.parametrize(
    ("scopes", "train", "generate"),
    [("train", 200, 403), ("generate", 403, 200), ("train,generate", 200, 200), ("admin", 403, 403)],
)
def test_a_key_opens_what_its_scopes_name(
    stranger: TestClient, parts: HttpParts, scopes: str, train: int, generate: int
) -> None:
    headers = {"Authorization": f"Bearer {parts.keys.generate_key('ada', scopes=scopes)}"}
    runs = stranger.post("/runs", headers=headers, json={"rank": 1})
    chat = stranger.post(CHAT, headers=headers, json={"prompt": "x"})
    assert (runs.status_code, chat.status_code) == (train, generate)
    for answer in (runs, chat):
        assert answer.status_code == 200 or "missing_scope" in answer.text


def test_the_key_is_checked_before_the_body(stranger: TestClient) -> None:
    assert stranger.post("/runs", content=b"x" * 5000).status_code == 401


def test_a_revoked_key_stops_at_once_here(client: TestClient, parts: HttpParts) -> None:
    assert client.post("/runs", json={"rank": 1}).status_code == 200
    parts.keys.revoke_key(str(parts.keys.list_keys()[0]["id"]))
    assert client.post("/runs", json={"rank": 1}).status_code == 401


def test_an_expired_key_is_refused_with_its_reason(stranger: TestClient, parts: HttpParts, clock: FakeClock) -> None:
    key = parts.keys.generate_key("ada", expires_at=clock.now() + 1)
    clock.advance(1)
    answer = stranger.post("/runs", headers={"X-API-Key": key}, json={"rank": 1})
    assert answer.status_code == 401
    assert "Invalid API key: it has expired" in answer.json()["error"]


def test_a_request_that_passed_no_middleware_is_checked_too(app: FastAPI, parts: HttpParts) -> None:
    key = parts.keys.generate_key("ada")
    scope = {"type": "http", "headers": [(b"x-api-key", key.encode())], "app": app, "state": {}}
    assert asyncio.run(auth.authenticate(Request(scope), "train")).user == "ada"
    with pytest.raises(errors.Unauthenticated):
        asyncio.run(auth.authenticate(Request({**scope, "headers": [], "state": {}}), "train"))


def test_a_dependency_of_an_unknown_scope_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="unknown scope 'trian'; valid: train"):
        auth.principal("trian")


def test_the_last_use_of_a_key_is_written_when_the_server_ends(
    app: FastAPI, parts: HttpParts, database: Database, clock: FakeClock
) -> None:
    key = parts.keys.generate_key("ada")
    with TestClient(app, headers={"X-API-Key": key}) as client:
        client.post("/runs", json={"rank": 1})
    with database.read() as connection:
        assert connection.execute(text("SELECT last_used_at FROM core_keys")).scalar() == clock.now()


@pytest.mark.parametrize("query", [b"signature=0af3", b"expires=1&signature=%C2%B9", b"signature=\xc2\xb9"])
async def test_a_signature_of_any_characters_is_left_to_its_route(parts: HttpParts, query: bytes) -> None:
    reached: list[str] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    checker = auth.KeyChecker(parts.keys, parts.database)
    guarded = auth.RequireKey(route, checker, [re.compile("/signed/[0-9]+")])
    plain = {"type": "http", "query_string": query, "headers": []}
    await guarded({**plain, "path": "/signed/1"}, _nothing, _ignored)
    with pytest.raises(errors.Unauthenticated):
        await guarded({**plain, "path": "/other"}, _nothing, _ignored)
    with pytest.raises(errors.Unauthenticated):
        await guarded({**plain, "path": "/signed/1", "query_string": b"expires=1"}, _nothing, _ignored)
    assert reached == ["/signed/1"]


async def _nothing() -> Message:
    return {"type": "http.request", "body": b""}


async def _ignored(_message: Message) -> None:
    return None
