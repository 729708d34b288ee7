import pytest

from tests.unit.core.http.usage.conftest import START, Office
from trainyard.core.keys import OwnLimits, OwnQuota

_PATH = "/v1/me/usage"
_MONTH = (START - 13 * 3600, START - 13 * 3600 + 31 * 86_400)
"""January 2026 in Berlin."""


def test_a_key_sees_its_limits_its_quota_and_what_it_used(office: Office) -> None:
    office.used(office.boss, model="big")
    office.used(office.boss, at=_MONTH[0] - 1)
    office.used(office.ada)
    answer = office.get(office.boss, _PATH).json()
    assert (answer["key_id"], answer["tenant"], answer["user_id"]) == (office.boss.record.id, "lab", "boss")
    key, tenant = answer["standings"]
    assert key["scope"] == "key"
    assert key["name"] == office.boss.record.id
    assert key["limits"] == {"requests": 100, "tokens": None, "concurrency": None, "window_s": 60.0}
    assert key["quota"] == {
        "tokens": {"limit": 1000, "used": 30, "left": 970},
        "cost_micros": {"limit": 50, "used": 7, "left": 43},
        "since": _MONTH[0],
        "resets_at": _MONTH[1],
        "time_zone": "Europe/Berlin",
    }
    assert (tenant["scope"], tenant["name"], tenant["quota"]["tokens"]) == ("tenant", "lab", None)
    assert answer["period"] == {"since": _MONTH[0], "until": _MONTH[1], "time_zone": "Europe/Berlin"}
    assert (answer["totals"]["requests"], answer["totals"]["total_tokens"]) == (1, 30)
    assert [(row["model"], row["requests"]) for row in answer["by_model"]] == [("big", 1)]
    assert [(row["day"], row["requests"]) for row in answer["by_day"]] == [("2026-01-01", 1)]


def test_any_key_may_ask_and_a_stranger_may_not(office: Office) -> None:
    for scope in ("train", "execute", "graph", "loadtest", "generate", "admin"):
        assert office.get(office.keys.create("x", scopes=scope), _PATH).status_code == 200
    assert office.http.get(_PATH).json()["code"] == "missing_api_key"


def test_asking_costs_nothing(office: Office) -> None:
    key = office.keys.create("x", limits=OwnLimits(requests=1, concurrency=1), quota=OwnQuota(tokens=1))
    for _ in range(3):
        answer = office.get(key, _PATH)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if "ratelimit" in name]
    assert answer.json()["totals"]["requests"] == 0


def test_a_rotated_key_goes_on_with_the_account_of_the_first(office: Office) -> None:
    office.used(office.boss)
    new = office.keys.rotate_key(office.boss.record.id)
    office.used(new)
    answer = office.get(new, _PATH).json()
    assert answer["key_id"] == new.record.id
    assert answer["standings"][0]["name"] == office.boss.record.id
    assert answer["standings"][0]["quota"]["tokens"]["used"] == 60
    assert answer["totals"]["requests"] == 2


def test_a_tenants_quota_counts_all_its_keys(office: Office) -> None:
    office.keys.tenants.set("lab", OwnLimits(), OwnQuota(tokens=45))
    office.used(office.boss)
    office.used(office.ada)
    tenant = office.get(office.ada, _PATH).json()["standings"][1]
    assert tenant["quota"]["tokens"] == {"limit": 45, "used": 60, "left": 0}


@pytest.mark.parametrize(("day", "since"), [(1, _MONTH[0]), (31, _MONTH[0] - 86_400), (2, _MONTH[0] - 30 * 86_400)])
def test_the_period_is_that_of_the_keys_quota(office: Office, day: int, since: float) -> None:
    key = office.keys.create("x", quota=OwnQuota(day=day))
    assert office.get(key, _PATH).json()["period"]["since"] == since
