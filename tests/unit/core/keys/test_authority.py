"""Who may give what: never more than he has."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import errors
from trainyard.core.keys import Authority, KeyRecord, OwnLimits, OwnQuota
from trainyard.core.keys.authority import is_above
from trainyard.core.limits.types import Subject
from trainyard.core.settings import LimitSettings

DEFAULTS = LimitSettings(requests=100, time_zone="UTC")
BOSS = KeyRecord(
    "key_boss", "lab", "boss", "", "sk-", "0", frozenset({"admin", "generate"}), 0.0,
    limits=OwnLimits(requests=60), quota=OwnQuota(tokens=1000),
)  # fmt: skip
ROOT = replace(BOSS, id="key_root", tenant="default")
OTHER = replace(BOSS, id="key_other", scopes=frozenset({"generate"}))


def authority(key: KeyRecord) -> Authority:
    subject = Subject(f"key:{key.account_id}", key.limits.effective(DEFAULTS), key.quota.effective(DEFAULTS))
    return Authority(key, subject, DEFAULTS)


def refusal(act: Any, *records: KeyRecord) -> str | None:
    try:
        act(*records)
    except errors.Forbidden as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("change", "boss", "root"),
    [
        ({}, None, None),
        ({"tenant": "default"}, "foreign_tenant", None),
        ({"tenant": "elsewhere"}, "foreign_tenant", None),
        ({"scopes": frozenset({"train"})}, "scope_not_held", "scope_not_held"),
        ({"limits": OwnLimits(requests=61)}, "limit_above_own", None),
        ({"limits": OwnLimits()}, "limit_above_own", None),  # the default of 100 is more than his 60
        ({"limits": OwnLimits(requests=59, tokens=10**9)}, None, None),  # he has no bar on tokens
        ({"limits": OwnLimits(requests=0)}, "limit_above_own", None),
        ({"quota": OwnQuota()}, "limit_above_own", None),
        ({"quota": OwnQuota(tokens=1000, day=9)}, None, None),
    ],
)
def test_who_makes_a_key_gives_no_more_than_he_has(change: dict[str, Any], boss: str | None, root: str | None) -> None:
    wanted = replace(OTHER, **change)
    assert refusal(authority(BOSS).check_made, wanted) == boss
    assert refusal(authority(ROOT).check_made, wanted) == root


RICH = replace(OTHER, limits=OwnLimits(requests=500), quota=OwnQuota(), scopes=frozenset({"train", "generate"}))


@pytest.mark.parametrize(
    ("before", "change", "code"),
    [
        (OTHER, {}, None),
        (RICH, {"description": "x"}, None),  # what an operator gave stays
        (RICH, {"limits": OwnLimits(requests=400)}, None),  # taking away is allowed
        (RICH, {"limits": OwnLimits(requests=501)}, "limit_above_own"),
        (RICH, {"quota": OwnQuota(tokens=5000)}, None),
        (RICH, {"scopes": frozenset({"train"})}, None),
        (RICH, {"scopes": frozenset({"train", "graph"})}, "scope_not_held"),
        (OTHER, {"limits": OwnLimits(requests=60, tokens=5)}, None),
        (OTHER, {"quota": OwnQuota(tokens=1001)}, "limit_above_own"),
        (OTHER, {"quota": OwnQuota(tokens=1000, day=5)}, None),
        (BOSS, {"quota": OwnQuota(tokens=1000, day=5)}, "own_quota_period"),
        (BOSS, {"quota": OwnQuota(tokens=1000, reset_at=5.0)}, "own_quota_period"),
        (BOSS, {"quota": OwnQuota(tokens=1000, time_zone="Asia/Tokyo")}, "own_quota_period"),
        (BOSS, {"quota": OwnQuota(tokens=999)}, None),
    ],
)
def test_who_changes_a_key_raises_nothing_above_his_own(
    before: KeyRecord, change: dict[str, Any], code: str | None
) -> None:
    assert refusal(authority(BOSS).check_changed, before, replace(before, **change)) == code


def test_a_rotated_key_counts_as_ones_own() -> None:
    rotated = replace(BOSS, id="key_next", account="key_boss")
    moved = replace(rotated, quota=OwnQuota(tokens=1000, day=9))
    assert refusal(authority(BOSS).check_changed, rotated, moved) == "own_quota_period"
    assert refusal(authority(rotated).check_changed, BOSS, replace(BOSS, quota=moved.quota)) == "own_quota_period"


ENDING = replace(BOSS, expires_at=50.0)


@pytest.mark.parametrize(
    ("before", "expires_at", "scopes", "code"),
    [
        (None, None, {"admin"}, "outlives_its_maker"),
        (None, 50.5, {"admin"}, "outlives_its_maker"),
        (None, 50.0, {"admin"}, None),
        (None, None, {"generate"}, None),
        (OTHER, None, {"generate", "admin"}, "outlives_its_maker"),
        (replace(OTHER, expires_at=40.0), 40.0, {"admin"}, None),
        (BOSS, None, {"admin", "generate"}, None),  # as it was
        (BOSS, 90.0, {"admin", "generate"}, None),  # shorter than before
        (ENDING, 60.0, {"admin", "generate"}, "outlives_its_maker"),
        (ENDING, None, {"admin", "generate"}, "outlives_its_maker"),
    ],
)
def test_whose_key_ends_makes_no_administrator_that_lasts_longer(
    before: KeyRecord | None, expires_at: float | None, scopes: set[str], code: str | None
) -> None:
    mine = authority(replace(ENDING, id="key_mine"))
    after = replace(before or OTHER, expires_at=expires_at, scopes=frozenset(scopes))
    if before is None:
        assert refusal(mine.check_made, after) == code
    else:
        assert refusal(mine.check_changed, before, after) == code


def test_only_operators_see_and_set_other_tenants() -> None:
    assert (authority(BOSS).sees("lab"), authority(BOSS).sees("default")) == (True, False)
    assert authority(ROOT).sees("lab")
    authority(ROOT).require_operator()
    assert refusal(authority(BOSS).require_operator) == "operators_only"


@pytest.mark.parametrize(
    ("wish", "bar", "above"),
    [(None, None, False), (5, None, False), (None, 5, True), (6, 5, True), (5, 5, False), (4, 5, False)],
)
def test_no_bar_is_above_every_bar(wish: int | None, bar: int | None, above: bool) -> None:
    assert is_above(wish, bar) == above


BAR = st.none() | st.integers(0, 5)
SCOPES = st.frozensets(st.sampled_from(["admin", "generate", "train"]), min_size=1)
END = st.none() | st.sampled_from([10.0, 20.0])


@st.composite
def keys(draw: st.DrawFn) -> KeyRecord:
    quota = draw(st.none() | st.integers(1, 5))
    return KeyRecord(
        "key_x", "lab", "u", "", "sk-", "0", draw(SCOPES), 0.0, expires_at=draw(END),
        limits=OwnLimits(draw(BAR), draw(BAR), draw(BAR)), quota=OwnQuota(quota, draw(st.none() | st.integers(1, 5))),
    )  # fmt: skip


@given(mine=keys(), wanted=keys())
def test_no_made_key_can_do_what_its_maker_cannot(mine: KeyRecord, wanted: KeyRecord) -> None:
    who = authority(replace(mine, id="key_mine", scopes=mine.scopes | {"admin"}))
    if refusal(who.check_made, wanted) is not None:
        return
    made = authority(wanted)
    assert wanted.scopes <= who.key.scopes
    for own, given_bar in zip(bars_of(who), bars_of(made), strict=True):
        assert own is None or (given_bar is not None and given_bar <= own)
    if "admin" in wanted.scopes and who.key.expires_at is not None:
        assert wanted.expires_at is not None
        assert wanted.expires_at <= who.key.expires_at


def bars_of(who: Authority) -> list[int | None]:
    limits, quota = who.subject.limits, who.subject.quota
    return [limits.requests, limits.tokens, limits.concurrency, quota.tokens, quota.cost_micros]
