"""The verbs of the sandbox as calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import quote

from trainyard.sdk import results
from trainyard.sdk.admin_calls import with_query
from trainyard.sdk.call import Call, StreamCall, given
from trainyard.sdk.sandbox_results import (
    Collected,
    Execution,
    Inventory,
    OwnedSession,
    SandboxEvent,
    SessionInfo,
    StateInfo,
    Stored,
    StoredEach,
)

_BASE = "/v1/code"
_ADMINISTRATION = "/v1/admin/sandbox"

Source = Path | str | Mapping[str, Path | str]
"""A file here, stored under its last name; or several by the names to store them under, which may have folders."""


class RunOptions(TypedDict, total=False):
    """How code is run; what is left out or None is the server's default.

    Attributes:
        language: Code or alias; Python when left out.
        args: Arguments of the program.
        stdin: Standard input.
        env: Environment variables of this run alone.
        timeout_s: Wall clock.
        files: Stored files that the code needs, as `files` of a run or an upload names them.
        results: Whether the last value, figures and tables are wanted; true when left out.
    """

    language: str | None
    args: Sequence[str] | None
    stdin: str | None
    env: Mapping[str, str] | None
    timeout_s: float | None
    files: Sequence[Mapping[str, object]] | None
    results: bool | None


class UploadOptions(TypedDict, total=False):
    """How files are stored; what is left out or None is the server's default.

    Attributes:
        kind: Whose they are: `user`, `agent` or `skill`. Every user of the tenant may read the latter two, and no code
            runs in the session that keeps them.
        resource_id: Of the agent or skill.
        version: Of the skill.
        read_only: Whether runs leave the stored files as they are.
    """

    kind: Literal["user", "agent", "skill"] | None
    resource_id: str | None
    version: int | str | None
    read_only: bool | None


def languages() -> Call[list[results.Result]]:
    """List the languages that run on the server."""
    return Call("GET", f"{_BASE}/languages", lambda body: list(body["languages"]), is_idempotent=True)


def list_sessions() -> Call[list[SessionInfo]]:
    """List your sessions, at most 1,000: live ones before the others, the one that was used last first."""
    return Call("GET", f"{_BASE}/sessions", lambda body: _all(SessionInfo, body["sessions"]), is_idempotent=True)


def run(
    code: str, *, session_id: str | None = None, entity_id: str | None = None, **options: Unpack[RunOptions]
) -> Call[Execution]:
    """Run code; in a new session, in this one, or in the one of a name of your choosing."""
    return Call("POST", f"{_BASE}/exec", Execution, _body(code, session_id, entity_id, options))


def run_stream(
    code: str, *, session_id: str | None = None, entity_id: str | None = None, **options: Unpack[RunOptions]
) -> StreamCall[SandboxEvent]:
    """Run code and tell what it writes as it appears; the last event is `done`."""
    body = _body(code, session_id, entity_id, options) | {"stream": True}
    return StreamCall(f"{_BASE}/exec", lambda name, data: SandboxEvent(data | {"event": name}), body)


def upload(
    *paths: Source, session_id: str | None = None, entity_id: str | None = None, **options: Unpack[UploadOptions]
) -> Call[Stored]:
    """Store files, each under its name or the one that it is given: all of them, or none."""
    fields = _fields(session_id, entity_id, options)
    return Call("POST", f"{_BASE}/upload", Stored, fields, files=_by_name(paths))


def upload_each(
    *paths: Source, session_id: str | None = None, entity_id: str | None = None, **options: Unpack[UploadOptions]
) -> Call[StoredEach]:
    """Store files, each by itself: one that is refused does not keep the others from it."""
    fields = _fields(session_id, entity_id, options)
    return Call("POST", f"{_BASE}/upload/batch", StoredEach, fields, files=_by_name(paths))


def list_files(session_id: str) -> Call[list[results.Result]]:
    """List the files of a session in full."""
    return Call("GET", f"{_BASE}/files/{session_id}?detail=full", list, is_idempotent=True)


def delete_file(session_id: str, file_id: str) -> Call[None]:
    """Remove a file."""
    return _nothing("DELETE", f"/files/{session_id}/{file_id}")


def variables(session_id: str) -> Call[list[results.Result]]:
    """List what the code of a session has defined."""
    return Call(
        "GET", f"{_BASE}/sessions/{session_id}/variables", lambda body: list(body["variables"]), is_idempotent=True
    )


def state_info(session_id: str) -> Call[StateInfo]:
    """Tell what is known of the variables of a session."""
    return Call("GET", f"{_BASE}/state/{session_id}/info", StateInfo, is_idempotent=True)


def import_state(session_id: str, path: Path | str) -> Call[results.Result]:
    """Put a checkpoint that `export_state` has fetched in the place of a session's variables."""
    return Call("POST", f"{_BASE}/state/{session_id}", results.Result, raw=Path(path), is_idempotent=True)


