"""What an administrator sees of the sandbox, and may end."""

from typing import Any

import pytest

from tests.contract.sandbox.routes.conftest import Yard


@pytest.fixture
def admin(yard: Yard) -> dict[str, str]:
    return yard.headers("root", scopes="admin")


def begin(yard: Yard, user: str, tenant: str = "acme") -> tuple[str, dict[str, str]]:
    """Begin a session."""
    headers = yard.headers(user, tenant)
    done = yard.stranger.post("/exec", json={"lang": "py", "code": "x = 1"}, headers=headers)
    return done.json()["session_id"], headers


def shown(yard: Yard, admin: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = yard.stranger.get("/v1/admin/sandbox", headers=admin).json()
    return found


def test_the_sessions_of_the_tenant_are_shown_with_their_owners(yard: Yard, admin: dict[str, str]) -> None:
    mine, other = begin(yard, "bert")[0], begin(yard, "bert", "globex")[0]
    inventory = shown(yard, admin)
    assert next(one["user"] for one in inventory["sessions"] if one["session_id"] == mine) == "bert"
    assert other not in {one["session_id"] for one in inventory["sessions"]}
    assert all(box["is_taken"] and box["pid"] for box in inventory["boxes"])
    assert len(inventory["boxes"]) >= 2


def test_an_administrator_ends_a_box_and_the_session_goes_on_from_its_checkpoint(
    yard: Yard, admin: dict[str, str]
) -> None:
    session, headers = begin(yard, "bert")
    path = f"/v1/admin/sandbox/sessions/{session}/kill"
    assert yard.stranger.post(path, headers=admin).json() == {"session_id": session, "killed": True}
    assert yard.stranger.post(path, headers=admin).json() == {"session_id": session, "killed": False}
    body = {"lang": "py", "code": "print(x)", "session_id": session}
    done = yard.stranger.post("/exec", json=body, headers=headers).json()
    assert (done["stdout"], done["runtime_status"], done["restored"]) == ("1\n", "new", ["x"])


def test_an_administrator_of_another_tenant_finds_nothing(yard: Yard) -> None:
    session, _ = begin(yard, "bert")
    other = yard.headers("root", "globex", scopes="admin")
    assert yard.stranger.post(f"/v1/admin/sandbox/sessions/{session}/kill", headers=other).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", f"/sessions/{'A' * 21}/kill"), ("POST", "/gc")],
)
def test_a_key_without_the_scope_may_not(yard: Yard, method: str, path: str) -> None:
    answer = yard.stranger.request(method, f"/v1/admin/sandbox{path}", headers=yard.headers("bert"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


def test_what_is_over_is_removed_and_the_rest_stays(yard: Yard, admin: dict[str, str]) -> None:
    session, headers = begin(yard, "bert")
    removed = yard.stranger.post("/v1/admin/sandbox/gc?stray_s=60", headers=admin)
    assert (removed.status_code, removed.json()["sessions"]) == (200, 0)
    assert yard.stranger.get(f"/sessions/{session}", headers=headers).status_code == 200
    assert yard.stranger.post("/v1/admin/sandbox/gc?stray_s=1", headers=admin).status_code == 422
