"""One suite for the stores of the sandbox, on SQLite and Postgres."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.sandbox.store import (
    Doomed,
    FileStore,
    Hold,
    NewFile,
    Role,
    SessionRecord,
    SessionStore,
    StateRecord,
    StateStore,
)
from trainyard.sandbox.store.contents import Collector
from trainyard.sandbox.store.ids import new_id
from trainyard.sandbox.store.sessions import inserted, used
from trainyard.sandbox.store.tables import blobs
from trainyard.sandbox.types.orders import Dropped

NOW = 1_000_000.0
MUCH = 1 << 40


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def alive(_holder: str) -> bool:
    return False


def dead(_holder: str) -> bool:
    return True


class Yard:
    """The stores over one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sessions, self.files = SessionStore(database), FileStore(database)
        self.states, self.collector = StateStore(database), Collector(database)

    def make(self, tenant: str = "acme", owner: str = "anna", **fields: Any) -> str:
        """Make a session; returns its id."""
        times = {"created_at": NOW, "used_at": NOW, "expires_at": NOW + 100}
        record = SessionRecord(
            **{"id": new_id(), "tenant": tenant, "owner": owner, "entity_id": None, **times, **fields}
        )
        self.sessions.make(record)
        return record.id

    def session(self, session: str) -> SessionRecord | None:
        """Find a session."""
        return asyncio.run(self.sessions.find(session))

    def save(self, session: str, files: dict[str, str], gone: tuple[str, ...] = (), **more: Any) -> Any:
        """Save files by path and content."""
        new = [
            NewFile(path=path, sha256=sha(content), size_bytes=len(content), role=Role.OUTPUT)
            for path, content in files.items()
        ]
        return self.files.change(session, new, gone, NOW, **({"max_bytes": MUCH} | more))

    def state(self, session: str, content: str | None, **more: Any) -> list[str]:
        """Save a state by its content."""
        state = None
        if content is not None:
            state = StateRecord(
                session_id=session,
                tenant="acme",
                sha256=sha(content),
                size_bytes=len(content),
                created_at=NOW,
                flavor="science",
                kept=("x", "ü"),
                dropped=(Dropped(name="f", reason="an open file"),),
            )
        return self.states.replace(session, state, **({"max_bytes": MUCH} | more))

    def names(self) -> dict[tuple[str, str], int]:
        """Tell how many names each content has."""
        with self.database.read() as connection:
            return {(row.tenant, row.sha256): row.names for row in connection.execute(select(blobs))}


@pytest.fixture
def yard(any_database: Database) -> Yard:
    return Yard(any_database)


def test_a_session_is_found_as_it_was_made(yard: Yard) -> None:
    fields = {"entity_id": "e", "kind": "skill", "resource_id": "r" * 256, "version": "v" * 128}
    session = yard.make(**fields)
    found = yard.session(session)
    assert found is not None
    assert (found.tenant, found.owner, found.revision, found.holder) == ("acme", "anna", 0, None)
    assert {name: getattr(found, name) for name in fields} == fields
    assert yard.session(new_id()) is None


def test_the_hot_writes_add_a_session_once_and_only_ever_lengthen_its_life(yard: Yard) -> None:
    session = yard.make()
    again = SessionRecord(
        id=session, tenant="evil", owner="evil", entity_id=None, created_at=0, used_at=NOW + 9, expires_at=NOW + 9
    )
    for write in (
        inserted(again),
        used(session, NOW + 10, NOW + 110),
        used(session, NOW + 5, NOW + 105),  # late
        used(new_id(), NOW, NOW),
    ):
        with yard.database.begin() as connection:
            connection.execute(text(write.sql), dict(write.parameters))
    found = yard.session(session)
    assert found is not None
    assert (found.tenant, found.used_at, found.expires_at) == ("acme", NOW + 10, NOW + 110)


def test_of_several_sessions_of_a_name_the_one_used_last_counts(yard: Yard) -> None:
    for used_at, expires_at in ((NOW + 1, NOW + 100), (NOW + 3, NOW + 4), (NOW + 2, NOW + 100)):
        last = yard.make(entity_id="e", used_at=used_at, expires_at=expires_at)
    yard.make(entity_id="e", owner="bert", used_at=NOW + 9)
    yard.make(entity_id="e", tenant="other", used_at=NOW + 9)
    yard.make(entity_id="e", kind="agent", used_at=NOW + 9)
    found = yard.sessions.newest("acme", "anna", "e", NOW + 5)
    assert found is not None
    assert found.id == last
    assert yard.sessions.newest("acme", "anna", "e", NOW + 100) is None