def delete_state(session_id: str) -> Call[None]:
    """Forget the variables of a session; its files stay."""
    return _nothing("DELETE", f"/state/{session_id}")


def reset(session_id: str) -> Call[None]:
    """Give a session a new interpreter; its files stay."""
    return _nothing("POST", f"/sessions/{session_id}/reset")


def interrupt(session_id: str) -> Call[bool]:
    """Interrupt what runs, as Ctrl-C does; tells whether something ran."""
    return Call("POST", f"{_BASE}/sessions/{session_id}/interrupt", lambda body: bool(body["interrupted"]))


def delete_session(session_id: str) -> Call[None]:
    """Remove a session with its files and its state."""
    return _nothing("DELETE", f"/sessions/{session_id}")


def download_path(session_id: str, file_id: str) -> str:
    """Name where a file is fetched."""
    return f"{_BASE}/download/{session_id}/{file_id}"


def state_path(session_id: str) -> str:
    """Name where a checkpoint is fetched."""
    return f"{_BASE}/state/{session_id}"


def inventory() -> Call[Inventory]:
    """Show what runs in the sandbox; for administrators."""
    return Call("GET", _ADMINISTRATION, _inventory, is_idempotent=True)


def kill(session_id: str) -> Call[bool]:
    """End the box of a session of your tenant; tells whether there was one. For administrators."""
    path = f"{_ADMINISTRATION}/sessions/{quote(session_id, safe='')}/kill"
    return Call("POST", path, lambda body: bool(body["killed"]), is_idempotent=True)


def collect(stray_s: float | None = None) -> Call[Collected]:
    """Remove sessions after their time, and contents of that age that nothing names; for administrators."""
    return Call("POST", with_query(f"{_ADMINISTRATION}/gc", given(stray_s=stray_s)), Collected, is_idempotent=True)


def _inventory(body: Mapping[str, Any]) -> Inventory:
    return Inventory({**body, "sessions": [OwnedSession(session) for session in body["sessions"]]})


def _by_name(paths: Sequence[Source]) -> dict[str, Path]:
    """Name files as they are named here, or as the caller does.

    Raises:
        ValueError: Two have one name, so that one of them would be lost.
    """
    named: dict[str, Path] = {}
    for one in paths:
        for name, path in (one if isinstance(one, Mapping) else {Path(one).name: one}).items():
            if name in named:
                raise ValueError(f"{named[name]} and {path} have the same name; store them under names of your own")
            named[name] = Path(path)
    return named


def _fields(session_id: str | None, entity_id: str | None, options: UploadOptions) -> dict[str, object]:
    version, read_only = options.get("version"), options.get("read_only")
    return given(
        kind=options.get("kind"),
        id=options.get("resource_id"),
        version=None if version is None else str(version),
        read_only=None if read_only is None else str(read_only).lower(),
        entity_id=entity_id,
        session_id=session_id,
    )


def _nothing(method: str, path: str) -> Call[None]:
    return Call(method, f"{_BASE}{path}", lambda _: None, is_idempotent=True)


def _body(code: str, session_id: str | None, entity_id: str | None, options: RunOptions) -> dict[str, object]:
    more: dict[str, Any] = dict(options)
    language, files = more.pop("language", None) or "py", more.pop("files", None)
    refs = [_reference(file) for file in files] if files is not None else None
    args = list(more.pop("args", None) or ()) or None
    return given(code=code, lang=language, session_id=session_id, entity_id=entity_id, args=args, files=refs, **more)


def _reference(file: Mapping[str, Any]) -> dict[str, object]:
    """Name a stored file, whether a run, an upload or a list has told of it."""
    is_shared = file.get("kind") in ("agent", "skill")
    return given(
        id=file.get("id") or file.get("fileId"),
        storage_session_id=file.get("storage_session_id") or file.get("session_id"),
        name=file.get("path") or file.get("filename"),
        **{name: file.get(name) for name in ("kind", "resource_id", "version") if is_shared},
    )


def _all(kind: type[SessionInfo], rows: Sequence[Mapping[str, Any]]) -> list[SessionInfo]:
    return [kind(row) for row in rows]
