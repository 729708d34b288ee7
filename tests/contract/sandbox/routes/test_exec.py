"""POST /exec over a real interpreter."""

from typing import Any

import pytest

from tests.contract.sandbox.routes.conftest import Yard


def run(yard: Yard, code: str, **fields: Any) -> dict[str, Any]:
    """Run Python."""
    answer = yard.client.post("/exec", json={"lang": "py", "code": code, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("base", ["", "/v1/code"])
def test_code_runs_at_the_root_and_under_librechats_base(yard: Yard, base: str) -> None:
    answer = yard.client.post(f"{base}/exec", json={"lang": "py", "code": "print(1+1)"})
    assert (answer.status_code, answer.json()["stdout"]) == (200, "2\n")


def test_variables_stay_in_the_session(yard: Yard) -> None:
    first = run(yard, "x = 42")
    assert first["runtime_status"] == "new"
    second = run(yard, "print(x)", session_id=first["session_id"])
    assert (second["stdout"], second["runtime_status"]) == ("42\n", "reused")
