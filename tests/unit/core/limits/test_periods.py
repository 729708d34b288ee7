from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import errors
from trainyard.core.limits import periods
from trainyard.core.limits.types import Quota


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOON_31_JANUARY = at("2026-01-31T12:00")


@pytest.mark.parametrize(
    ("quota", "moment", "since", "until"),
    [
        pytest.param(Quota(), "2026-11-20T14:00", "2026-11-01T00:00", "2026-12-01T00:00", id="a calendar month"),
        pytest.param(Quota(), "2026-11-01T00:00", "2026-11-01T00:00", "2026-12-01T00:00", id="its first second"),
        pytest.param(Quota(), "2026-10-31T23:59:59", "2026-10-01T00:00", "2026-11-01T00:00", id="the last one before"),
        pytest.param(Quota(), "2026-12-31T23:00", "2026-12-01T00:00", "2027-01-01T00:00", id="over the year"),
        pytest.param(Quota(day=15), "2026-03-14T00:00", "2026-02-15T00:00", "2026-03-15T00:00", id="another day"),
        pytest.param(Quota(day=31), "2026-02-28T00:00", "2026-02-28T00:00", "2026-03-31T00:00", id="short February"),
        pytest.param(Quota(day=30), "2028-03-01T00:00", "2028-02-29T00:00", "2028-03-30T00:00", id="leap February"),
        pytest.param(Quota(day=31), "2026-05-01T00:00", "2026-04-30T00:00", "2026-05-31T00:00", id="short April"),
        # Berlin is UTC+1 in winter and UTC+2 from 2026-03-29.
        pytest.param(
            Quota(time_zone="Europe/Berlin"), "2026-03-15T00:00", "2026-02-28T23:00", "2026-03-31T22:00", id="a zone"
        ),
        # 2018-11-04 began at 01:00 in São Paulo (UTC-3, then UTC-2): 00:00 was skipped.
        pytest.param(
            Quota(time_zone="America/Sao_Paulo", day=4),
            "2018-11-05T00:00",
            "2018-11-04T03:00",
            "2018-12-04T02:00",
            id="a midnight that is skipped",
        ),
        # Havana went back from 01:00 to 00:00 on 2026-11-01 (UTC-4, then UTC-5): midnight comes twice.
        pytest.param(
            Quota(time_zone="America/Havana"),
            "2026-11-01T04:30",
            "2026-11-01T04:00",
            "2026-12-01T05:00",
            id="a midnight that comes twice",
        ),
        # Samoa had no 2011-12-30: from UTC-10 it went to UTC+14 at 2011-12-30T10:00Z.
        pytest.param(
            Quota(time_zone="Pacific/Apia", day=30),
            "2011-12-30T10:00",
            "2011-12-30T10:00",
            "2012-01-29T10:00",
            id="a day that is skipped",
        ),
        pytest.param(
            Quota(reset_at=NOON_31_JANUARY), "2026-01-30T00:00", "2026-01-01T00:00", "2026-01-31T12:00", id="cut short"
        ),
        pytest.param(
            Quota(reset_at=NOON_31_JANUARY),
            "2025-12-30T00:00",
            "2025-12-01T00:00",
            "2026-01-01T00:00",
            id="long before",
        ),
        pytest.param(
            Quota(reset_at=NOON_31_JANUARY), "2026-01-31T12:00", "2026-01-31T12:00", "2026-02-28T12:00", id="anchored"
        ),
        pytest.param(
            Quota(reset_at=NOON_31_JANUARY),
            "2026-04-01T00:00",
            "2026-03-31T12:00",
            "2026-04-30T12:00",
            id="months later, not drifting from the 31st",
        ),
        pytest.param(
            Quota(reset_at=NOON_31_JANUARY + 0.9),
            "2026-01-31T12:00",
            "2026-01-31T12:00",
            "2026-02-28T12:00",
            id="whole seconds",
        ),
        # Anchored at 12:00 UTC = 13:00 in Berlin; at the end of March 13:00 is 11:00 UTC.
        pytest.param(
            Quota(reset_at=NOON_31_JANUARY, time_zone="Europe/Berlin"),
            "2026-03-20T00:00",
            "2026-02-28T12:00",
            "2026-03-31T11:00",
            id="anchored at a local time",
        ),
    ],
)
def test_the_period_of_a_moment(quota: Quota, moment: str, since: str, until: str) -> None:
    assert periods.period_at(quota, at(moment)) == periods.Period(at(since), at(until))


quotas = st.builds(
    Quota,
    time_zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Pacific/Apia", "Australia/Lord_Howe"]
    ),
    day=st.integers(1, 31),
    reset_at=st.none() | st.integers(at("2009-01-01"), at("2030-01-01")).map(float),
)
moments = st.integers(at("2008-01-01"), at("2032-01-01"))


@given(quota=quotas, moment=moments, fraction=st.floats(0, 0.999))
def test_a_moment_lies_in_its_period(quota: Quota, moment: int, fraction: float) -> None:
    period = periods.period_at(quota, moment + fraction)
    assert period.since <= moment + fraction < period.until
    assert period.until - period.since <= 32 * 86_400


@given(quota=quotas, moment=moments)
def test_periods_tile_time(quota: Quota, moment: int) -> None:
    period = periods.period_at(quota, moment)
    assert periods.period_at(quota, period.since) == period
    assert periods.period_at(quota, period.until - 0.001) == period
    assert periods.period_at(quota, period.until).since == period.until
    assert periods.period_at(quota, period.since - 0.001).until == period.since


@pytest.mark.parametrize(
    ("quota", "param"),
    [
        (Quota(time_zone="Berlin"), "time_zone"),
        (Quota(time_zone=""), "time_zone"),
        (Quota(time_zone="../etc/passwd"), "time_zone"),
        (Quota(time_zone="Europe"), "time_zone"),
        (Quota(day=0), "day"),
        (Quota(day=32), "day"),
        (Quota(reset_at=-1.0), "reset_at"),
        (Quota(reset_at=1_700_000_000_000.0), "reset_at"),
    ],
)
def test_a_quota_without_periods_is_refused(quota: Quota, param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        periods.check(quota)
    assert caught.value.param == param


def test_a_quota_with_periods_is_accepted() -> None:
    periods.check(Quota(time_zone="Asia/Kathmandu", day=31, reset_at=1_800_000_000.5))
