"""What the use cases of the sandbox take and give, in no dialect's words."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Literal, TypeVar

from msgspec import Struct, field

from trainyard.sandbox.types.orders import Dropped, Reason, Result, Stream

T = TypeVar("T")

Kind = Literal["user", "agent", "skill"]
"""Whose files a session holds: those of one user, or of an agent or a skill, which all users of the tenant may read."""


class Shelf(Struct, frozen=True, kw_only=True):
    """Where uploaded files go.

    Attributes:
        kind: `user`: the caller's own.
        resource_id: Of the agent or skill.
        version: Of the skill.
    """

    kind: Kind = "user"
    resource_id: str | None = None
    version: str | None = None


class FileRef(Struct, frozen=True, kw_only=True):
    """A stored file that a run wants in its workspace.

    Attributes:
        name: Path under which the code finds it; None = as it is stored.
        shelf: What the caller says it belongs to; checked, never believed.
    """

    session_id: str
    file_id: str
    name: str | None = None
    shelf: Shelf | None = None


class StoredFile(Struct, frozen=True, kw_only=True):
    """One file of a session.

    Attributes:
        id: 21 characters.
        path: Relative to the workspace, any Unicode, with its folders.
        created_at: Unix seconds; a changed file keeps its id and has another `modified_at` and `sha256`.
        is_input: Whether it was uploaded, or taken over from another session, and no run has changed it.
    """

    id: str
    session_id: str
    path: str
    size_bytes: int
    sha256: str
    created_at: float
    modified_at: float
    is_input: bool
    is_read_only: bool = False
    content_type: str = "application/octet-stream"
    shelf: Shelf = Shelf()


class Upload(Struct, frozen=True, kw_only=True):
    """One file on its way in; `content` is read once, in turn with the others of the request."""

    path: str
    content: AsyncIterator[bytes]
    content_type: str = "application/octet-stream"
    is_read_only: bool = False


class Execute(Struct, frozen=True, kw_only=True):
    """One request to run code; None takes the setting.

    Attributes:
        language: One of the 13 codes, or an alias of one.
        session_id: Continue this session; None = that of `entity_id`, else a new one.
        entity_id: Name that the caller gives to his session; scoped to him.
        timeout_s: Up to `sandbox.limits.max_timeout_s`.
    """

    code: str
    language: str
    session_id: str | None = None
    entity_id: str | None = None
    files: tuple[FileRef, ...] = ()
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    results: bool = True


class StateInfo(Struct, frozen=True, kw_only=True):
    """What is known of the variables of a session.

    Attributes:
        size_bytes: Of the newest checkpoint; 0 when there is none.
        sha256: Of its bytes, the ETag.
        is_live: Whether an interpreter holds them now.
        is_durable: Whether the checkpoint has all that the interpreter has; false in the moments after a run.
        kept: Names in the checkpoint.
        dropped: Those that could not be written down, each with its reason.
    """

    session_id: str
    size_bytes: int
    sha256: str | None
    created_at: float | None
    expires_at: float
    is_live: bool
    is_durable: bool
    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]


class Executed(Struct, frozen=True, kw_only=True):
    """How a run ended, with the files that it left.

    Attributes:
        is_new_runtime: Whether this run began with a fresh interpreter (also when a checkpoint was restored into it).
        restored: Variables that came back from a checkpoint before this run; `lost` names those that did not.
        stdout: Kept text; where `stdout_stream.is_cut`, head and tail with a line between them that says how much is
            missing, and the whole is one of `logs`. Bytes that are no UTF-8 are shown as U+FFFD.
        files: New and changed files; empty after a run that failed.
        inherited: Inputs that the run left as they were.
        deleted: Files that were there before and are not any more.
        logs: Whole outputs as files, where an output was cut.
        failed_files: Outputs that could not be kept, each with its reason.
    """

    session_id: str
    language: str
    stdout: str
    stderr: str
    stdout_stream: Stream
    stderr_stream: Stream
    exit_code: int | None
    signal: str | None
    reason: Reason | None
    phase: str
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    results: tuple[Result, ...]
    files: tuple[StoredFile, ...]
    inherited: tuple[StoredFile, ...]
    deleted: tuple[StoredFile, ...]
    logs: tuple[StoredFile, ...]
    failed_files: Mapping[str, str]
    is_new_runtime: bool
    restored: tuple[str, ...]
    lost: tuple[Dropped, ...]
    state: StateInfo | None


class LanguageInfo(Struct, frozen=True, kw_only=True):
    """A language that runs here."""

    code: str
    name: str
    aliases: tuple[str, ...]
    version: str


class Cut(list[T]):
    """A list of the first things of a kind.

    Attributes:
        has_more: Whether there are others.
    """

    def __init__(self, first: Iterable[T], *, has_more: bool) -> None:
        super().__init__(first)
        self.has_more = has_more


class SessionInfo(Struct, frozen=True, kw_only=True):
    """One session.

    Attributes:
        owner: The user whose it is, in his tenant.
        memory_bytes: Of its live box when it was last measured; 0 without one.
    """

    id: str
    owner: str
    entity_id: str | None
    created_at: float
    used_at: float
    expires_at: float
    is_live: bool
    memory_bytes: int
    files: int
    state_bytes: int
    shelf: Shelf
