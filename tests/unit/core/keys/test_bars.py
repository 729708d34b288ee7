"""Limits and quotas as they are set: bounds, defaults, and patches as RFC 7396 has them."""

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import errors
from trainyard.core.keys import UNLIMITED, KeyPatch, KeyRecord, OwnLimits, OwnQuota, bars, minting
from trainyard.core.limits.types import Limits, Quota
from trainyard.core.settings import LimitSettings

DEFAULTS = LimitSettings(requests=60, tokens=1000, time_zone="Europe/Berlin")
NOW = 1_700_000_000.0
RECORD = KeyRecord("key_1", "t", "u", "", "sk-", "0", frozenset({"train"}), NOW)


@pytest.mark.parametrize(
    ("own", "of_key", "of_tenant"),
    [
        (OwnLimits(), Limits(60, 1000, None), Limits()),
        (OwnLimits(5, None, 2), Limits(5, 1000, 2), Limits(5, None, 2)),
        (OwnLimits(UNLIMITED, UNLIMITED, UNLIMITED), Limits(), Limits()),
        (OwnLimits(99, 2000), Limits(99, 2000), Limits(99, 2000)),
    ],
)
def test_a_key_has_the_servers_defaults_where_nothing_is_set_and_a_tenant_has_none(
    own: OwnLimits, of_key: Limits, of_tenant: Limits
) -> None:
    assert own.effective(DEFAULTS) == of_key
    assert own.effective(None) == of_tenant


@pytest.mark.parametrize(
    ("own", "effective"),
    [
        (OwnQuota(), Quota(None, None, "Europe/Berlin", 1)),
        (OwnQuota(5, 6, "UTC", 31), Quota(5, 6, "UTC", 31)),
        (OwnQuota(reset_at=9.0), Quota(time_zone="Europe/Berlin", reset_at=9.0)),
    ],
)
def test_a_quota_begins_its_month_on_the_first_in_the_servers_zone_unless_told_otherwise(
    own: OwnQuota, effective: Quota
) -> None:
    assert own.effective(DEFAULTS) == effective


@pytest.mark.parametrize(
    ("make", "values", "param"),
    [
        (OwnLimits, {"requests": -1}, "limits.requests"),
        (OwnLimits, {"requests": 1_000_000_001}, "limits.requests"),
        (OwnLimits, {"tokens": 1.5}, "limits.tokens"),
        (OwnLimits, {"tokens": True}, "limits.tokens"),
        (OwnLimits, {"concurrency": 1_000_001}, "limits.concurrency"),
        (OwnQuota, {"tokens": 0}, "quota.tokens"),
        (OwnQuota, {"cost_micros": 10**15 + 1}, "quota.cost_micros"),
        (OwnQuota, {"time_zone": ""}, "quota.time_zone"),
        (OwnQuota, {"time_zone": "../etc/passwd"}, "quota.time_zone"),
        (OwnQuota, {"day": 0}, "quota.day"),
        (OwnQuota, {"reset_at": float("nan")}, "quota.reset_at"),
        (OwnQuota, {"reset_at": float("inf")}, "quota.reset_at"),
        (OwnQuota, {"reset_at": 5.0, "day": 1}, "quota.reset_at"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(make: Any, values: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=param) as caught:
        make(**values)
    assert caught.value.param == param


@pytest.mark.parametrize(("zone", "hint"), [("Europe/Berln", "did you mean Europe/Berlin?"), ("@@@", "IANA name")])
def test_an_unknown_zone_is_refused_with_the_nearest(zone: str, hint: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        bars.check_zone(zone, "quota.time_zone")
    assert hint in caught.value.message


def test_a_patch_of_something_else_is_refused_with_what_there_is() -> None:
    with pytest.raises(errors.InvalidRequest, match="valid: requests, tokens, concurrency") as caught:
        bars.patched(OwnLimits(), {"rpm": 5}, "limits")
    assert caught.value.param == "limits.rpm"


# ------------------------------------------------------------------ a patch is a merge (RFC 7396)

MAYBE = st.none() | st.integers(1, 1000)
LIMITS = st.fixed_dictionaries({}, optional={"requests": MAYBE, "tokens": MAYBE, "concurrency": MAYBE | st.just(0)})
QUOTAS = st.fixed_dictionaries(
    {},
    optional={
        "tokens": MAYBE,
        "cost_micros": MAYBE,
        "time_zone": st.none() | st.sampled_from(["UTC", "Asia/Tokyo"]),
        "day": st.none() | st.integers(1, 31),
    },
)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, where null means "not there", as in our records."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def stated(own: OwnLimits | OwnQuota) -> dict[str, Any]:
    return {name: value for name, value in asdict(own).items() if value is not None}


@given(before=LIMITS, patch=LIMITS | st.none())
def test_limits_are_patched_as_rfc_7396_merges(before: dict[str, Any], patch: dict[str, Any] | None) -> None:
    own = bars.patched(OwnLimits(), before, "limits")
    expected = merged({"limits": stated(own)}, {"limits": patch}).get("limits", {})
    assert stated(bars.patched(own, patch, "limits")) == expected


@given(before=QUOTAS, patch=QUOTAS | st.none())
def test_quotas_are_patched_as_rfc_7396_merges(before: dict[str, Any], patch: dict[str, Any] | None) -> None:
    own = bars.patched(OwnQuota(), before, "quota")
    expected = merged({"quota": stated(own)}, {"quota": patch}).get("quota", {})
    assert stated(bars.patched(own, patch, "quota")) == expected


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text("abc ", max_size=5),
        "scopes": st.lists(st.sampled_from(["train", "generate", "admin"]), min_size=1),
        "expires_at": st.none() | st.floats(NOW + 1, NOW + 1e6),
        "limits": st.none() | LIMITS,
        "quota": st.none() | QUOTAS,
    },
)


@given(first=WISHES, second=WISHES)
def test_a_patch_of_a_key_changes_what_it_names_and_doing_it_twice_is_doing_it_once(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    before = minting.patch(RECORD, KeyPatch(**first), NOW)
    after = minting.patch(before, KeyPatch(**second), NOW)
    for name in ("description", "scopes", "expires_at", "limits", "quota"):
        if name not in second:
            assert getattr(after, name) == getattr(before, name)
    if "scopes" in second:
        assert after.scopes == frozenset(second["scopes"])
    if "expires_at" in second:
        assert after.expires_at == second["expires_at"]
    assert minting.patch(after, KeyPatch(**second), NOW) == after
    untouched = ("id", "tenant", "user", "prefix", "digest", "created_at", "revoked_at", "replaced_by", "account")
    assert all(getattr(after, name) == getattr(RECORD, name) for name in untouched)


@given(own=LIMITS, quota=QUOTAS)
def test_a_row_gives_back_what_was_laid_out(own: dict[str, Any], quota: dict[str, Any]) -> None:
    limits, period = bars.patched(OwnLimits(), own, "limits"), bars.patched(OwnQuota(), quota, "quota")
    assert bars.of_values(list(bars.columns(limits, period).values())) == (limits, period)
