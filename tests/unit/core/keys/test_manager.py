from pathlib import Path

import pytest
from sqlalchemy import text

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager, format
from trainyard.core.keys.live import FLUSH_S
from trainyard.core.keys.snapshot import Snapshot
from trainyard.core.keys.types import KeyRecord
from trainyard.core.settings import LimitSettings

PEPPER = b"p" * 32


@pytest.fixture
def keys(database: Database, clock: FakeClock) -> APIKeyManager:
    return APIKeyManager(database, PEPPER, clock)


@pytest.mark.parametrize("key", [None, "", "sk-", "invalid", "sk-" + "a" * 43, "tml-" + "a" * 43])
def test_what_is_no_known_key_is_nobody(keys: APIKeyManager, key: str | None) -> None:
    keys.generate_key("ada")
    assert keys.validate_key(key) is None
    with pytest.raises(errors.Unauthenticated, match=r"(?i)invalid api key") as caught:
        keys.authenticate(key)
    assert caught.value.code == "invalid_api_key"


def test_a_key_works_until_the_moment_of_its_expiry(keys: APIKeyManager, clock: FakeClock) -> None:
    key = keys.generate_key("ada", expires_at=clock.now() + 10)
    clock.advance(9.999)
    assert keys.validate_key(key) is not None
    clock.advance(0.001)
    with pytest.raises(errors.Unauthenticated, match="Invalid API key: it has expired"):
        keys.authenticate(key)
    assert [listed["status"] for listed in keys.list_keys()] == ["expired"]


def test_no_file_of_the_database_holds_a_key_or_its_body(database: Database, tmp_path: Path, clock: FakeClock) -> None:
    keys = APIKeyManager(database, PEPPER, clock)
    new = keys.create("ada", "laptop")
    rotated = keys.rotate_key(new.record.id)
    keys.validate_key(rotated.key)
    keys.flush()
    files = [path for path in tmp_path.iterdir() if path.name.startswith("trainyard.db")]
    stored = b"".join(path.read_bytes() for path in files)
    assert new.record.digest.encode() in stored
    for key in (new.key, rotated.key):
        assert key[:11].encode() in stored
        assert key.encode() not in stored
        assert key[11:].encode() not in stored
        assert key not in repr((new, rotated))
        assert key not in str(keys._load_keys())
        assert key not in str(keys.list_keys())


def test_a_list_shows_what_the_guide_names_and_never_the_digest(keys: APIKeyManager, clock: FakeClock) -> None:
    new = keys.create("ada", "laptop", scopes="train,admin")
    (listed,) = keys.list_keys("ada")
    assert listed == {
        "id": new.record.id,
        "prefix": new.key[:11],
        "source": "stored",
        "tenant": "default",
        "user_id": "ada",
        "description": "laptop",
        "scopes": ["admin", "train"],
        "status": "active",
        "created_at": clock.now(),
        "expires_at": None,
        "revoked_at": None,
        "last_used": None,
        "replaced_by": None,
        "account": new.record.id,
        "limits": {"requests": None, "tokens": None, "concurrency": None},
        "quota": {"tokens": None, "cost_micros": None, "time_zone": None, "day": None, "reset_at": None},
        "effective_limits": {"requests": None, "tokens": None, "concurrency": None},
        "effective_quota": {"tokens": None, "cost_micros": None, "time_zone": "UTC", "day": 1, "reset_at": None},
    }


def test_lists_are_cut_by_user_and_tenant(keys: APIKeyManager, clock: FakeClock) -> None:
    for user, tenant in (("ada", "a"), ("bob", "a"), ("ada", "b")):
        keys.create(user, tenant=tenant)
        clock.advance(1)
    owners = [(k["user_id"], k["tenant"]) for k in keys.list_keys("ada")]
    assert owners == [("ada", "a"), ("ada", "b")]
    assert [k["user_id"] for k in keys.list_keys(tenant="a")] == ["ada", "bob"]
    assert [k["tenant"] for k in keys.list_keys("ada", "b")] == ["b"]


