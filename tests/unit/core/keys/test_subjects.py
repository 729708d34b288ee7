"""For whom the work of a key is limited, by a look into memory."""

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager, KeyPatch, OwnLimits, OwnQuota
from trainyard.core.limits.types import Limits, Quota
from trainyard.core.principal import Principal
from trainyard.core.settings import LimitSettings

DEFAULTS = LimitSettings(requests=100, time_zone="Europe/Berlin")


@pytest.fixture
def keys(database: Database, clock: FakeClock) -> APIKeyManager:
    return APIKeyManager(database, b"p" * 32, clock, DEFAULTS)


def test_a_key_and_its_tenant_are_the_subjects(keys: APIKeyManager) -> None:
    new = keys.create("ada", tenant="lab", limits=OwnLimits(tokens=5), quota=OwnQuota(tokens=9))
    keys.tenants.set("lab", OwnLimits(concurrency=3), OwnQuota(cost_micros=7, day=2))
    key, tenant = keys.subjects(new.record.principal())
    assert (key.name, tenant.name) == (f"key:{new.record.id}", "tenant:lab")
    assert (key.limits, key.quota) == (Limits(100, 5), Quota(9, time_zone="Europe/Berlin"))
    assert (tenant.limits, tenant.quota) == (Limits(concurrency=3), Quota(None, 7, "Europe/Berlin", 2))


def test_the_same_objects_come_until_something_changes(keys: APIKeyManager, clock: FakeClock) -> None:
    who = keys.create("ada").record.principal()
    first = keys.subjects(who)
    clock.advance(1)
    keys.refresh()
    assert keys.subjects(who) is first
    keys.create("bob")
    assert keys.subjects(who) is not first
    assert keys.subjects(who) == first


def test_rotated_keys_are_one_subject_with_what_is_set_for_the_newest(keys: APIKeyManager, clock: FakeClock) -> None:
    first = keys.create("ada", limits=OwnLimits(requests=5)).record
    clock.advance(1)
    second = keys.rotate_key(first.id, 60).record
    clock.advance(1)
    third = keys.rotate_key(second.id, 60).record
    names = {keys.subjects(record.principal())[0].name for record in (first, second, third)}
    assert names == {f"key:{first.id}"}
    keys.update(third.id, KeyPatch(limits={"requests": 7}))
    assert [keys.subjects(r.principal())[0].limits.requests for r in (first, second, third)] == [7, 7, 7]
    keys.revoke(first.id)
    assert keys.subjects(third.principal())[0].name == f"key:{first.id}"


@pytest.mark.parametrize("ask", ["subjects", "authority"])
def test_a_key_that_is_gone_is_nobodys(keys: APIKeyManager, database: Database, clock: FakeClock, ask: str) -> None:
    who = keys.create("ada").record.principal()
    keys.revoke(who.key_id)
    for manager in (keys, APIKeyManager(database, b"p" * 32, clock)):  # the second has read nothing yet
        with pytest.raises(errors.Unauthenticated, match="revoked"):
            getattr(manager, ask)(who)


def test_other_defaults_hold_at_once(keys: APIKeyManager) -> None:
    new = keys.create("ada")
    who = new.record.principal()
    keys.set_defaults(LimitSettings(requests=7, concurrency=2))
    assert keys.subjects(who)[0].limits == Limits(7, None, 2)
    assert keys.subjects(who)[0].quota.time_zone == "UTC"
    assert keys.authority(who).defaults == keys.defaults == LimitSettings(requests=7, concurrency=2)
    assert keys.recognise(new.key) == who


def test_defaults_given_before_the_first_use_hold(database: Database, clock: FakeClock) -> None:
    keys = APIKeyManager(database, b"p" * 32, clock)
    keys.set_defaults(DEFAULTS)
    assert keys.subjects(keys.create("ada").record.principal())[0].limits.requests == 100


def test_defaults_at_fault_change_nothing(keys: APIKeyManager, database: Database, clock: FakeClock) -> None:
    wrong = LimitSettings(time_zone="Mars/Olympus")
    with pytest.raises(errors.ConfigError) as caught:
        keys.set_defaults(wrong)
    assert caught.value.param == "limits.time_zone"
    assert keys.defaults == DEFAULTS
    with pytest.raises(errors.ConfigError):
        APIKeyManager(database, b"p" * 32, clock, wrong)


# ------------------------------------------------------------------ recognise_fresh


def test_a_fresh_snapshot_recognises_with_one_object_per_key(keys: APIKeyManager, clock: FakeClock) -> None:
    key = keys.generate_key("ada")
    first = keys.recognise_fresh(key)
    assert isinstance(first, Principal)
    assert keys.recognise_fresh("tml-" + key[3:]) is first is keys.recognise(key)
    clock.advance(0.49)
    assert keys.recognise_fresh(key) is first
    clock.advance(0.01)
    assert keys.recognise_fresh(key) is None


def test_an_unknown_key_is_judged_after_a_look_at_the_database(
    keys: APIKeyManager, database: Database, clock: FakeClock
) -> None:
    assert keys.recognise_fresh("sk-" + "a" * 43) is None  # nothing was read yet
    keys.generate_key("ada")
    with pytest.raises(errors.Unauthenticated):
        keys.recognise_fresh("sk-" + "a" * 43)
    clock.advance(0.01)
    assert keys.recognise_fresh("sk-" + "a" * 43) is None
    for wrong in (None, "", "sk-short"):
        with pytest.raises(errors.Unauthenticated, match="unknown"):
            keys.recognise_fresh(wrong)


def test_an_expired_key_is_refused_by_a_fresh_snapshot_too(keys: APIKeyManager, clock: FakeClock) -> None:
    key = keys.generate_key("ada", expires_at=clock.now() + 0.1)
    clock.advance(0.1)
    with pytest.raises(errors.Unauthenticated, match="expired"):
        keys.recognise_fresh(key)
