"""Limits under crowds, over tenants and while streams run: exactly what is allowed gets in."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.gateway.gateway import Gateway, Key, MakeKey, unique

CROWD = 16


def crowd(gateway: Gateway, keys: list[Key], **parameters: Any) -> Counter[int]:
    """Let many ask at the same moment; how often each status came."""
    with ThreadPoolExecutor(8) as threads:
        return Counter(
            threads.map(lambda n: gateway.generate(keys[n % len(keys)], **parameters).status_code, range(CROWD))
        )


@pytest.mark.parametrize("bar", [1, 5])
def test_of_a_crowd_exactly_as_many_get_in_as_the_rate_allows(gateway: Gateway, new_key: MakeKey, bar: int) -> None:
    assert crowd(gateway, [new_key(limits={"requests": bar})]) == {200: bar, 429: CROWD - bar}


def test_of_a_crowd_none_exceeds_the_quota(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(quota={"tokens": 100})
    statuses = crowd(gateway, [key], max_new_tokens=8)
    assert set(statuses) == {200, 402}
    assert 0 < gateway.quota(key)["tokens"]["used"] <= 100


def test_a_key_without_bars_is_not_counted_out(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key()
    assert crowd(gateway, [key]) == {200: CROWD}
    assert not [name for name in gateway.generate(key).headers if name.startswith("x-ratelimit")]


@pytest.fixture
def tenant(gateway: Gateway) -> Any:
    name = unique("tenant-")
    yield name
    gateway.call("DELETE", f"/v1/admin/tenants/{name}")


def test_keys_of_a_tenant_share_its_rate(gateway: Gateway, new_key: MakeKey, tenant: str) -> None:
    assert gateway.call("PUT", f"/v1/admin/tenants/{tenant}", {"limits": {"requests": 4}}).status_code == 200
    keys = [new_key(tenant=tenant) for _ in range(3)]
    assert crowd(gateway, keys) == {200: 4, 429: CROWD - 4}
    assert gateway.generate(new_key()).status_code == 200


def test_a_request_has_to_pass_its_key_and_its_tenant_and_what_does_not_takes_from_neither(
    gateway: Gateway, new_key: MakeKey, tenant: str
) -> None:
    gateway.call("PUT", f"/v1/admin/tenants/{tenant}", {"limits": {"requests": 2}})
    narrow, wide = new_key(tenant=tenant, limits={"requests": 1}), new_key(tenant=tenant)
    assert [gateway.generate(narrow).status_code for _ in range(4)] == [200, 429, 429, 429]
    assert [gateway.generate(wide).status_code for _ in range(2)] == [200, 429]


def test_a_tenants_quota_ends_for_all_of_its_keys(gateway: Gateway, new_key: MakeKey, tenant: str) -> None:
    gateway.call("PUT", f"/v1/admin/tenants/{tenant}", {"quota": {"tokens": 60}})
    first, second = new_key(tenant=tenant), new_key(tenant=tenant)
    statuses = [gateway.generate(first, max_new_tokens=8).status_code for _ in range(6)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert gateway.generate(second, max_new_tokens=8).status_code == 402


def test_a_place_among_those_that_run_is_free_again_afterwards(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"concurrency": 1})
    assert [gateway.generate(key).status_code for _ in range(4)] == [200] * 4
    statuses = crowd(gateway, [key], max_new_tokens=32)
    assert set(statuses) <= {200, 429}
    assert statuses[200] >= 1
    assert gateway.generate(key).status_code == 200


def test_a_request_that_is_at_fault_takes_nothing_from_the_rate(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"requests": 2})
    assert [gateway.generate(key, temperature=3).status_code for _ in range(5)] == [422] * 5
    assert [gateway.generate(key, model="no/such").status_code for _ in range(5)] == [404] * 5
    assert [gateway.generate(key).status_code for _ in range(3)] == [200, 200, 429]


def test_limits_take_effect_at_the_next_request(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"requests": 1})
    assert [gateway.generate(key).status_code for _ in range(2)] == [200, 429]
    gateway.call("PATCH", f"/v1/admin/keys/{key.id}", {"limits": {"requests": 3}})
    assert [gateway.generate(key).status_code for _ in range(3)] == [200, 200, 429]
    gateway.call("PATCH", f"/v1/admin/keys/{key.id}", {"limits": {"requests": "unlimited"}})
    assert [gateway.generate(key).status_code for _ in range(3)] == [200, 200, 200]


def test_a_batch_is_one_request_and_its_tokens_are_those_of_all_prompts(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(limits={"requests": 2})
    body = {"prompts": [unique() for _ in range(4)], "max_new_tokens": 3}
    answer = gateway.call("POST", "/v1/generate/batch", body, key=key.secret)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    tokens = sum(one["prompt_tokens"] + one["completion_tokens"] for one in answer.json()["results"])
    assert gateway.usage(key)["totals"]["total_tokens"] == tokens


def test_a_stream_is_paid_for_by_what_it_says_it_used(gateway: Gateway, new_key: MakeKey) -> None:
    key = new_key(quota={"tokens": 100_000})
    body = {"messages": [{"role": "user", "content": unique()}], "max_tokens": 5, "stream": True}
    body["stream_options"] = {"include_usage": True}
    answer = gateway.call("POST", "/v1/chat/completions", body, key=key.secret)
    assert answer.status_code == 200, answer.text
    told = answer.text.split('"total_tokens":')[1].split("}")[0].split(",")[0]
    assert gateway.quota(key)["tokens"]["used"] == int(told) > 0


@pytest.mark.parametrize(
    ("limits", "param"),
    [
        ({"requests": 0}, "limits.requests"),
        ({"requests": -1}, "limits.requests"),
        ({"tokens": 0.5}, "limits.tokens"),
        ({"concurrency": "many"}, "limits.concurrency"),
        ({"rpm": 5}, "limits"),
    ],
)
def test_a_limit_that_is_none_is_refused(gateway: Gateway, limits: Any, param: str) -> None:
    body = {"user_id": "ann", "scopes": ["generate"], "limits": limits}
    answer = gateway.call("POST", "/v1/admin/keys", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


@pytest.mark.parametrize(
    ("quota", "param"),
    [
        ({"tokens": 0}, "quota.tokens"),
        ({"day": 32}, "quota.day"),
        ({"day": 0}, "quota.day"),
        ({"time_zone": "Mars/Olympus", "tokens": 5}, "quota.time_zone"),
        ({"reset_at": -5}, "quota.reset_at"),
    ],
)
def test_a_quota_that_is_none_is_refused(gateway: Gateway, quota: Any, param: str) -> None:
    body = {"user_id": "ann", "scopes": ["generate"], "quota": quota}
    answer = gateway.call("POST", "/v1/admin/keys", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
