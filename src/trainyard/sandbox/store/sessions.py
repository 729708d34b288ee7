"""Sessions: who owns them, how long they live, and which process holds them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from msgspec import structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.db.writer import Write
from trainyard.sandbox.store import contents
from trainyard.sandbox.store.records import Became, Hold, Role, SessionRecord, Wanted
from trainyard.sandbox.store.tables import files, sessions, states

_STEP = 200
_ANSWERS = get_args(Became)

_COLUMNS = tuple(column.name for column in sessions.columns)
_INSERT = (
    f"INSERT INTO sandbox_sessions ({', '.join(_COLUMNS)}) "  # noqa: S608 - names of our own
    f"VALUES ({', '.join(':' + name for name in _COLUMNS)}) ON CONFLICT (id) DO NOTHING"
)
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM sandbox_sessions WHERE id = :id"  # noqa: S608 - names of our own
_USE = "UPDATE sandbox_sessions SET used_at = :used_at, expires_at = :expires_at WHERE id = :id AND used_at < :used_at"


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of an attempt to hold a session.

    Attributes:
        hold: None when another process has it; it was asked to let go.
    """

    session: SessionRecord
    hold: Hold | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A session with what it stores."""

    session: SessionRecord
    files: int
    state_bytes: int


class SessionStore:
    """The rows of sessions; all methods but `find` block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, session_id: str) -> SessionRecord | None:
        """Find a session; None when there is none of that id."""
        row = await self._database.first(_FIND, id=session_id)
        return None if row is None else _record(row)

    def newest(self, tenant: str, owner: str, entity_id: str, now: float) -> SessionRecord | None:
        """Find the session of that name that was used last and has not expired."""
        with self._database.read() as connection:
            return _newest(connection, tenant, owner, entity_id, now)

    def make(self, session: SessionRecord) -> None:
        """Write a session down; a second time changes nothing."""
        write = inserted(session)
        with self._database.begin() as connection:
            connection.execute(text(write.sql), dict(write.parameters))

    def open(self, wanted: SessionRecord) -> SessionRecord:
        """Find the newest session of the owner's name for it, or make this one; of several at once one makes it."""
        assert wanted.entity_id is not None
        with self._database.begin() as connection:
            contents.lock(connection, wanted.tenant)
            found = _newest(connection, wanted.tenant, wanted.owner, wanted.entity_id, wanted.created_at)
            if found is None:
                connection.execute(insert(sessions).values(**structs.asdict(wanted)))
        return found or wanted

    def claim(
        self, session_id: str, holder: str, now: float, lease_s: float, is_dead: Callable[[str], bool]
    ) -> Claim | None:
        """Hold a session that nobody holds, or whose holder is dead; else ask the holder to let go.

        Args:
            session_id: Of a session.
            holder: Who wants it.
            now: Unix seconds.
            lease_s: How long it is held without `renew`.
            is_dead: Whether a holder is known not to live any more.

        Returns:
            None when there is no such session.
        """
        mine = sessions.c.id == session_id
        with self._database.begin() as connection:
            row = connection.execute(select(sessions).where(mine).with_for_update()).mappings().first()
            if row is None:
                return None
            found = _record(row)
            if _is_held(found, holder, now) and not is_dead(found.holder or ""):
                if (
                    found.wanted is None or found.wanted in _ANSWERS
                ):  # else the holder has not seen yet what somebody wants before
                    connection.execute(update(sessions).where(mine).values(wanted="release"))
                return Claim(found, None)
            hold = Hold(session_id, holder, found.fence + 1)
            values = {"holder": holder, "fence": hold.fence, "lease_until": now + lease_s, "wanted": None}
            connection.execute(update(sessions).where(mine).values(**values))
        return Claim(found, hold)

    def release(self, hold: Hold) -> None:
        """Let go of a session, so that others need not wait for the lease to run out."""
        with self._database.begin() as connection:
            connection.execute(update(sessions).where(*_is(hold)).values(holder=None, lease_until=None, wanted=None))

    def renew(self, holds: Collection[Hold], lease_until: float) -> None:
        """Go on holding sessions; those that were taken over stay so."""
        by_holder: dict[str, list[str]] = {}
        for hold in holds:
            by_holder.setdefault(hold.holder, []).append(hold.session_id)
        with self._database.begin() as connection:
            for holder, ids in by_holder.items():
                for start in range(0, len(ids), _STEP):
                    some = (sessions.c.holder == holder, sessions.c.id.in_(sorted(ids[start : start + _STEP])))
                    connection.execute(update(sessions).where(*some).values(lease_until=lease_until))

    def held(self, holder: str) -> dict[str, tuple[Hold, Wanted | None]]:
        """Tell which sessions a process holds, and what others want of it."""
        asked = select(sessions.c.id, sessions.c.fence, sessions.c.wanted).where(sessions.c.holder == holder)
        with self._database.read() as connection:
            return {
                row.id: (Hold(row.id, holder, row.fence), None if row.wanted in _ANSWERS else row.wanted)
                for row in connection.execute(asked)
            }

    def want(self, session_id: str, wanted: Wanted, now: float) -> bool:
        """Ask the holder of a session for something; whether there is a holder."""
        held = (sessions.c.id == session_id, sessions.c.holder.is_not(None), sessions.c.lease_until > now)
        with self._database.begin() as connection:
            return connection.execute(update(sessions).where(*held).values(wanted=wanted)).rowcount == 1

    def answered(self, hold: Hold, wanted: Wanted, became: Became | None = None) -> None:
        """Note what became of what was wanted of the holder; None = there was nothing to do it to.

        What somebody wants since stays.
        """
        mine = (*_is(hold), sessions.c.wanted == wanted)
        with self._database.begin() as connection:
            connection.execute(update(sessions).where(*mine).values(wanted=became))

    def listed(self, tenant: str | None, owner: str | None, now: float, most: int) -> list[Listed]:
        """List sessions, those that a process holds before the others, the ones used last first; None = of all."""
        conditions = [sessions.c.expires_at > now]
        conditions += [] if tenant is None else [sessions.c.tenant == tenant]
        conditions += [] if owner is None else [sessions.c.owner == owner]
        is_held = and_(sessions.c.holder.is_not(None), sessions.c.lease_until > now)
        order = (case((is_held, 0), else_=1), sessions.c.used_at.desc(), sessions.c.id)
        asked = _described().where(*conditions).order_by(*order).limit(most)
        with self._database.read() as connection:
            return [_listed(row) for row in connection.execute(asked).mappings()]

    def described(self, session_id: str) -> Listed | None:
        """Find a session with what it stores."""
        with self._database.read() as connection:
            row = connection.execute(_described().where(sessions.c.id == session_id)).mappings().first()
        return None if row is None else _listed(row)

    def expired(self, now: float, most: int) -> list[SessionRecord]:
        """List sessions whose time is over and that no living process holds."""
        is_free = or_(sessions.c.holder.is_(None), sessions.c.lease_until <= now)
        asked = select(sessions).where(sessions.c.expires_at <= now, is_free).order_by(sessions.c.expires_at)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(asked.limit(most)).mappings()]

    def remove(self, session_id: str, *, expired_at: float | None = None) -> list[str]:
        """Forget a session with its files and its state; returns the contents that its tenant has no name for any more.

        Args:
            session_id: Of the session.
            expired_at: Do it only if its time was over by then and it has not been used since.
        """
        with self._database.begin() as connection:
            asked = select(sessions).where(sessions.c.id == session_id).with_for_update()
            row = connection.execute(asked).mappings().first()
            if row is None or (expired_at is not None and _is_used(_record(row), expired_at)):
                return []
            counts = contents.Contents(connection, row["tenant"], None)
            for table in (files, states):
                for sha256 in connection.execute(
                    select(table.c.sha256).where(table.c.session_id == session_id)
                ).scalars():
                    counts.lose(sha256)
                connection.execute(delete(table).where(table.c.session_id == session_id))
            connection.execute(delete(sessions).where(sessions.c.id == session_id))
            return counts.settle()


