"""States of sessions: their newest checkpoints."""

from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, delete, insert, select

from trainyard.core.db import Database
from trainyard.sandbox.store import contents, sessions
from trainyard.sandbox.store.records import Hold, StateRecord
from trainyard.sandbox.store.tables import states
from trainyard.sandbox.types.orders import Dropped

_COLUMNS = tuple(column.name for column in states.columns)


class StateStore:
    """The rows of states; its methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, session_id: str) -> StateRecord | None:
        """Find the checkpoint of a session."""
        with self._database.read() as connection:
            return _find(connection, session_id)

    def replace(
        self, session_id: str, state: StateRecord | None, *, max_bytes: int, hold: Hold | None = None
    ) -> list[str]:
        """Put a checkpoint in the place of the last one, or nothing.

        Args:
            session_id: Of a session that is there.
            state: The new one; None = none.
            max_bytes: What the tenant may store in all.
            hold: Has to be held still; None = anybody may.

        Returns:
            Contents that the tenant has no name for any more.

        Raises:
            errors.TrainyardError, Doomed: As `FileStore.change`.
        """
        with self._database.begin() as connection:
            session = sessions.checked(connection, session_id, hold)
            counts = contents.Contents(connection, session.tenant, max_bytes)
            known = _find(connection, session_id)
            if known is not None:
                counts.lose(known.sha256)
                connection.execute(delete(states).where(states.c.session_id == session_id))
            if state is not None:
                counts.gain(state.sha256, state.size_bytes)
                connection.execute(insert(states).values(**_values(state)))
            return counts.settle()


def _find(connection: Connection, session_id: str) -> StateRecord | None:
    row = connection.execute(select(states).where(states.c.session_id == session_id)).mappings().first()
    return None if row is None else _record(row)


def _values(state: StateRecord) -> dict[str, object]:
    dropped = [[one.name, one.reason] for one in state.dropped]
    return {**asdict(state), "kept": list(state.kept), "dropped": dropped}


def _record(row: RowMapping) -> StateRecord:
    dropped = tuple(Dropped(name=name, reason=reason) for name, reason in row["dropped"])
    return StateRecord(**{**{name: row[name] for name in _COLUMNS}, "kept": tuple(row["kept"]), "dropped": dropped})
