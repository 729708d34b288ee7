"""Rates and quotas of a key: what is over is 429 and 402, and time brings it back."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.gateway.gateway import Gateway, Key, MakeKey, seconds, unique


def fault(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def until_reset(gateway: Gateway, answer: Any, of: str = "requests") -> None:
    """Let the time pass that an answer says it takes until all is there again."""
    gateway.wait(seconds(answer.headers[f"x-ratelimit-reset-{of}"]) + 0.01)


def test_requests_beyond_the_rate_are_429_and_say_when_to_come_again(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"requests": 3})
    left = []
    for _ in range(3):
        answer = gateway.generate(key)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        left.append(answer.headers["x-ratelimit-remaining-requests"])
    assert left == ["2", "1", "0"]
    refused = gateway.generate(key)
    assert fault(refused) == (429, "rate_limit_exceeded")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')
    assert refused.json()["data"]["dimension"] == "requests"


def test_a_window_that_has_passed_lets_requests_in_again(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"requests": 2})
    for _ in range(2):
        last = gateway.generate(key)
        assert last.status_code == 200
    refused = gateway.generate(key)
    assert refused.status_code == 429
    until_reset(gateway, refused)
    assert gateway.generate(key).status_code == 200


def test_a_refused_request_takes_nothing(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"requests": 1}, quota={"tokens": 100_000})
    first = gateway.generate(key)
    used = gateway.quota(key)["tokens"]["used"]
    for _ in range(5):
        refused = gateway.generate(key)
        assert refused.status_code == 429
    assert gateway.quota(key)["tokens"]["used"] == used > 0
    until_reset(gateway, first)
    assert gateway.generate(key).status_code == 200


def test_tokens_beyond_the_rate_are_429_until_they_have_left_the_window(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"tokens": 60})
    answers = [gateway.generate(key, max_new_tokens=20) for _ in range(4)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[0] == 200
    refused = answers[statuses.index(429)]
    assert fault(refused) == (429, "rate_limit_exceeded")
    assert refused.json()["data"]["dimension"] == "tokens"
    until_reset(gateway, refused, "tokens")
    assert gateway.generate(key, max_new_tokens=20).status_code == 200


def test_a_request_larger_than_the_bar_itself_is_told_so_and_not_to_wait(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"tokens": 10})
    refused = gateway.generate(key, max_new_tokens=50)
    assert fault(refused) == (422, "request_exceeds_limit")
    assert "retry-after" not in refused.headers


def test_generations_consume_the_quota_by_what_they_really_used(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(quota={"tokens": 100_000})
    total = 0
    for prompt in (unique(), unique("a longer prompt than before ")):
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 3}
        answer = gateway.call("POST", "/v1/chat/completions", body, key=key.secret)
        assert answer.status_code == 200, answer.text
        total += answer.json()["usage"]["total_tokens"]
        assert gateway.quota(key)["tokens"] == {"limit": 100_000, "used": total, "left": 100_000 - total}
    assert gateway.usage(key)["totals"]["total_tokens"] == total


def exhausted(gateway: Gateway, key: Key) -> Any:
    """Generate until the quota does not allow it any more; the refusal."""
    for _ in range(50):
        answer = gateway.generate(key, max_new_tokens=8)
        if answer.status_code != 200:
            return answer
    raise AssertionError("the quota never ended")


def test_a_quota_that_is_used_up_is_402(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(quota={"tokens": 60})
    refused = exhausted(gateway, key)
    assert fault(refused) == (402, "quota_exhausted")
    assert refused.json()["error"]["type"] == "insufficient_quota"
    assert refused.json()["data"]["dimension"] == "tokens"
    assert refused.headers["ratelimit-policy"].startswith('"monthly-tokens";q=60')
    assert 0 < gateway.quota(key)["tokens"]["used"] <= 60


def test_a_quota_begins_anew_with_the_month(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(quota={"tokens": 1})
    now = datetime.fromtimestamp(gateway.now(), UTC)
    next_month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    refused = gateway.generate(key)
    assert refused.status_code == 402
    assert refused.json()["data"]["reset_at"] == next_month.timestamp()
    assert gateway.quota(key)["resets_at"] == next_month.timestamp()


def test_the_reset_of_a_quota_is_respected(gateway: Gateway, new_key: MakeKey) -> None:
    reset_at = int(gateway.now()) + 3
    key = new_key(quota={"tokens": 60, "reset_at": reset_at})
    refused = exhausted(gateway, key)
    assert refused.json()["data"]["reset_at"] == reset_at
    gateway.wait(reset_at - gateway.now() + 0.05)
    assert gateway.generate(key, max_new_tokens=8).status_code == 200
    assert gateway.quota(key)["since"] == reset_at
    assert gateway.quota(key)["resets_at"] > reset_at + 27 * 86_400


def test_an_administrator_can_raise_a_quota(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(quota={"tokens": 60})
    assert exhausted(gateway, key).status_code == 402
    raised = gateway.call("PATCH", f"/v1/admin/keys/{key.id}", {"quota": {"tokens": 100_000}})
    assert raised.status_code == 200, raised.text
    assert gateway.generate(key).status_code == 200


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions"])
def test_refusals_speak_the_dialect_of_their_route(gateway: Gateway, new_key: MakeKey, path: str) -> None:
    key = new_key(quota={"tokens": 1})
    is_chat = path.endswith("completions")
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]} if is_chat else {"prompt": "hi"}
    answer = gateway.call("POST", path, body, key=key.secret)
    assert fault(answer) == (402, "quota_exhausted")
    native = {"error", "code", "message", "detail", "request_id", "data"}
    assert set(answer.json()) == ({"error"} if is_chat else native)
