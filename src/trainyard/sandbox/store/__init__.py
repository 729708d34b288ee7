"""Persistence of the sandbox: sessions and who holds them, files, states; `tables` has the schema."""

from trainyard.sandbox.store.contents import Doomed
from trainyard.sandbox.store.files import FileStore
from trainyard.sandbox.store.records import FileRecord, Hold, NewFile, Role, SessionRecord, StateRecord
from trainyard.sandbox.store.sessions import SessionStore
from trainyard.sandbox.store.states import StateStore

__all__ = [
    "Doomed",
    "FileRecord",
    "FileStore",
    "Hold",
    "NewFile",
    "Role",
    "SessionRecord",
    "SessionStore",
    "StateRecord",
    "StateStore",
]
