"""Writing what the service gives in the words of LibreChat's clients, all generations at once."""

import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final

from msgspec import structs

from trainyard.core.principal import Principal
from trainyard.sandbox.types import wire
from trainyard.sandbox.types.domain import Executed, FileRef, Shelf, StoredFile
from trainyard.sandbox.types.orders import Dropped, Reason, Result

_SAID: Final = {
    Reason.TIMEOUT: "Time limit exceeded",
    Reason.CPU: "Time limit exceeded",
    Reason.MEMORY: "Out of memory",
    Reason.INTERRUPTED: "Execution interrupted",
    Reason.KILLED: "Execution failed or timed out",
}
"""LibreChat knows all but the fourth, and words them for its users."""


def executed(
    principal: Principal, run: Executed, *, echoes: bool = True, refs: Sequence[FileRef] = ()
) -> wire.ExecResponse:
    """Write how a run ended.

    Args:
        principal: Whose run it was.
        run: The run.
        echoes: Whether inputs that stayed as they were are listed too; LibreChat's oldest clients take every file of an
            answer for a new one.
        refs: Files that were asked for; an input that stayed as it was has the ids that it has there, by which clients
            know it again.
    """
    error, state = fault(run), run.state
    asked_for = {ref.name: ref for ref in refs}
    inherited = [_echo(principal, one, asked_for.get(one.path)) for one in run.inherited] if echoes else []
    return wire.ExecResponse(
        session_id=run.session_id,
        storage_session_id=run.session_id,
        runtime_session_id=run.session_id,
        runtime_status="new" if run.is_new_runtime else "reused",
        language=run.language,
        stdout=run.stdout,
        stderr=_with_fault(run, error),
        stdout_bytes=run.stdout_stream.total_bytes,
        stderr_bytes=run.stderr_stream.total_bytes,
        error=error,
        exit_code=run.exit_code,
        signal=run.signal,
        reason=None if run.reason is None else run.reason.value,
        phase=run.phase,
        wall_s=round(run.wall_s, 6),
        cpu_s=round(run.cpu_s, 6),
        peak_memory_bytes=run.peak_memory_bytes,
        files=[*(file(principal, one) for one in run.files), *inherited],
        deleted_files=[one.path for one in run.deleted],
        logs=[file(principal, one) for one in run.logs],
        results=[output(result) for result in run.results],
        has_state=state is not None and (state.is_live or state.sha256 is not None),
        state_size=0 if state is None else state.size_bytes,
        state_hash=None if state is None else state.sha256,
        restored=list(run.restored),
        lost=_lost(run.lost),
        artifact_delivery=_delivery(run),
    )


def fault(run: Executed) -> str | None:
    """Say in one of the sentences that LibreChat knows why a run was no success; None when it was one."""
    if run.reason is Reason.OUTPUT:
        is_stderr = run.stderr_stream.total_bytes > run.stdout_stream.total_bytes
        return f"{'stderr' if is_stderr else 'stdout'} length exceeded"
    if run.reason is not None:
        return _SAID[run.reason]
    code = run.exit_code if run.signal is None else _negative(run.signal)
    return None if code == 0 else f"Sandbox exited with code {'unknown' if code is None else code}"


def _negative(name: str) -> int | None:
    """Write a signal as the exit code that Python's `subprocess` has for it; None for one that nobody knows."""
    known = signal.Signals.__members__.get(name)
    if known is not None:
        return -known
    return next((-number for number in signal.valid_signals() if name == f"SIG{int(number)}"), None)


def _with_fault(run: Executed, error: str | None) -> str:
    """Add the sentence to stderr, which clients of /exec alone show, where the code itself could not say it."""
    is_silent = run.reason is not None or run.signal is not None or not run.stderr.strip()
    if error is None or not is_silent:
        return run.stderr
    border = "" if not run.stderr or run.stderr.endswith("\n") else "\n"
    return f"{run.stderr}{border}{error}\n"


def file(principal: Principal, stored: StoredFile, is_inherited: bool = False) -> wire.ExecFile:
    """Write one file."""
    return wire.ExecFile(
        id=stored.id,
        name=stored.path,
        path=stored.path,
        session_id=stored.session_id,
        storage_session_id=stored.session_id,
        resource_id=resource_id(principal, stored.shelf),
        kind=stored.shelf.kind,
        version=version(stored.shelf),
        size=stored.size_bytes,
        content_type=stored.content_type,
        sha256=stored.sha256,
        inherited=is_inherited,
    )


def _echo(principal: Principal, stored: StoredFile, ref: FileRef | None) -> wire.ExecFile:
    if ref is not None:
        shelf = ref.shelf or stored.shelf
        stored = structs.replace(stored, id=ref.file_id, session_id=ref.session_id, shelf=shelf)
    return file(principal, stored, is_inherited=True)


def resource_id(principal: Principal, shelf: Shelf) -> str:
    """Tell to whom files belong."""
    return shelf.resource_id or principal.user


def version(shelf: Shelf) -> int | str | None:
    """Write the version of a skill as LibreChat has it, as a number, where it is one."""
    text = shelf.version
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 15 else text


def output(result: Result) -> wire.Output:
    """Write one value, figure or table."""
    return wire.Output(output_type=result.kind, data=dict(result.data), metadata={}, file=result.file)


def moment(unix_s: float) -> str:
    """Write a time as JavaScript does: ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def object_name(stored: StoredFile) -> str:
    """Name a file as LibreChat's oldest clients take it apart: session, slash, file, extension."""
    extension = PurePosixPath(stored.path).suffix
    return f"{stored.session_id}/{stored.id}{extension}"


def _lost(dropped: Sequence[Dropped]) -> list[wire.LostVariable]:
    return [wire.LostVariable(name=one.name, reason=one.reason) for one in dropped]


def _delivery(run: Executed) -> wire.ArtifactDelivery | None:
    failed, delivered = len(run.failed_files), len(run.files)
    if not failed:
        return None
    return wire.ArtifactDelivery(
        status="partial" if delivered else "failed",
        attempted=failed + delivered,
        delivered=delivered,
        failed=failed,
        failures=dict(run.failed_files),
    )