def inserted(session: SessionRecord) -> Write:
    """Make the write that adds a session; a second one changes nothing."""
    return Write(_INSERT, structs.asdict(session))


def used(session_id: str, used_at: float, expires_at: float) -> Write:
    """Make the write that lets a session live longer; harmless when it runs late."""
    return Write(_USE, {"id": session_id, "used_at": used_at, "expires_at": expires_at})


def checked(connection: Connection, session_id: str, hold: Hold | None) -> SessionRecord:
    """Lock a session to the end of the transaction and raise its revision.

    Args:
        connection: Of the transaction.
        session_id: Of the session.
        hold: Has to be held still; None = anybody may.

    Raises:
        errors.NotFound: There is no such session any more (code `session_not_found`).
        errors.Conflict: Another process holds it (code `session_taken`).
    """
    mine = sessions.c.id == session_id
    row = connection.execute(select(sessions).where(mine).with_for_update()).mappings().first()
    if row is None:
        raise errors.NotFound("There is no such session", code="session_not_found")
    if hold is not None and (row["holder"], row["fence"]) != (hold.holder, hold.fence):
        raise errors.Conflict("Another process has taken this session over", code="session_taken", retry_after_s=1)
    connection.execute(update(sessions).where(mine).values(revision=sessions.c.revision + 1))
    return _record(row)


def _described() -> Select[Any]:
    is_of = (files.c.session_id == sessions.c.id, files.c.role != Role.PENDING)
    number = select(func.count()).where(*is_of).scalar_subquery()
    size = select(states.c.size_bytes).where(states.c.session_id == sessions.c.id).scalar_subquery()
    return select(sessions, number.label("files"), size.label("state_bytes"))


def _listed(row: RowMapping) -> Listed:
    return Listed(_record(row), row["files"], row["state_bytes"] or 0)


def _newest(connection: Connection, tenant: str, owner: str, entity_id: str, now: float) -> SessionRecord | None:
    mine = and_(
        sessions.c.tenant == tenant,
        sessions.c.owner == owner,
        sessions.c.entity_id == entity_id,
        sessions.c.kind == "user",
        sessions.c.expires_at > now,
    )
    asked = select(sessions).where(mine).order_by(sessions.c.used_at.desc(), sessions.c.id).limit(1)
    row = connection.execute(asked).mappings().first()
    return None if row is None else _record(row)


def _is_used(found: SessionRecord, at: float) -> bool:
    return found.expires_at > at or _is_held(found, "", at)


def _is_held(found: SessionRecord, by_other_than: str, now: float) -> bool:
    return found.holder not in (None, by_other_than) and (found.lease_until or 0.0) > now


def _is(hold: Hold) -> tuple[ColumnElement[bool], ...]:
    return (sessions.c.id == hold.session_id, sessions.c.holder == hold.holder, sessions.c.fence == hold.fence)


def _record(row: Mapping[Any, Any]) -> SessionRecord:
    return SessionRecord(**{name: row[name] for name in _COLUMNS})