def test_a_name_that_is_opened_by_many_at_once_is_one_session(yard: Yard) -> None:
    def open_it(_number: int) -> str:
        times = {"created_at": NOW, "used_at": NOW, "expires_at": NOW + 100}
        return yard.sessions.open(SessionRecord(id=new_id(), tenant="acme", owner="a", entity_id="e", **times)).id  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(open_it, range(24)))) == 1


def test_a_session_is_held_by_one_and_who_wants_it_asks(yard: Yard) -> None:
    session = yard.make()
    first = yard.sessions.claim(session, "a", NOW, 10, alive)
    assert first is not None
    assert first.hold == Hold(session, "a", 1)
    refused = yard.sessions.claim(session, "b", NOW + 9, 10, alive)
    assert refused is not None
    assert refused.hold is None
    assert yard.sessions.held("a") == {session: (Hold(session, "a", 1), "release")}
    yard.sessions.release(Hold(session, "a", 1))
    taken = yard.sessions.claim(session, "b", NOW + 9, 10, alive)
    assert taken is not None
    assert taken.hold == Hold(session, "b", 2)
    assert yard.sessions.held("a") == {}
    assert yard.sessions.held("b") == {session: (Hold(session, "b", 2), None)}


@pytest.mark.parametrize(("at", "is_dead", "is_taken"), [(9.0, alive, False), (9.0, dead, True), (10.0, alive, True)])
def test_a_holder_who_is_silent_or_dead_loses_his_session(
    yard: Yard, at: float, is_dead: Callable[[str], bool], is_taken: bool
) -> None:
    session = yard.make()
    yard.sessions.claim(session, "a", NOW, 10, alive)
    claimed = yard.sessions.claim(session, "b", NOW + at, 10, is_dead)
    assert claimed is not None
    assert (claimed.hold is not None) is is_taken


def test_a_holder_renews_what_is_his_and_nothing_else(yard: Yard) -> None:
    mine, lost = yard.make(), yard.make()
    held = [yard.sessions.claim(one, "a", NOW, 10, alive) for one in (mine, lost)]
    yard.sessions.claim(lost, "b", NOW, 5, dead)
    yard.sessions.renew([one.hold for one in held if one is not None and one.hold is not None], NOW + 50)
    leases = [one.lease_until for one in (yard.session(mine), yard.session(lost)) if one is not None]
    assert leases == [NOW + 50, NOW + 5]


def test_who_has_lost_a_session_changes_nothing_of_it(yard: Yard) -> None:
    session = yard.make()
    old = yard.sessions.claim(session, "a", NOW, 10, alive)
    yard.sessions.claim(session, "b", NOW + 10, 10, alive)
    assert old is not None
    for change in (
        lambda: yard.save(session, {"a": "1"}, hold=old.hold),
        lambda: yard.state(session, "s", hold=old.hold),
    ):
        with pytest.raises(errors.Conflict) as caught:
            change()
        assert caught.value.code == "session_taken"
    assert old.hold is not None
    yard.sessions.release(old.hold)
    assert yard.sessions.held("b").keys() == {session}
    assert yard.files.of_session(session) == []
    assert yard.names() == {}


def test_an_interrupt_is_asked_of_a_living_holder_alone(yard: Yard) -> None:
    session = yard.make()
    assert not yard.sessions.want(session, "interrupt", NOW)
    yard.sessions.claim(session, "a", NOW, 10, alive)
    assert yard.sessions.want(session, "interrupt", NOW + 9)
    assert yard.sessions.held("a")[session] == (Hold(session, "a", 1), "interrupt")
    yard.sessions.answered(Hold(session, "a", 1), "interrupt")
    assert yard.sessions.held("a")[session] == (Hold(session, "a", 1), None)
    assert not yard.sessions.want(session, "interrupt", NOW + 10)


def test_an_answer_is_found_by_who_asked_and_keeps_nobody_from_asking_for_more(yard: Yard) -> None:
    session = yard.make()
    hold = Hold(session, "a", 1)
    yard.sessions.claim(session, "a", NOW, 10, alive)
    yard.sessions.want(session, "interrupt", NOW)
    yard.sessions.answered(hold, "interrupt", "interrupted")
    found = yard.session(session)
    assert (found and found.wanted, yard.sessions.held("a")[session]) == ("interrupted", (hold, None))
    yard.sessions.claim(session, "b", NOW, 10, alive)
    assert yard.sessions.held("a")[session] == (hold, "release")
    yard.sessions.answered(hold, "interrupt", "interrupted")  # of an older wish
    assert yard.sessions.held("a")[session] == (hold, "release")


