"""Who may ask: keys in headers, keys in the body, LibreChat's tokens, a trusted network; nobody else."""

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.sandbox.routes.conftest import Open, Yard
from tests.unit.core.http import signing

CODE = {"lang": "py", "code": "print(1)"}
ID = "A" * 21
ROUTES = [
    ("POST", "/exec"),
    ("POST", "/upload"),
    ("POST", "/upload/batch"),
    ("GET", f"/files/{ID}"),
    ("DELETE", f"/files/{ID}/{ID}"),
    ("GET", f"/download/{ID}/{ID}"),
    ("HEAD", f"/download/{ID}/{ID}"),
    ("OPTIONS", f"/download/{ID}/{ID}"),
    ("GET", f"/sessions/{ID}/objects/{ID}"),
    ("DELETE", f"/sessions/{ID}/objects/{ID}"),
    ("GET", f"/state/{ID}"),
    ("POST", f"/state/{ID}"),
    ("DELETE", f"/state/{ID}"),
    ("GET", f"/state/{ID}/info"),
    ("GET", "/languages"),
    ("GET", "/sessions"),
    ("GET", f"/sessions/{ID}"),
    ("DELETE", f"/sessions/{ID}"),
    ("POST", f"/sessions/{ID}/interrupt"),
    ("POST", f"/sessions/{ID}/reset"),
    ("GET", f"/sessions/{ID}/variables"),
]


def token(**changed: object) -> str:
    now = int(time.time())
    return signing.sign(**{"iat": now, "nbf": now, "exp": now + 300, **changed})  # type: ignore[arg-type]


def ran(answer: httpx2.Response) -> bool:
    return answer.status_code == 200 and answer.json()["stdout"] == "1\n"


def refused(answer: httpx2.Response) -> str:
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers
    body = answer.json()
    assert (body["error_type"], body["error"]) == ("authentication", body["message"])
    return str(body["code"])


def test_nobody_gets_in_without_a_credential(yard: Yard) -> None:
    for method, path in ROUTES:
        for base in ("", "/v1/code"):
            answer = yard.stranger.request(method, base + path)
            assert answer.status_code == 401, (method, path)


def test_every_route_is_in_the_document_with_its_errors(yard: Yard) -> None:
    paths = yard.stranger.get("/openapi.json").json()["paths"]
    for method, path in ROUTES:
        for base in ("", "/v1/code"):
            one = (base + path).replace(f"objects/{ID}", "objects/{file_id}").replace(f"{ID}/{ID}", ID + "/{file_id}")
            operation = paths[one.replace(ID, "{session_id}")][method.lower()]
            schema = operation["responses"]["401"]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/CodeError")


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "ApiKey {}"])
def test_a_key_in_a_header(yard: Yard, form: str) -> None:
    key = yard.headers("bert")["X-API-Key"]
    header = {"X-API-Key": key} if form == "{}" else {"Authorization": form.format(key)}
    assert ran(yard.stranger.post("/exec", json=CODE, headers=header))
    assert yard.stranger.get("/languages", headers=header).status_code == 200


@pytest.mark.parametrize("name", ["LIBRECHAT_CODE_API_KEY", "api_key", "apiKey"])
def test_a_key_in_the_body_of_exec(yard: Yard, name: str) -> None:
    key = yard.headers("bert")["X-API-Key"]
    assert ran(yard.stranger.post("/exec", json={**CODE, name: key}))
    assert ran(yard.stranger.post("/v1/code/exec", json={**CODE, name: key}))


def test_a_wrong_key_in_the_body_is_refused_and_so_is_one_with_other_scopes(yard: Yard) -> None:
    assert refused(yard.stranger.post("/exec", json={**CODE, "apiKey": "sk-" + "a" * 43})) == "invalid_api_key"
    other = yard.keys.create("bert", tenant="acme", scopes="train").key
    answer = yard.stranger.post("/exec", json={**CODE, "apiKey": other})
    assert (answer.status_code, answer.json()["error_type"]) == (403, "authorization")


def test_a_header_goes_before_the_body(yard: Yard) -> None:
    """LibreChat's oldest clients send the key in both places."""
    assert ran(yard.client.post("/exec", json={**CODE, "LIBRECHAT_CODE_API_KEY": "the same, or not"}))
    bad = {"X-API-Key": "sk-" + "a" * 43}
    answer = yard.stranger.post("/exec", json={**CODE, "apiKey": yard.headers("bert")["X-API-Key"]}, headers=bad)
    assert refused(answer) == "invalid_api_key"


def test_a_key_in_the_body_counts_nowhere_else(yard: Yard) -> None:
    key = yard.headers("bert")["X-API-Key"]
    assert refused(yard.stranger.post(f"/sessions/{ID}/reset", json={"apiKey": key})) == "missing_api_key"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"apiKey": 7}', b"\xff", b"[" * 100_000])
def test_a_body_in_which_no_key_can_be_found_is_401(yard: Yard, body: bytes) -> None:
    assert refused(yard.stranger.post("/exec", content=body)) == "missing_api_key"


