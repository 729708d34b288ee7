"""Limits, quotas, accounts and tenants on both databases, and between processes."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.keys import (
    UNLIMITED,
    APIKeyManager,
    Authority,
    KeyPatch,
    KeyRecord,
    OwnLimits,
    OwnQuota,
    TenantRecord,
    Which,
)
from trainyard.core.keys.store.keys import ids_of_account
from trainyard.core.keys.store.keys import keys as table
from trainyard.core.settings import LimitSettings

PEPPER = b"p" * 32
MOST = OwnLimits(1_000_000_000, 10**15, 1_000_000)
LARGEST = OwnQuota(10**15, 10**15, "America/Argentina/ComodRivadavia", None, 253_402_300_799.5)


@pytest.fixture
def keys(any_database: Database, clock: FakeClock) -> APIKeyManager:
    return APIKeyManager(any_database, PEPPER, clock)


@pytest.fixture
def others(database_url: str, any_database: Database, clock: FakeClock) -> Iterator[APIKeyManager]:
    """The key store of another process."""
    database = Database(database_url)
    yield APIKeyManager(database, PEPPER, clock)
    database.close()


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        (OwnLimits(), OwnQuota()),
        (MOST, LARGEST),
        (OwnLimits(UNLIMITED, None, 1), OwnQuota(1, None, "UTC", 31)),
    ],
)
def test_what_is_set_is_read_back(keys: APIKeyManager, limits: OwnLimits, quota: OwnQuota) -> None:
    made = keys.create("ada", limits=limits, quota=quota).record
    assert keys.show(made.id) == made
    assert (made.limits, made.quota) == (limits, quota)
    changed = keys.update(keys.create("bob").record.id, KeyPatch(limits=_stated(limits), quota=_stated(quota)))
    assert (keys.show(changed.id).limits, keys.show(changed.id).quota) == (limits, quota)


def _stated(own: OwnLimits | OwnQuota) -> dict[str, object]:
    return {name: getattr(own, name) for name in own.__dataclass_fields__}


def test_a_patch_changes_the_row_and_keeps_its_last_use(keys: APIKeyManager, clock: FakeClock) -> None:
    new = keys.create("ada", "laptop", scopes="train", limits=OwnLimits(requests=5))
    clock.advance(3)
    keys.authenticate(new.key)
    used = clock.now()
    keys.flush()
    end = clock.now() + 60
    keys.update(new.record.id, KeyPatch(scopes="train,admin", expires_at=end, limits={"tokens": 9}))
    shown = keys.show(new.record.id)
    assert (shown.description, shown.scopes, shown.expires_at) == ("laptop", frozenset({"train", "admin"}), end)
    assert (shown.limits, shown.last_used_at) == (OwnLimits(5, 9), used)
    assert keys.authenticate(new.key).is_admin


def test_a_chain_of_rotations_is_one_account(keys: APIKeyManager, any_database: Database, clock: FakeClock) -> None:
    chain = [keys.create("ada", limits=OwnLimits(requests=5), quota=OwnQuota(tokens=9)).record]
    keys.create("bob")
    for _ in range(2):
        clock.advance(1)
        chain.append(keys.rotate_key(chain[-1].id, overlap_s=0.5).record)
    keys.revoke(chain[1].id)
    assert {record.account_id for record in chain} == {chain[0].id}
    assert {(record.limits, record.quota) for record in chain} == {(chain[0].limits, chain[0].quota)}
    with any_database.read() as connection:
        found = connection.execute(select(table.c.id).where(table.c.id.in_(ids_of_account(chain[0].id)))).scalars()
        assert set(found) == {record.id for record in chain}


def test_changes_in_another_process_are_seen_within_a_second(
    keys: APIKeyManager, others: APIKeyManager, clock: FakeClock
) -> None:
    new = keys.create("ada", tenant="lab")
    who = others.authenticate(new.key)
    keys.update(new.record.id, KeyPatch(limits={"requests": 5}))
    keys.tenants.set("lab", OwnLimits(tokens=7), OwnQuota())
    clock.advance(1)
    others.authenticate(new.key)
    key, tenant = others.subjects(who)
    assert (key.limits.requests, tenant.limits.tokens) == (5, 7)
    keys.tenants.clear("lab")
    clock.advance(1)
    others.authenticate(new.key)
    assert others.subjects(who)[1].limits.tokens is None


@pytest.mark.parametrize("key_id", ["", "key_none", "a\x00", "ä", "k" * 65, "' OR 1=1 --"])
def test_what_names_no_key_is_not_found_on_either_database(keys: APIKeyManager, key_id: str) -> None:
    keys.create("ada")
    for act in (keys.show, keys.revoke, keys.rotate_key):
        with pytest.raises(errors.NotFound):
            act(key_id)


def test_pages_are_in_order_and_count_everything(keys: APIKeyManager, clock: FakeClock) -> None:
    made: list[KeyRecord] = []
    for scopes in ("train", "admin", "train,admin", "generate"):
        made.append(keys.create("ada", tenant="a_b", scopes=scopes).record)
        clock.advance(1)
    keys.create("ada", tenant="axb")
    ids = [record.id for record in made]

    def page(limit: int = 10, offset: int = 0, **which: str) -> tuple[list[str], int]:
        found, total = keys.page(Which(tenant="a_b", **which), limit, offset)  # type: ignore[arg-type]
        return [record.id for record in found], total

    assert page() == (ids, 4)
    assert page(2, 1) == (ids[1:3], 4)
    assert page(10, 4) == ([], 4)
    assert page(scope="admin") == (ids[1:3], 2)
    assert page(user="bob") == ([], 0)
    keys.revoke(ids[0])
    keys.update(ids[1], KeyPatch(expires_at=clock.now() + 1))
    clock.advance(1)
    assert page(status="live") == (ids[1:], 3)
    assert page(status="active") == (ids[2:], 2)
    assert page(status="expired") == (ids[1:2], 1)
    assert page(status="revoked") == (ids[:1], 1)
    assert page(status="all") == (ids, 4)


def test_tenants_are_those_with_keys_or_bars(keys: APIKeyManager, clock: FakeClock) -> None:
    keys.create("ada", tenant="b")
    keys.revoke(keys.create("ada", tenant="c").record.id)
    keys.tenants.set("a", MOST, LARGEST)
    found, total = keys.tenants.page(10, 0)
    assert found == [TenantRecord("a", MOST, LARGEST, clock.now()), TenantRecord("b", key_count=1), TenantRecord("c")]
    assert (total, keys.tenants.page(1, 1)[0]) == (3, found[1:2])
    clock.advance(1)
    changed = keys.tenants.update("a", limits={"tokens": None}, quota=None)
    assert changed == TenantRecord("a", OwnLimits(10**9, None, 10**6), OwnQuota(), clock.now())
    assert keys.tenants.show("a") == changed
    assert keys.tenants.set("b", OwnLimits(UNLIMITED), OwnQuota()).limits == OwnLimits()
    with pytest.raises(errors.NotFound, match="no tenant 'x'"):
        keys.tenants.show("x")
    with pytest.raises(errors.NotFound, match="no tenant 'x'"):
        keys.tenants.update("x", limits={}, quota={})


def _authority(keys: APIKeyManager, record: KeyRecord) -> Authority:
    return keys.authority(record.principal())


def test_of_two_last_administrators_who_revoke_each_other_one_stays(keys: APIKeyManager, others: APIKeyManager) -> None:
    first, second = keys.create("one").record, keys.create("two").record
    others.refresh()
    acts = [
        (keys, _authority(keys, first), second.id),
        (others, _authority(others, second), first.id),
    ]
    barrier, outcomes = threading.Barrier(2), list[str]()

    def act(manager: APIKeyManager, by: Authority, key_id: str) -> None:
        barrier.wait()
        try:
            manager.revoke(key_id, by=by)
            outcomes.append("revoked")
        except errors.Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=act, args=one) for one in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["last_admin_key", "revoked"]
    assert keys.page(Which(scope="admin", status="active"), 10)[1] == 1


@pytest.mark.parametrize("ends", ["revoke", "scopes", "other expired", "other replaced"])
def test_the_last_usable_administrator_stays(keys: APIKeyManager, clock: FakeClock, ends: str) -> None:
    first = keys.create("one").record
    by = _authority(keys, first)
    spare = keys.create("two", expires_at=clock.now() + 5).record
    if ends == "other expired":
        clock.advance(5)
    elif ends == "other replaced":
        keys.revoke(keys.rotate_key(spare.id, overlap_s=4).record.id)
    else:
        keys.revoke(spare.id, by=by)

    def end() -> KeyRecord:
        if ends == "scopes":
            return keys.update(first.id, KeyPatch(scopes="train"), by=by)
        return keys.revoke(first.id, by=by)

    with pytest.raises(errors.Conflict) as caught:
        end()
    assert caught.value.code == "last_admin_key"
    assert keys.show(first.id) == first
    keys.update(first.id, KeyPatch(description="still there"), by=by)
    assert keys.rotate_key(first.id, by=by).record.principal().is_admin  # rotating it is no way out of the house
    keys.revoke(first.id)  # the owner of the data directory may do anything


def test_keys_that_were_rotated_before_accounts_existed_get_them(database_url: str, clock: FakeClock) -> None:
    database = Database(database_url)
    database.migrate("0002")
    chain = [("key_a", "key_b"), ("key_b", "key_c"), ("key_c", None), ("key_x", None)]
    insert = text(
        "INSERT INTO core_keys (id, tenant, owner, description, prefix, digest, scopes, created_at, replaced_by) "
        "VALUES (:id, 't', 'u', '', 'sk-', :id, 'train', 1, :next)"
    )
    with database.begin() as connection:
        for key_id, next_id in chain:
            connection.execute(insert, {"id": key_id, "next": next_id})
    database.migrate()
    keys = APIKeyManager(database, PEPPER, clock, LimitSettings())
    accounts = {record.id: record.account_id for record in keys.page(Which(), 10)[0]}
    assert accounts == {"key_a": "key_a", "key_b": "key_a", "key_c": "key_a", "key_x": "key_x"}
    database.close()
