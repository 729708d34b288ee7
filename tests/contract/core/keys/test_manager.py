"""The life cycle of keys on both databases, and between processes."""

import threading

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock, SystemClock
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager

PEPPER = b"p" * 32


@pytest.fixture
def keys(any_database: Database, clock: FakeClock) -> APIKeyManager:
    return APIKeyManager(any_database, PEPPER, clock)


def test_a_key_tells_its_owner_and_scopes(keys: APIKeyManager) -> None:
    key = keys.generate_key("ada", "laptop", tenant="lab", scopes=["train"])
    who = keys.validate_key(key)
    assert who is not None
    assert (who.tenant, who.user, who.scopes) == ("lab", "ada", frozenset({"train"}))


def test_the_tinker_form_of_a_key_is_the_same_key(keys: APIKeyManager) -> None:
    key = keys.generate_key("ada")
    assert keys.validate_key("tml-" + key.removeprefix("sk-")) == keys.validate_key(key) is not None


def test_a_revoked_key_is_gone_and_others_stay(keys: APIKeyManager) -> None:
    first, second = keys.generate_key("ada"), keys.generate_key("ada")
    assert keys.revoke_key(first)
    assert keys.validate_key(first) is None
    assert keys.validate_key(second) is not None
    assert [key["prefix"] for key in keys.list_keys()] == [second[:11]]
    assert not keys.revoke_key(first)


def test_rotation_lets_both_keys_work_for_the_overlap(keys: APIKeyManager, clock: FakeClock) -> None:
    old = keys.create("ada", "laptop", tenant="lab", scopes="train")
    new = keys.rotate_key(old.record.id, overlap_s=60)
    assert (new.record.user, new.record.tenant, new.record.scopes) == ("ada", "lab", frozenset({"train"}))
    clock.advance(59)
    assert keys.validate_key(old.key) is not None
    clock.advance(1)
    assert keys.validate_key(old.key) is None
    assert keys.validate_key(new.key) is not None


def test_the_last_use_is_written_on_flush_and_a_later_one_stays(keys: APIKeyManager, clock: FakeClock) -> None:
    key = keys.generate_key("ada")
    assert keys.list_keys()[0]["last_used"] is None
    clock.advance(5)
    keys.validate_key(key)
    assert keys.list_keys()[0]["last_used"] == clock.now()


def test_one_of_many_starting_processes_makes_the_first_admin(any_database: Database) -> None:
    made: list[object] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        mine = APIKeyManager(any_database, PEPPER, SystemClock())
        barrier.wait()
        made.append(mine.create_first_admin())

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert sum(new is not None for new in made) == 1


def test_no_second_admin_is_made_even_after_the_first_is_revoked(keys: APIKeyManager) -> None:
    first = keys.create_first_admin()
    assert first is not None
    assert first.record.principal().is_admin
    keys.revoke_key(first.record.id)
    assert keys.create_first_admin() is None


def test_a_revocation_in_another_process_is_seen_within_a_second(database_url: str, clock: FakeClock) -> None:
    here, there = Database(database_url), Database(database_url)
    here.migrate()
    mine, others = APIKeyManager(here, PEPPER, clock), APIKeyManager(there, PEPPER, clock)
    new = mine.create("ada")
    assert others.validate_key(new.key) is not None
    mine.revoke_key(new.record.id)
    clock.advance(1)
    assert others.validate_key(new.key) is None
    here.close()
    there.close()


def test_another_pepper_is_refused_instead_of_every_key(any_database: Database, clock: FakeClock) -> None:
    APIKeyManager(any_database, PEPPER, clock).generate_key("ada")
    stranger = APIKeyManager(any_database, b"q" * 32, clock)
    for use in (lambda: stranger.validate_key("sk-" + "a" * 43), lambda: stranger.generate_key("ada")):
        with pytest.raises(errors.StartupError, match="TRAINYARD_SECRET") as caught:
            use()
        assert caught.value.code == "secret_mismatch"
