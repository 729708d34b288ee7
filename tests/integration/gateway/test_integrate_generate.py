"""Generation and the cache together: what is answered without computing, for whom, and what it costs."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.gateway.gateway import GENERATE, Gateway, Key, MakeKey, unique

GREEDY = {"temperature": 0, "max_new_tokens": 4}


@pytest.fixture
def key(new_key: MakeKey) -> Key:
    return new_key(quota={"tokens": 1_000_000})


def cached(answer: Any) -> bool:
    assert answer.status_code == 200, answer.text
    found = answer.json()["cached"]
    assert isinstance(found, bool)
    assert (answer.headers["x-trainyard-cache"] in ("hit", "joined")) is found
    return found


def test_the_same_question_is_answered_from_the_cache(gateway: Gateway, key: Key) -> None:
    prompt = unique()
    first, second = (gateway.generate(key, prompt, **GREEDY) for _ in range(2))
    assert (cached(first), cached(second)) == (False, True)
    assert {**first.json(), "cached": True} == second.json()


def test_a_hit_takes_no_tokens_and_says_so_in_the_usage(gateway: Gateway, key: Key) -> None:
    prompt = unique()
    gateway.generate(key, prompt, **GREEDY)
    before = gateway.usage(key)
    assert cached(gateway.generate(key, prompt, **GREEDY))
    after = gateway.usage(key)
    assert after["standings"][0]["quota"]["tokens"]["used"] == before["standings"][0]["quota"]["tokens"]["used"] > 0
    assert after["totals"]["requests"] == before["totals"]["requests"] + 1
    assert after["totals"]["cached_requests"] == before["totals"]["cached_requests"] + 1


@pytest.mark.parametrize(
    "other",
    [
        {"max_new_tokens": 5},
        {"temperature": 0.5, "seed": 3},
        {"top_p": 0.5},
        {"top_k": 1},
        {"min_p": 0.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"stop": "zzz"},
        {"stop": ["zzz", "yyy"]},
    ],
    ids=str,
)
def test_another_parameter_is_another_question(gateway: Gateway, key: Key, other: dict[str, Any]) -> None:
    prompt = unique()
    assert not cached(gateway.generate(key, prompt, **GREEDY))
    assert not cached(gateway.generate(key, prompt, **{**GREEDY, **other}))
    assert cached(gateway.generate(key, prompt, **{**GREEDY, **other}))


def test_another_prompt_is_another_question(gateway: Gateway, key: Key) -> None:
    prompt = unique()
    assert not cached(gateway.generate(key, prompt, **GREEDY))
    assert not cached(gateway.generate(key, prompt + " ", **GREEDY))


def test_an_answer_that_is_drawn_by_chance_is_not_kept_unless_that_is_asked_for(gateway: Gateway, key: Key) -> None:
    prompt, hot = unique(), {"temperature": 1, "max_new_tokens": 4}
    assert [cached(gateway.generate(key, prompt, **hot)) for _ in range(2)] == [False, False]
    assert [cached(gateway.generate(key, prompt, **hot, cache=True)) for _ in range(2)] == [False, True]


def test_a_seed_makes_a_drawn_answer_one_that_is_kept(gateway: Gateway, key: Key) -> None:
    prompt, seeded = unique(), {"temperature": 1, "seed": 5, "max_new_tokens": 4}
    assert [cached(gateway.generate(key, prompt, **seeded)) for _ in range(2)] == [False, True]
    assert not cached(gateway.generate(key, prompt, **{**seeded, "seed": 6}))


@pytest.mark.parametrize(
    ("wish", "second", "third"),
    [({"cache": False}, False, False), ({"headers": {"Cache-Control": "no-store"}}, False, False),
     ({"headers": {"Cache-Control": "no-cache"}}, False, True)],
    ids=str,
)  # fmt: skip
def test_who_does_not_want_the_cache_does_not_get_it(
    gateway: Gateway, key: Key, wish: dict[str, Any], second: bool, third: bool
) -> None:
    prompt = unique()
    assert not cached(gateway.generate(key, prompt, **GREEDY, **wish))
    assert cached(gateway.generate(key, prompt, **GREEDY, **wish)) is second
    assert cached(gateway.generate(key, prompt, **GREEDY)) is third


def test_an_answer_of_one_tenant_is_not_given_to_another(gateway: Gateway, new_key: MakeKey) -> None:
    prompt = unique()
    mine, theirs = new_key(tenant=unique("a-")), new_key(tenant=unique("b-"))
    assert [cached(gateway.generate(mine, prompt, **GREEDY)) for _ in range(2)] == [False, True]
    assert not cached(gateway.generate(theirs, prompt, **GREEDY))


def test_two_keys_of_a_tenant_share_what_is_kept(gateway: Gateway, new_key: MakeKey) -> None:
    prompt, tenant = unique(), unique("shared-")
    assert not cached(gateway.generate(new_key(tenant=tenant), prompt, **GREEDY))
    assert cached(gateway.generate(new_key(tenant=tenant), prompt, **GREEDY))


def test_equal_questions_at_the_same_moment_are_computed_once(gateway: Gateway, key: Key) -> None:
    prompt = unique()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: gateway.generate(key, prompt, **GREEDY), range(8)))
    assert sorted(cached(answer) for answer in answers) == [False, *[True] * 7]
    assert len({answer.json()["output"] for answer in answers}) == 1


def test_a_request_under_an_idempotency_key_is_answered_again_and_charged_once(gateway: Gateway, key: Key) -> None:
    asked = {"temperature": 1, "headers": {"Idempotency-Key": unique("once-")}}
    prompt = unique()
    first = gateway.generate(key, prompt, **asked)
    assert first.status_code == 200, first.text
    used = gateway.usage(key)["totals"]
    again = gateway.generate(key, prompt, **asked)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert gateway.usage(key)["totals"] == used
    other = gateway.generate(key, unique(), **asked)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_the_whole_way_of_a_team(gateway: Gateway, new_key: MakeKey) -> None:
    tenant = unique("team-")
    ann, bob = new_key(tenant=tenant, user_id="ann"), new_key(tenant=tenant, user_id="bob")
    prompt, said = unique(), 0
    for key in (ann, bob, ann):
        answer = gateway.call("POST", GENERATE, {"prompt": prompt, **GREEDY}, key=key.secret)
        assert answer.status_code == 200
        said += 1
    report = gateway.call("GET", f"/v1/admin/usage?group_by=user&tenant={tenant}").json()
    rows = {row["user_id"]: (row["requests"], row["cached_requests"]) for row in report["results"]}
    assert rows == {"ann": (2, 1), "bob": (1, 1)}
    logs = gateway.call("GET", f"/v1/admin/logs?tenant={tenant}").json()["results"]
    assert [entry["outcome"] for entry in logs] == ["done"] * said
    assert prompt not in str(logs)
