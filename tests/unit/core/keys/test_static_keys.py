import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager, KeyPatch, Which
from trainyard.core.keys.static import StaticKeys
from trainyard.core.principal import SCOPES

PEPPER = b"p" * 32
GUIDE = "test-api-key-for-development-only"
ADMIN = "root-of-all;scopes=all;user=root"
LAB = "lab-key:with/odd=signs;scopes=generate+execute;tenant=lab;user=ada"
OURS = "sk-" + "a" * 43


def _open(database: Database, clock: FakeClock, text: str) -> APIKeyManager:
    return APIKeyManager(database, PEPPER, clock, static_keys=text)


@pytest.fixture
def keys(database: Database, clock: FakeClock) -> APIKeyManager:
    return _open(database, clock, f"{GUIDE}, {LAB}\n{ADMIN} {OURS}")


@pytest.mark.parametrize(
    ("key", "tenant", "user", "scopes"),
    [
        (GUIDE, "default", "static", set(SCOPES) - {"admin"}),
        ("lab-key:with/odd=signs", "lab", "ada", {"generate", "execute"}),
        ("root-of-all", "default", "root", set(SCOPES)),
        (OURS, "default", "static", set(SCOPES) - {"admin"}),
        ("tml-" + "a" * 43, "default", "static", set(SCOPES) - {"admin"}),
    ],
)
def test_a_static_key_works_as_it_stands_there(
    keys: APIKeyManager, key: str, tenant: str, user: str, scopes: set[str]
) -> None:
    for _ in range(2):  # the second time it has been proven
        principal = keys.authenticate(key)
        assert (principal.tenant, principal.user) == (tenant, user)
        assert principal.scopes == scopes
        assert keys.recognise_fresh(key) == principal
    assert [subject.name for subject in keys.subjects(principal)] == [f"key:{principal.key_id}", f"tenant:{tenant}"]


@pytest.mark.parametrize(
    "key", [GUIDE[:-1], GUIDE + "x", GUIDE.upper(), LAB, "root-of-all;", "", "static", "sk-" + "b" * 43]
)
def test_what_does_not_stand_there_is_nobody(keys: APIKeyManager, key: str) -> None:
    with pytest.raises(errors.Unauthenticated):
        keys.authenticate(key)


def test_without_static_keys_none_works(database: Database, clock: FakeClock) -> None:
    with pytest.raises(errors.Unauthenticated):
        APIKeyManager(database, PEPPER, clock).authenticate(GUIDE)


def test_static_keys_are_listed_as_such_before_the_others(keys: APIKeyManager) -> None:
    stored = keys.create("ada").record
    static = [keys.authenticate(key).key_id for key in (GUIDE, "lab-key:with/odd=signs", "root-of-all", OURS)]
    assert [listed["id"] for listed in keys.list_keys()] == [*static, stored.id]
    assert [listed["source"] for listed in keys.list_keys()] == ["static"] * 4 + ["stored"]
    shown = keys.describe(keys.show(static[0]))
    assert (shown["prefix"], shown["description"], shown["status"]) == ("tes…", "of TRAINYARD_STATIC_KEYS", "active")
    assert all(GUIDE[4:] not in str(listed) for listed in keys.list_keys())


@pytest.mark.parametrize(
    ("limit", "offset", "places"),
    [(10, 0, [0, 1, 2, 3, 4, 5]), (2, 0, [0, 1]), (3, 3, [3, 4, 5]), (1, 5, [5]), (5, 6, [])],
)
def test_pages_go_over_both_kinds(keys: APIKeyManager, limit: int, offset: int, places: list[int]) -> None:
    keys.create("ada")
    keys.create("bob")
    every, total = keys.page(Which(), 100)
    assert total == 6
    assert keys.page(Which(), limit, offset) == ([every[place] for place in places], 6)


@pytest.mark.parametrize(
    ("which", "count"),
    [
        (Which(tenant="lab"), 1),
        (Which(user="static"), 2),
        (Which(scope="admin"), 1),
        (Which(status="active"), 4),
        (Which(status="revoked"), 0),
        (Which(status="expired"), 0),
    ],
)
def test_a_list_has_the_static_keys_that_fit(keys: APIKeyManager, which: Which, count: int) -> None:
    assert keys.page(which, 10)[1] == count


def test_a_static_key_is_changed_nowhere_but_in_the_settings(keys: APIKeyManager) -> None:
    key_id = keys.authenticate(GUIDE).key_id
    for change in (
        lambda: keys.revoke(key_id),
        lambda: keys.rotate_key(key_id),
        lambda: keys.update(key_id, KeyPatch(description="mine")),
    ):
        with pytest.raises(errors.Conflict, match="TRAINYARD_STATIC_KEYS") as refused:
            change()
        assert refused.value.code == "static_key"
    keys.authenticate(GUIDE)


def test_a_static_administrator_sees_what_his_tenant_lets_him(database: Database, clock: FakeClock) -> None:
    keys = _open(database, clock, f"{GUIDE},lab-admin-1;scopes=all;tenant=lab,{ADMIN}")
    lab, operator = (keys.authority(keys.authenticate(key)) for key in ("lab-admin-1", "root-of-all"))
    foreign = keys.authenticate(GUIDE).key_id
    assert keys.page(Which(), 10, by=lab)[1] == 1
    assert keys.page(Which(), 10, by=operator)[1] == 3
    with pytest.raises(errors.NotFound):
        keys.show(foreign, by=lab)
    with pytest.raises(errors.NotFound):
        keys.revoke(foreign, by=lab)
    assert keys.create("bob", tenant="lab", by=lab).record.tenant == "lab"


def test_the_id_of_a_static_key_is_the_same_after_a_restart(database: Database, clock: FakeClock) -> None:
    first, second = (_open(database, clock, text).authenticate(GUIDE) for text in (GUIDE, f"other-key,{GUIDE}"))
    assert first.key_id == second.key_id


def test_its_last_use_is_written_nowhere(keys: APIKeyManager, database: Database) -> None:
    keys.authenticate(GUIDE)
    keys.flush()
    assert keys.list_keys()[0]["last_used"] is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("short12", "entry 1 has a key that is not 8 to 256 visible characters"),
        ("x" * 257, "entry 1 has a key"),
        (f"{GUIDE},schlüssel-mit-ü", "entry 2 has a key"),
        (f"{GUIDE} {GUIDE}", "entry 2 repeats the key of an earlier one"),
        (f"{OURS},tml-{'a' * 43}", "entry 2 repeats"),
        (f"{GUIDE};scopes=fly", "entry 1 is not usable: unknown scope 'fly'"),
        (f"{GUIDE};scopes=", "entry 1 is not usable: no scope given"),
        (f"{GUIDE};tenant=../x", "entry 1 is not usable: tenant"),
        (f"{GUIDE};user=", "entry 1 is not usable: user"),
        (f"{GUIDE};role=x", "entry 1 tells something other than"),
        (f"{GUIDE};admin", "entry 1 tells something other than"),
        (f"{GUIDE};", "entry 1 tells something other than"),
    ],
)
def test_a_faulty_entry_is_refused_by_its_place_and_not_repeated(text: str, what: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        StaticKeys.read(text, PEPPER, 0.0)
    assert what in refused.value.message
    assert refused.value.param == "static_keys"
    assert GUIDE not in refused.value.message


@pytest.mark.parametrize("text", [None, "", " ,\n, "])
def test_no_entries_are_no_keys(text: str | None) -> None:
    assert StaticKeys.read(text, PEPPER, 0.0).records == ()
