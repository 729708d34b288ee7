"""Keys of requests: missing, wrong, ended, and short of a scope."""

from typing import Any

import pytest

from tests.integration.gateway.gateway import GENERATE, Gateway, MakeKey, unique

CHAT = "/v1/chat/completions"
BODIES = {
    GENERATE: {"prompt": "hello", "max_new_tokens": 2},
    "/v1/stream": {"prompt": "hello", "max_new_tokens": 2},
    "/v1/generate/batch": {"prompts": ["hello"], "max_new_tokens": 2},
    CHAT: {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2},
    "/v1/completions": {"prompt": "hello", "max_tokens": 2},
}


def fault(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("path", list(BODIES))
def test_a_request_without_a_key_is_401_missing_api_key(gateway: Gateway, path: str) -> None:
    answer = gateway.request("POST", path, json=BODIES[path])
    assert fault(answer) == (401, "missing_api_key")
    assert answer.headers["www-authenticate"] == 'Bearer realm="trainyard"'
    assert "X-API-Key" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{"X-API-Key": ""}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}])
def test_a_header_that_holds_no_key_is_as_none(gateway: Gateway, headers: dict[str, str]) -> None:
    answer = gateway.request("POST", GENERATE, json=BODIES[GENERATE], headers=headers)
    assert fault(answer) == (401, "missing_api_key")


@pytest.mark.parametrize("path", list(BODIES))
def test_an_unknown_key_is_401_invalid_api_key(gateway: Gateway, path: str) -> None:
    answer = gateway.call("POST", path, BODIES[path], key="sk-" + "x" * 43)
    assert fault(answer) == (401, "invalid_api_key")
    assert "invalid_token" in answer.headers["www-authenticate"]
    assert "x" * 43 not in answer.text


@pytest.mark.parametrize("header", ["X-API-Key", "Bearer", "ApiKey"])
def test_a_key_is_taken_from_each_of_the_headers(gateway: Gateway, new_key: MakeKey, header: str) -> None:
    secret = new_key().secret
    headers = {"X-API-Key": secret} if header == "X-API-Key" else {"Authorization": f"{header} {secret}"}
    assert gateway.request("POST", GENERATE, json=BODIES[GENERATE], headers=headers).status_code == 200


def test_a_revoked_key_is_401_invalid_api_key(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key()
    assert gateway.generate(key).status_code == 200
    assert gateway.call("DELETE", f"/v1/admin/keys/{key.id}").status_code == 200
    assert fault(gateway.generate(key)) == (401, "invalid_api_key")


def test_a_key_that_has_ended_is_401_invalid_api_key(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(expires_at=gateway.now() + 1)
    assert gateway.generate(key).status_code == 200
    gateway.wait(1.1)
    assert fault(gateway.generate(key)) == (401, "invalid_api_key")


def test_a_replaced_key_works_for_its_overlap_and_not_longer(gateway: Gateway, new_key: MakeKey) -> None:
    old = new_key()
    made = gateway.call("POST", f"/v1/admin/keys/{old.id}/rotate", {"overlap_s": 1})
    assert made.status_code == 201, made.text
    assert gateway.generate(old).status_code == 200
    gateway.wait(1.1)
    assert fault(gateway.generate(old)) == (401, "invalid_api_key")
    answer = gateway.call("POST", GENERATE, {"prompt": unique(), "max_new_tokens": 1}, key=made.json()["key"])
    assert answer.status_code == 200
    gateway.call("DELETE", f"/v1/admin/keys/{made.json()['id']}")


def test_a_key_is_in_full_in_the_answer_that_made_it_and_nowhere_else(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key()
    for path in (f"/v1/admin/keys/{key.id}", "/v1/admin/keys?limit=200"):
        answer = gateway.call("GET", path)
        assert answer.status_code == 200
        assert key.secret not in answer.text
    assert key.secret[:11] in gateway.call("GET", f"/v1/admin/keys/{key.id}").text


@pytest.mark.parametrize("path", list(BODIES))
def test_a_key_without_the_scope_is_403(gateway: Gateway, new_key: MakeKey, path: str) -> None:
    key = new_key(scopes=["train"])
    assert fault(gateway.call("POST", path, BODIES[path], key=key.secret)) == (403, "missing_scope")


@pytest.mark.parametrize("path", ["/v1/admin/keys", "/v1/admin/tenants", "/v1/admin/usage", "/v1/admin/logs"])
def test_administration_needs_an_administrator(gateway: Gateway, new_key: MakeKey, path: str) -> None:
    assert fault(gateway.call("GET", path, key=new_key().secret)) == (403, "missing_scope")


def test_a_request_that_is_refused_by_its_key_is_free(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(scopes=["train"], limits={"requests": 1}, quota={"tokens": 100})
    for _ in range(3):
        assert gateway.generate(key).status_code == 403
    assert gateway.quota(key)["tokens"] == {"limit": 100, "used": 0, "left": 100}