@pytest.mark.parametrize("path", ["a", "ü/日本.csv", "🎉" * 63, "d/" * 2047 + "x", "a\nb 'c\" \\%:x"])
def test_a_file_is_found_under_any_path(yard: Yard, path: str) -> None:
    session = yard.make()
    (saved,) = yard.save(session, {path: "content"}).files
    assert yard.files.of_session(session) == [saved]
    assert yard.files.find(session, saved.id) == saved
    assert yard.files.find(new_id(), saved.id) is None
    assert (saved.path, saved.sha256, saved.size_bytes, saved.role) == (path, sha("content"), 7, Role.OUTPUT)


def test_a_file_keeps_its_id_and_every_change_raises_the_revision(yard: Yard) -> None:
    session = yard.make()
    first = yard.save(session, {"a": "1", "b": "2"})
    second = yard.save(session, {"a": "3"}, gone=("b", "never there"))
    assert second.files[0].id == first.files[0].id
    assert [file.path for file in second.deleted] == ["b"]
    assert sorted(second.freed) == sorted([sha("1"), sha("2")])
    assert [file.sha256 for file in yard.files.of_session(session)] == [sha("3")]
    found = yard.session(session)
    assert found is not None
    assert found.revision == 2


def test_many_files_are_saved_at_once(yard: Yard) -> None:
    session = yard.make()
    many = {f"{number}.txt": f"content {number % 700}" for number in range(1000)}
    yard.save(session, many)
    assert {file.path for file in yard.files.of_session(session)} == set(many)
    assert sum(yard.names().values()) == 1000
    assert len(yard.names()) == 700
    assert len(yard.save(session, {}, gone=tuple(many)).freed) == 700
    assert yard.names() == {}


def test_a_change_of_a_session_that_is_gone_is_refused(yard: Yard) -> None:
    with pytest.raises(errors.NotFound) as caught:
        yard.save(new_id(), {"a": "1"})
    assert caught.value.code == "session_not_found"
    assert yard.names() == {}


def test_a_state_is_found_as_it_was_saved_and_replaced(yard: Yard) -> None:
    session = yard.make()
    assert yard.states.find(session) is None
    assert yard.state(session, "first") == []
    found = yard.states.find(session)
    assert found is not None
    assert (found.sha256, found.kept, found.flavor) == (sha("first"), ("x", "ü"), "science")
    assert found.dropped == (Dropped(name="f", reason="an open file"),)
    assert yard.state(session, "second") == [sha("first")]
    assert yard.state(session, "second") == []
    assert yard.state(session, None) == [sha("second")]
    assert yard.states.find(session) is None


def test_a_content_is_paid_for_once_by_each_tenant(yard: Yard) -> None:
    one, two, other = yard.make(), yard.make(owner="bert"), yard.make(tenant="other")
    for session in (one, two, other):
        yard.save(session, {"a": "same", "b": "same"})
    yard.state(one, "same")
    assert yard.collector.stored_bytes("acme") == yard.collector.stored_bytes("other") == 4
    assert yard.names() == {("acme", sha("same")): 5, ("other", sha("same")): 2}
    assert yard.sessions.remove(one) == []
    assert yard.sessions.remove(two) == [sha("same")]
    assert yard.collector.stored_bytes("acme") == 0
    assert yard.collector.stored_bytes("other") == 4


def test_a_tenant_gets_what_he_may_store_and_no_byte_more_however_many_ask_at_once(yard: Yard) -> None:
    sessions = [yard.make(owner=str(number)) for number in range(8)]

    def fill(session: str) -> int:
        kept = 0
        for number in range(10):
            with contextlib.suppress(errors.QuotaExhausted):
                yard.save(session, {str(number): f"{session}{number}".ljust(100)}, max_bytes=2050)
                kept += 100
        return kept

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(fill, sessions)) == 2000
    assert yard.collector.stored_bytes("acme") == 2000
    replaced = next(file for session in sessions for file in yard.files.of_session(session))
    yard.save(replaced.session_id, {replaced.path: "y" * 150}, max_bytes=2050)
    with pytest.raises(errors.QuotaExhausted) as caught:
        yard.save(replaced.session_id, {replaced.path: "z" * 151}, max_bytes=2050)
    assert caught.value.code == "storage_full"


