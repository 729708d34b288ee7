"""Keys that are known by their text, once their hash was compared: never longer, and never more, than by the hash."""

from collections.abc import Callable

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager, format
from trainyard.core.keys.live import MISS_S, REFRESH_S
from trainyard.core.keys.snapshot import Snapshot
from trainyard.core.keys.types import KeyRecord
from trainyard.core.settings import LimitSettings

PEPPER = b"p" * 32


@pytest.fixture
def keys(database: Database, clock: FakeClock) -> APIKeyManager:
    return APIKeyManager(database, PEPPER, clock)


def proven(keys: APIKeyManager, user: str = "ada", expires_at: float | None = None) -> str:
    """Make a key and have it recognised twice."""
    key = keys.generate_key(user, expires_at=expires_at)
    for text in (key, f"tml-{key[3:]}"):
        for _ in range(2):
            found = keys.recognise_fresh(text)
            assert found is not None
            assert found.user == user
    return key


@pytest.mark.parametrize("spelling", ["sk-", "tml-"])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda keys, key: keys.revoke_key(key), id="revoked"),
        pytest.param(lambda keys, key: keys.rotate_key(keys.recognise(key).key_id), id="rotated"),
    ],
)
def test_a_key_that_is_ended_here_is_refused_at_once(
    keys: APIKeyManager, end: Callable[[APIKeyManager, str], object], spelling: str
) -> None:
    key = proven(keys)
    end(keys, key)
    with pytest.raises(errors.Unauthenticated, match="Invalid API key"):
        keys.recognise_fresh(spelling + key[3:])


def test_a_key_that_is_revoked_elsewhere_has_to_be_looked_up_soon(database: Database, clock: FakeClock) -> None:
    here, elsewhere = APIKeyManager(database, PEPPER, clock), APIKeyManager(database, PEPPER, clock)
    key = proven(here)
    elsewhere.revoke_key(key)
    clock.advance(REFRESH_S)
    assert here.recognise_fresh(key) is None
    here.refresh()
    with pytest.raises(errors.Unauthenticated):
        here.recognise_fresh(key)


def test_a_key_expires_at_its_moment(keys: APIKeyManager, clock: FakeClock) -> None:
    key = proven(keys, expires_at=clock.now() + 0.25)
    clock.advance(0.2)
    assert keys.recognise_fresh(key) is not None
    clock.advance(0.05)
    with pytest.raises(errors.Unauthenticated, match="expired"):
        keys.recognise_fresh(key)


def test_a_rotated_key_ends_with_its_overlap(keys: APIKeyManager, clock: FakeClock) -> None:
    key = proven(keys)
    keys.rotate_key(keys.recognise(key).key_id, overlap_s=0.25)
    assert keys.recognise_fresh(key) is not None
    clock.advance(0.25)
    with pytest.raises(errors.Unauthenticated):
        keys.recognise_fresh(key)


def test_the_last_use_is_noted_each_time(keys: APIKeyManager, clock: FakeClock) -> None:
    key = proven(keys)
    clock.advance(0.25)
    keys.recognise_fresh(key)
    assert [listed["last_used"] for listed in keys.list_keys()] == [clock.now()]


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + "A", lambda key: f" {key}", str.upper])
def test_nothing_but_the_whole_key_is_known(
    keys: APIKeyManager, clock: FakeClock, change: Callable[[str], str]
) -> None:
    wrong = change(proven(keys))
    for _ in range(2):
        with pytest.raises(errors.Unauthenticated):
            keys.recognise_fresh(wrong)
    clock.advance(MISS_S)
    assert keys.recognise_fresh("sk-" + "a" * 43) is None  # it could have been made a moment ago


def test_what_is_known_is_bounded_by_the_keys_there_are() -> None:
    key = "sk-" + "a" * 43
    record = KeyRecord("key_a", "t", "u", "", key[:11], format.digest(key, PEPPER), frozenset({"train"}), 0.0)
    snapshot = Snapshot(1, [record])
    assert snapshot.proven(key) is None
    assert snapshot.prove(key, record) is snapshot.principal(record)
    found = snapshot.proven(key)
    assert found == (record, snapshot.principal(record))
    assert snapshot.with_defaults(LimitSettings()).proven(key) is None
