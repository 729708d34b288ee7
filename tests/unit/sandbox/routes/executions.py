"""Runs that have ended, as the service tells of them."""

from trainyard.core.principal import Principal
from trainyard.sandbox.types.domain import Executed, Shelf, StoredFile
from trainyard.sandbox.types.orders import Stream

ADA = Principal("acme", "ada", "key_1", frozenset({"execute"}))
SESSION, FILE = "S" * 21, "F" * 21


def stream(total: int = 0) -> Stream:
    """Describe a stream that was kept whole."""
    return Stream(kept_bytes=total, head_bytes=total, total_bytes=total)


def ended(**changed: object) -> Executed:
    """Make a run that said nothing and ended well."""
    fields = {
        "session_id": SESSION, "language": "py", "stdout": "", "stderr": "", "stdout_stream": stream(),
        "stderr_stream": stream(), "exit_code": 0, "signal": None, "reason": None, "phase": "run", "wall_s": 0.5,
        "cpu_s": 0.25, "peak_memory_bytes": 1000, "results": (), "files": (), "inherited": (), "deleted": (),
        "logs": (), "failed_files": {}, "is_new_runtime": True, "restored": (), "lost": (), "state": None,
    }  # fmt: skip
    return Executed(**{**fields, **changed})  # type: ignore[arg-type]


def stored(path: str = "a.txt", shelf: Shelf | None = None, **changed: object) -> StoredFile:
    """Make a file."""
    fields = {
        "id": FILE, "session_id": SESSION, "path": path, "size_bytes": 3, "sha256": "0" * 64,
        "created_at": 1_700_000_000.0, "modified_at": 1_700_000_000.5, "is_input": False, "content_type": "text/plain",
    }  # fmt: skip
    return StoredFile(shelf=shelf or Shelf(), **{**fields, **changed})  # type: ignore[arg-type]
