"""Rows of the sandbox as values."""

import enum
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from trainyard.sandbox.types.domain import Kind, Shelf, StoredFile
from trainyard.sandbox.types.orders import Dropped, Flavor

Wanted = Literal["release", "interrupt", "kill"]
Became = Literal["interrupted", "killed"]
"""What became of a wish, where something ran; it stands in the place of the wish until the next one."""


class Role(enum.StrEnum):
    """What a file is to its session.

    `PENDING` files lie in the workspace since a run that failed: no list shows them before a run succeeds.
    """

    INPUT = "input"
    OUTPUT = "output"
    LOG = "log"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to run and change a session; whoever takes it over raises the fence."""

    session_id: str
    holder: str
    fence: int


class SessionRecord(Struct, frozen=True, kw_only=True):
    """One session.

    Attributes:
        entity_id: The name that its owner gave it.
        revision: Rises with every change to its files and its state.
        holder: The process that has it live.
        lease_until: Unix seconds; a holder that has not renewed it by then is taken for dead.
        wanted: What another process asks of the holder, or the holder's answer.
    """

    id: str
    tenant: str
    owner: str
    entity_id: str | None
    kind: Kind = "user"
    resource_id: str | None = None
    version: str | None = None
    created_at: float
    used_at: float
    expires_at: float
    revision: int = 0
    holder: str | None = None
    fence: int = 0
    lease_until: float | None = None
    wanted: Wanted | Became | None = None

    @property
    def shelf(self) -> Shelf:
        """Whose files it holds."""
        return Shelf(kind=self.kind, resource_id=self.resource_id, version=self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file whose bytes are stored and that is to be a session's.

    Attributes:
        origin: Of a file that was taken over: what it was there.
    """

    path: str
    sha256: str
    size_bytes: int
    role: Role
    content_type: str = "application/octet-stream"
    is_read_only: bool = False
    origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord(NewFile):
    """One file of a session; `path` is unique there, and `id` stays when the content changes."""

    id: str
    session_id: str
    tenant: str
    created_at: float
    modified_at: float

    def stored(self, shelf: Shelf) -> StoredFile:
        """Make what callers see."""
        return StoredFile(
            id=self.id,
            session_id=self.session_id,
            path=self.path,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            created_at=self.created_at,
            modified_at=self.modified_at,
            is_input=self.role is Role.INPUT,
            is_read_only=self.is_read_only,
            content_type=self.content_type,
            shelf=shelf,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """The newest checkpoint of a session.

    Attributes:
        flavor: Of the interpreter that wrote it.
    """

    session_id: str
    tenant: str
    sha256: str
    size_bytes: int
    created_at: float
    flavor: Flavor
    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]