@pytest.mark.parametrize("form", ["key", "tml", "id"])
def test_a_key_is_revoked_by_itself_or_by_its_id(keys: APIKeyManager, form: str) -> None:
    new = keys.create("ada")
    assert keys.revoke_key({"key": new.key, "tml": "tml-" + new.key[3:], "id": new.record.id}[form])
    assert keys.validate_key(new.key) is None
    assert keys.list_keys() == []


def test_revoking_nothing_says_so(keys: APIKeyManager) -> None:
    assert not keys.revoke_key("key_unknown")
    assert not keys.revoke_key("sk-" + "a" * 43)


def test_a_rotation_ends_no_later_than_the_key_would_have(keys: APIKeyManager, clock: FakeClock) -> None:
    old = keys.create("ada", expires_at=clock.now() + 5)
    new = keys.rotate_key(old.record.id, overlap_s=60)
    assert new.record.expires_at == clock.now() + 5
    clock.advance(5)
    assert keys.validate_key(old.key) is None


def test_a_rotation_without_overlap_ends_the_old_key_at_once(keys: APIKeyManager) -> None:
    old = keys.create("ada")
    new = keys.rotate_key(old.record.id)
    assert keys.validate_key(old.key) is None
    assert keys.validate_key(new.key) is not None


def test_rotating_what_cannot_be_rotated_says_why(keys: APIKeyManager, clock: FakeClock) -> None:
    with pytest.raises(errors.NotFound, match="key_none"):
        keys.rotate_key("key_none")
    old = keys.create("ada")
    new = keys.rotate_key(old.record.id, overlap_s=10)
    with pytest.raises(errors.Conflict, match=new.record.id) as caught:
        keys.rotate_key(old.record.id)
    assert caught.value.code == "key_already_rotated"
    keys.revoke_key(new.record.id)
    with pytest.raises(errors.NotFound):
        keys.rotate_key(new.record.id)
    short = keys.create("ada", expires_at=clock.now() + 1)
    clock.advance(1)
    with pytest.raises(errors.Conflict, match="expired"):
        keys.rotate_key(short.record.id)


