"""What `trainyard sandbox ps` shows."""

import sys
from collections.abc import Sequence

from rich.console import Console

from trainyard.cli import output
from trainyard.sdk.results import Result
from trainyard.sdk.sandbox_results import Inventory, OwnedSession

_SESSIONS = ("SESSION", "USER", "ENTITY", "MEMORY", "FILES", "STATE", "USED")
_KIB, _MIB = 1 << 10, 1 << 20


def inventory(found: Inventory, *, out: Console | None = None) -> None:
    """Print sessions as a table, and the boxes as one line on standard error."""
    if found.sessions or not (out or output.console()).is_terminal:
        output.table(_SESSIONS, [_session(one) for one in found.sessions], whole=("SESSION", "MEMORY", "USED"), out=out)
    else:
        output.plain("no sessions", out=out)
    if found.get("has_more"):
        print(f"there are more sessions than these {len(found.sessions)}; live ones come first", file=sys.stderr)
    print(boxes(found.boxes), file=sys.stderr)


def boxes(found: Sequence[Result]) -> str:
    """Say in one line how many boxes of a process are in use, and how many are kept ready."""
    taken = sum(1 for box in found if box.is_taken)
    ready = [sum(1 for box in found if box.flavor == flavor and not box.is_taken) for flavor in ("lean", "science")]
    return f"boxes of the process that answered: {taken} taken; kept ready: {ready[0]} lean, {ready[1]} science"


def _session(one: OwnedSession) -> Sequence[object]:
    memory = size(one.memory_bytes) if one.is_live else "not live"
    used = f"{one.used_at[:10]} {one.used_at[11:19]}Z"
    return (one.session_id, one.user, one.entity_id, memory, one.files, size(one.state_bytes), used)


def size(size_bytes: int) -> str:
    """Write a size: bytes below 1 KiB, KiB below 1 MiB, else MiB with one digit."""
    if size_bytes < _KIB:
        return f"{size_bytes} B"
    return f"{size_bytes / _KIB:.0f} KiB" if size_bytes < _MIB else f"{size_bytes / _MIB:.1f} MiB"