def test_only_what_nobody_names_is_doomed_and_nobody_names_what_is(yard: Yard) -> None:
    session = yard.make()
    yard.save(session, {"a": "named"})
    assert yard.collector.doom([sha("named"), sha("stray")], NOW) == [sha("stray")]
    with pytest.raises(Doomed) as caught:
        yard.save(session, {"b": "stray"})
    assert caught.value.contents == {sha("stray")}
    assert yard.collector.condemned(NOW) == []
    assert yard.collector.condemned(NOW + 1) == [sha("stray")]
    yard.collector.forget([sha("stray")])
    yard.save(session, {"b": "stray"})
    assert yard.collector.doom([sha("stray")], NOW) == []


def test_naming_and_dooming_at_once_never_both_succeed(yard: Yard) -> None:
    sessions = [yard.make(), yard.make(tenant="other")]
    for number in range(30):
        content = f"content {number}"
        start = threading.Barrier(3)

        def name(session: str, content: str = content, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                yard.save(session, {content: content})
            except Doomed:
                return False
            return True

        def doom(content: str = content, start: threading.Barrier = start) -> bool:
            start.wait()
            return yard.collector.doom([sha(content)], NOW) != []

        with ThreadPoolExecutor(3) as pool:
            named = [pool.submit(name, session) for session in sessions]
            is_doomed = pool.submit(doom)
            is_named = any(one.result() for one in named)
            assert is_doomed.result() is not is_named


def test_sessions_end_with_their_time_unless_they_are_held_or_were_used_since(yard: Yard) -> None:
    over, held, later = yard.make(), yard.make(), yard.make(expires_at=NOW + 200)
    yard.sessions.claim(held, "a", NOW + 95, 10, alive)
    yard.save(over, {"a": "1"})
    yard.state(over, "s")
    assert [one.id for one in yard.sessions.expired(NOW + 100, 10)] == [over]
    assert {one.id for one in yard.sessions.expired(NOW + 105, 10)} == {over, held}
    assert yard.sessions.remove(later, expired_at=NOW + 105) == []
    assert yard.session(later) is not None
    assert sorted(yard.sessions.remove(over, expired_at=NOW + 105)) == sorted([sha("1"), sha("s")])
    assert yard.session(over) is None
    assert yard.sessions.remove(over) == []
    assert yard.names() == {}


def test_sessions_are_listed_with_what_they_store(yard: Yard) -> None:
    old, new = yard.make(used_at=NOW + 1), yard.make(used_at=NOW + 2)
    yard.make(owner="bert")
    yard.make(tenant="other")
    yard.make(expires_at=NOW)
    yard.save(old, {"a": "1", "b": "2"})
    pending = NewFile(path="c", sha256=sha("3"), size_bytes=1, role=Role.PENDING)
    yard.files.change(old, [pending], [], NOW, max_bytes=MUCH)
    yard.state(old, "state")
    listed = yard.sessions.listed("acme", "anna", NOW, 10)
    assert [(one.session.id, one.files, one.state_bytes) for one in listed] == [(new, 0, 0), (old, 2, 5)]
    assert [one.session.id for one in yard.sessions.listed("acme", "anna", NOW, 1)] == [new]
    assert len(yard.sessions.listed("acme", None, NOW, 10)) == 3
    described = yard.sessions.described(old)
    assert described is not None
    assert (described.files, described.state_bytes) == (2, 5)


def test_a_session_that_is_held_is_listed_before_those_that_were_used_since(yard: Yard) -> None:
    held, left, newest = yard.make(used_at=NOW + 1), yard.make(used_at=NOW + 2), yard.make(used_at=NOW + 3)
    yard.sessions.claim(held, "a", NOW, 10, alive)
    yard.sessions.claim(left, "b", NOW, 5, alive)
    assert [one.session.id for one in yard.sessions.listed("acme", "anna", NOW + 6, 10)] == [held, newest, left]
    assert [one.session.id for one in yard.sessions.listed("acme", "anna", NOW + 6, 1)] == [held]


def test_removing_sessions_at_once_with_others_that_store_the_same_keeps_the_books(yard: Yard) -> None:
    sessions = [yard.make() for _ in range(12)]

    def live(session: str) -> None:
        for number in range(4):
            yard.save(session, {f"{number}": f"shared {number}", "own": session})
            yard.state(session, f"shared {number}")
        yard.sessions.remove(session)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(live, sessions))
    assert yard.names() == {}
    assert yard.collector.stored_bytes("acme") == 0
    with yard.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(blobs)).scalar_one() == 0