@pytest.mark.parametrize("overlap_s", [-1.0, float("inf"), float("nan")])
def test_an_overlap_is_a_number_of_seconds(keys: APIKeyManager, overlap_s: float) -> None:
    with pytest.raises(errors.InvalidRequest, match="overlap_s"):
        keys.rotate_key(keys.create("ada").record.id, overlap_s)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"user": "a/b"}, "user"),
        ({"tenant": ""}, "tenant"),
        ({"scopes": "fly"}, "scopes"),
        ({"description": "x" * 501}, "description"),
        ({"description": "a\x00"}, "description"),
        ({"description": "a\ud800"}, "description"),
        ({"expires_at": 1.0}, "expires_at"),
        ({"expires_at": float("inf")}, "expires_at"),
        ({"expires_at": float("nan")}, "expires_at"),
    ],
)
def test_unusable_facts_are_refused_by_name(keys: APIKeyManager, arguments: dict[str, object], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        keys.create(**{"user": "ada", **arguments})  # type: ignore[arg-type]
    assert caught.value.param == param
    assert keys.list_keys() == []


def test_requests_do_not_write_the_last_use_before_it_is_due(
    keys: APIKeyManager, database: Database, clock: FakeClock
) -> None:
    def stored() -> object:
        with database.read() as connection:
            return connection.execute(text("SELECT last_used_at FROM core_keys")).scalar()

    key = keys.generate_key("ada")
    clock.advance(FLUSH_S - 1)
    keys.authenticate(key)
    first_use = clock.now()
    assert stored() is None
    clock.advance(1)
    keys.authenticate(key)  # the use before this one is written on the way
    assert stored() == first_use


def test_a_last_use_that_could_not_be_written_is_written_later(tmp_path: Path, clock: FakeClock) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    database = Database(url)
    database.migrate()
    keys = APIKeyManager(database, PEPPER, clock)
    keys.authenticate(keys.generate_key("ada"))
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE core_keys RENAME TO away"))
    keys.flush()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO core_keys"))
    assert keys.list_keys()[0]["last_used"] == clock.now()
    database.close()


def test_between_two_looks_at_the_epoch_no_query_is_needed(keys: APIKeyManager, clock: FakeClock) -> None:
    assert keys.is_stale_for(None)
    key = keys.generate_key("ada")
    assert not keys.is_stale_for(key)
    clock.advance(0.49)
    assert not keys.is_stale_for(key)
    clock.advance(0.01)
    assert keys.is_stale_for(key)
    keys.refresh()
    assert not keys.is_stale_for(key)
    keys.refresh()
    assert keys.recognise(key).user == "ada"


async def test_a_snapshot_is_current_until_something_changes_elsewhere_or_has_to_be_written(
    database: Database, clock: FakeClock
) -> None:
    here, elsewhere = APIKeyManager(database, PEPPER, clock), APIKeyManager(database, PEPPER, clock)
    assert not await here.is_current()  # nothing was read so far
    here.refresh()
    clock.advance(0.5)
    assert here.is_stale_for(None)
    assert await here.is_current()  # no key was ever made
    assert not here.is_stale_for(None)
    key = elsewhere.generate_key("ada")
    clock.advance(0.01)
    assert not await here.is_current()
    assert here.authenticate(key).user == "ada"
    here.set_defaults(LimitSettings(requests=1))
    assert await here.is_current()
    clock.advance(FLUSH_S)
    assert not await here.is_current()
    here.refresh()
    assert here.list_keys()[0]["last_used"] is not None


async def test_a_database_that_does_not_answer_makes_no_snapshot_current(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(f"sqlite:///{tmp_path / 'file.db'}")
    database.migrate()
    keys = APIKeyManager(database, PEPPER, clock)
    keys.refresh()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE core_epochs RENAME TO away"))
    clock.advance(1)
    with pytest.raises(errors.Unavailable):
        await keys.is_current()
    assert keys.is_stale_for(None)
    database.close()


def test_nobody_is_recognised_before_the_database_was_read(database: Database, clock: FakeClock) -> None:
    key = APIKeyManager(database, PEPPER, clock).generate_key("ada")
    unread = APIKeyManager(database, PEPPER, clock)
    with pytest.raises(errors.Unauthenticated, match="unknown"):
        unread.recognise(key)
    assert unread.authenticate(key).user == "ada"


def test_a_key_that_was_just_made_elsewhere_works_at_once(database: Database, clock: FakeClock) -> None:
    here, elsewhere = APIKeyManager(database, PEPPER, clock), APIKeyManager(database, PEPPER, clock)
    here.generate_key("ada")
    key = elsewhere.generate_key("ben")
    clock.advance(0.01)
    assert here.authenticate(key).user == "ben"


@pytest.mark.parametrize("wrong", [None, "", "sk-short", "Bearer x", "tml-" + "a" * 42])
def test_what_cannot_be_a_key_costs_no_query(keys: APIKeyManager, clock: FakeClock, wrong: str | None) -> None:
    keys.generate_key("ada")
    clock.advance(0.4)
    assert not keys.is_stale_for(wrong)
    assert keys.is_stale_for("sk-" + "a" * 43)  # it could have been made a moment ago


def test_keys_that_share_a_prefix_are_told_apart() -> None:
    def record(key: str) -> KeyRecord:
        return KeyRecord(
            "key_" + key[-1], "t", "u", "", key[:11], format.digest(key, PEPPER), frozenset({"train"}), 0.0
        )

    first, second, third = ("sk-" + "a" * 42 + end for end in "xyz")
    snapshot = Snapshot(1, [record(first), record(second)])
    assert [found.id for key in (first, second) if (found := snapshot.find(key, PEPPER))] == ["key_x", "key_y"]
    assert snapshot.find(third, PEPPER) is None
    assert snapshot.find(first, b"other pepper") is None