def test_a_stranger_is_not_read_for_long(yard: Yard) -> None:
    """Nobody is known yet who could be held to a limit."""
    answer = yard.stranger.post("/exec", content=b" " * ((2 << 20) + 1))
    assert answer.status_code == 413


# ---------------------------------------------------------------- tokens


@pytest.fixture
def signed(open_yard: Open, tmp_path: Path) -> Any:
    keys = signing.write_pem(tmp_path / "keys" / "k1.pem").parent
    with open_yard(sandbox={"jwt": {"keys": str(keys)}}) as opened:
        yield opened


def test_librechats_token_runs_code_and_owns_what_it_leaves(signed: Yard) -> None:
    mine, other = ({"Authorization": f"Bearer {token(sub=user)}"} for user in ("ada", "bob"))
    done = signed.stranger.post("/exec", json={**CODE, "code": "x = 1"}, headers=mine).json()
    assert signed.stranger.get(f"/sessions/{done['session_id']}", headers=mine).status_code == 200
    assert signed.stranger.get(f"/sessions/{done['session_id']}", headers=other).status_code == 404
    elsewhere = {"Authorization": f"Bearer {token(sub='ada', tenant_id='globex')}"}
    assert signed.stranger.get(f"/sessions/{done['session_id']}", headers=elsewhere).status_code == 404


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_token_that_is_no_good_is_401_on_every_route(signed: Yard, method: str) -> None:
    bad = {"Authorization": f"Bearer {token(aud='other')}"}
    path, body = ("/exec", CODE) if method == "post" else ("/languages", None)
    answer = signed.stranger.request(method, path, headers=bad, json=body)
    assert refused(answer) == "invalid_token"
    assert "invalid_token" in answer.headers["www-authenticate"]


def test_a_token_counts_on_paths_of_the_sandbox_alone(signed: Yard) -> None:
    answer = signed.stranger.get("/v1/admin/keys", headers={"Authorization": f"Bearer {token()}"})
    assert answer.status_code == 401


def test_without_public_keys_no_token_is_taken_and_the_answer_says_what_to_set(yard: Yard) -> None:
    answer = yard.stranger.post("/exec", json=CODE, headers={"Authorization": f"Bearer {token()}"})
    assert refused(answer) == "invalid_token"
    assert "sandbox.jwt.keys" in answer.json()["message"]


def test_a_user_with_a_token_is_held_to_the_servers_limits_for_himself(open_yard: Open, tmp_path: Path) -> None:
    keys = signing.write_pem(tmp_path / "keys" / "k1.pem").parent
    with open_yard(limits={"requests": 2}, sandbox={"jwt": {"keys": str(keys)}}) as signed:

        def status(user: str) -> int:
            header = {"Authorization": f"Bearer {token(sub=user)}"}
            return signed.stranger.post("/exec", json=CODE, headers=header).status_code

        assert [status("ada"), status("ada"), status("ada"), status("bob")] == [200, 200, 429, 200]


# ---------------------------------------------------------------- trusted networks


@pytest.fixture
def trusting(open_yard: Open) -> Any:
    with open_yard(sandbox={"trusted_networks": ["10.1.0.0/16", "fd00::/8"]}) as opened:
        yield opened


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::7"])
def test_a_trusted_peer_needs_no_credential(trusting: Yard, address: str) -> None:
    peer = trusting.peer(address)
    assert ran(peer.post("/exec", json=CODE))
    assert peer.get("/sessions").status_code == 200


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1", "::1", "testclient"])
def test_any_other_peer_does(trusting: Yard, address: str) -> None:
    peer = trusting.peer(address)
    assert refused(peer.post("/exec", json=CODE)) == "missing_api_key"
    assert refused(peer.get("/languages")) == "missing_api_key"


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "10.1.2.3"},
        {"Forwarded": "for=10.1.2.3"},
        {"X-Real-IP": "10.1.2.3"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_what_a_proxy_hands_on_and_what_a_page_asks_is_not_the_peers_own(
    trusting: Yard, header: dict[str, str]
) -> None:
    peer = trusting.peer("10.1.2.3", **header)
    assert refused(peer.post("/exec", json=CODE)) == "missing_api_key"
    assert refused(peer.get("/languages")) == "missing_api_key"


def test_no_header_makes_a_stranger_a_trusted_peer(trusting: Yard) -> None:
    """The proxy on this machine may name the client, yet it is the socket that counts."""
    for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        assert refused(trusting.peer("127.0.0.1", **{header: "10.1.2.3"}).get("/languages")) == "missing_api_key"


def test_a_wrong_credential_is_refused_from_a_trusted_network_too(trusting: Yard) -> None:
    peer = trusting.peer("10.1.2.3", **{"X-API-Key": "dummy"})
    assert refused(peer.post("/exec", json=CODE)) == "invalid_api_key"
    assert refused(trusting.peer("10.1.2.3").post("/exec", json={**CODE, "apiKey": "dummy"})) == "invalid_api_key"


def test_trust_ends_at_the_sandbox(trusting: Yard) -> None:
    assert trusting.peer("10.1.2.3").get("/v1/admin/keys").status_code == 401
