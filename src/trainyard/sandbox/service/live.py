"""A session as this process has it."""

import asyncio
import math
from dataclasses import dataclass, field, replace

from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.store import FileRecord, Hold, Role, SessionRecord, StateRecord
from trainyard.sandbox.types.domain import StateInfo
from trainyard.sandbox.types.orders import Dropped, Flavor


@dataclass(frozen=True, slots=True)
class Readied:
    """What a session's box was made ready with.

    Attributes:
        is_new_runtime: Whether the interpreter is a fresh one.
        is_new_box: Whether no code has been in the box.
        restored: Variables that came back from a checkpoint; `lost` names those that did not.
        unplaced: Files of the session that could not be put into the box, each with its reason.
    """

    is_new_runtime: bool = False
    is_new_box: bool = False
    restored: tuple[str, ...] = ()
    lost: tuple[Dropped, ...] = ()
    unplaced: tuple[tuple[str, str], ...] = ()

    def after(self, earlier: "Readied") -> "Readied":
        """Tell what nobody was told of an earlier time too."""
        if not earlier.is_new_runtime:
            return self
        restored = self.restored if self.is_new_runtime else earlier.restored
        still = (one for one in earlier.lost if one not in self.lost and one.name not in restored)
        lost = (*self.lost, *still)
        return replace(self, is_new_runtime=True, restored=restored, lost=lost)


@dataclass(slots=True, eq=False)
class LiveSession:
    """One session that is used here, or was a moment ago; everything but `record` is changed under `lock` only.

    Attributes:
        record: As it was read last.
        hold: The right to run it; None before the first run here and after another process has taken it.
        held_until_s: Until when on the clock's `monotonic` nobody can have taken it over.
        is_stored: Whether it has a row; the row of a session that a run begins comes with the charge for the run.
        files: By path, the pending ones too.
        state: Its newest checkpoint.
        box: Where it runs; None = what it has is in the database.
        placed: What lies in the box of `files`: contents by path.
        pending: Files that runs which failed have left in the box, and that the next success registers.
        pending_deleted: Files that such runs have deleted.
        versions: What differs in the box from what was accepted last, as the last run left it: bytes and ns since 1970.
        stored_versions: Which of them are in the database as pending; None = the file is as it came into the box.
        is_dirty: Whether the interpreter has what no checkpoint has.
        is_reset: Whether the interpreter was replaced in a run that ended badly, and has nothing of the session yet.
        is_unrestored: Whether `state` could not be brought back into the interpreter; it is tried again until code has
            defined something in its place.
        lost: What is in no checkpoint, where there is none that could say so; the next new interpreter tells.
        untold: What its box was made ready with, until somebody is told; the next run tells.
        taken_along: Why something that is in no checkpoint has gone with a box, until that is noted.
        unsaved: Why the last checkpoint could not be written; None when it was.
        variables: How many it has defined.
        memory_bytes: Of the box when it was measured last.
        measured_s: When that was, on the clock's `monotonic`.
        used_s: On the clock's `monotonic`.
        left_cpu_s: CPU seconds that the boxes which it has left had spent.
        is_running: Whether code runs at this moment.
        is_gone: Whether it is none of the service's any more; who waited for its lock looks for it anew.
    """

    record: SessionRecord
    hold: Hold | None = None
    held_until_s: float = 0.0
    is_stored: bool = True
    files: dict[str, FileRecord] = field(default_factory=dict)
    state: StateRecord | None = None
    revision: int = -1
    box: Box | None = None
    flavor: Flavor = "lean"
    placed: dict[str, str] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    pending_deleted: set[str] = field(default_factory=set)
    versions: dict[str, tuple[int, int]] = field(default_factory=dict)
    stored_versions: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    is_dirty: bool = False
    is_reset: bool = False
    is_unrestored: bool = False
    lost: tuple[Dropped, ...] = ()
    untold: Readied | None = None
    taken_along: str = ""
    unsaved: str | None = None
    variables: int = 0
    memory_bytes: int = 0
    measured_s: float = -math.inf
    used_s: float = 0.0
    left_cpu_s: float = 0.0
    is_running: bool = False
    is_gone: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def id(self) -> str:
        """Of the session."""
        return self.record.id

    @property
    def has_live_box(self) -> bool:
        """Whether its interpreter is there."""
        return self.box is not None and self.box.is_alive

    @property
    def spent_cpu_s(self) -> float:
        """CPU seconds that its boxes have spent since this process has it."""
        return self.left_cpu_s + (0.0 if self.box is None else self.box.spent_cpu_s)

    def take(self, files: list[FileRecord], state: StateRecord | None, revision: int) -> None:
        """Keep what the database has."""
        self.files = {file.path: file for file in files}
        self.pending |= {file.path for file in files if file.role is Role.PENDING} if self.box is None else set()
        self.state, self.revision = state, revision

    def leave_box(self) -> Box | None:
        """Forget the box and what was in it; whoever calls this closes it."""
        box, self.box = self.box, None
        self.left_cpu_s += 0.0 if box is None else box.spent_cpu_s
        self.placed.clear()
        self.forget_pending()
        self.versions, self.unsaved = {}, None
        self.is_dirty = self.is_reset = self.is_unrestored = False
        self.variables = self.memory_bytes = 0
        return box

    def forget_pending(self) -> None:
        """Know of nothing that runs which failed have left: it is registered, or has gone with the box."""
        self.pending.clear()
        self.pending_deleted.clear()
        self.stored_versions.clear()

    @property
    def has_to_tell(self) -> bool:
        """Whether it knows of what is lost what the database does not."""
        return bool(self.lost or self.taken_along or (self.untold is not None and self.untold.lost))

    def forget_lost(self) -> None:
        """Have nothing to tell: it was not to be kept, or is somebody else's to know."""
        self.lost, self.untold, self.taken_along = (), None, ""

    def state_info(self, expires_at: float) -> StateInfo:
        """Tell what is known of its variables."""
        return state_info(self.id, self.state, expires_at, is_live=self.has_live_box, is_durable=not self.is_dirty)


def state_info(
    session_id: str, state: StateRecord | None, expires_at: float, *, is_live: bool, is_durable: bool
) -> StateInfo:
    """Put what is known of a state into the callers' form."""
    dropped: tuple[Dropped, ...] = () if state is None else state.dropped
    return StateInfo(
        session_id=session_id,
        size_bytes=0 if state is None else state.size_bytes,
        sha256=None if state is None else state.sha256,
        created_at=None if state is None else state.created_at,
        expires_at=expires_at,
        is_live=is_live,
        is_durable=is_durable,
        kept=() if state is None else state.kept,
        dropped=dropped,
    )
