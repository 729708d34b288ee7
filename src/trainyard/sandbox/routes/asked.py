"""Reading POST /exec: the fields of all generations of clients as one `Execute`."""

import hashlib
from typing import Final

from trainyard.core import errors
from trainyard.core.http.hot import Request
from trainyard.sandbox.types.domain import Execute, FileRef, Shelf
from trainyard.sandbox.types.wire import ExecRequest, FileInput

_PROFILES: Final = ("default", "stateful")
"""What LibreChat can expect of an environment; this one is both."""


def execute(request: Request, body: ExecRequest) -> Execute:
    """Say what is to be run.

    Raises:
        errors.InvalidRequest: The client expects what is not served here, or two fields contradict each other.
    """
    _check_expectations(request, body)
    if body.user_id:
        request.note(end_user=body.user_id)
    return Execute(
        code=body.code,
        language=body.lang,
        session_id=body.session_id,
        entity_id=_entity_id(body),
        files=tuple(_ref(number, file) for number, file in enumerate(body.files or ())),
        args=tuple(body.args or ()),
        stdin=_stdin(body.stdin),
        env=body.env or {},
        timeout_s=_timeout_s(body),
        results=body.results,
    )


def is_streamed(request: Request, body: ExecRequest) -> bool:
    """Whether events are wanted in place of one answer."""
    return body.stream or "text/event-stream" in (request.header(b"accept") or "")


def knows_inputs(body: ExecRequest) -> bool:
    """Whether a client can tell inputs from new files: those that name files by `session_id` cannot."""
    return all(file.storage_session_id is not None for file in body.files or ())


def shelf(kind: str | None, resource_id: str | None, version: int | str | None, param: str = "") -> Shelf:
    """Say to whom files belong; of a user's own the credential tells the user, whatever is sent beside it.

    Args:
        kind: As the client wrote it.
        resource_id: Likewise.
        version: Likewise.
        param: Path of the fields in the request, with its dot.

    Raises:
        errors.InvalidRequest: There is no such kind, or the other fields do not suit it.
    """
    if kind in (None, "user"):
        if version is not None:
            raise errors.InvalidRequest(f"{param}version: only a skill has one", param=f"{param}version")
        return Shelf()
    if not resource_id:
        raise errors.InvalidRequest(f"{param}resource_id: name the {kind} to which it belongs", param=f"{param}id")
    if kind == "agent" and version is None:
        return Shelf(kind="agent", resource_id=resource_id)
    if kind == "skill" and version is not None:
        return Shelf(kind="skill", resource_id=resource_id, version=str(version))
    if kind in ("agent", "skill"):
        said = "an agent has none" if kind == "agent" else "name the version of the skill"
        raise errors.InvalidRequest(f"{param}version: {said}", param=f"{param}version")
    raise errors.InvalidRequest(f"{param}kind: valid are user, agent and skill", param=f"{param}kind")


def _check_expectations(request: Request, body: ExecRequest) -> None:
    profile = request.header(b"x-codeapi-expected-profile")
    if profile and profile not in _PROFILES:
        raise errors.InvalidRequest(
            f"This environment is {' and '.join(_PROFILES)}, but not {profile[:40]!a}",
            code="execution_profile_mismatch",
            param="X-CodeAPI-Expected-Profile",
        )
    if body.workspace_instance_id is not None or request.header(b"x-librechat-code-workspace-id") is not None:
        raise errors.InvalidRequest(
            "Attached workspaces are not served here; use a session", code="unsupported_capability"
        )


def _entity_id(body: ExecRequest) -> str | None:
    hint = body.runtime_session_hint
    if hint is None or body.entity_id is not None:
        return body.entity_id
    return f"hint:{hashlib.sha256(hint.encode(errors='surrogatepass')).hexdigest()[:32]}"


def _ref(number: int, file: FileInput) -> FileRef:
    session_id = file.storage_session_id or file.session_id
    if session_id is None:
        param = f"files[{number}].storage_session_id"
        raise errors.InvalidRequest(f"{param}: name the session that keeps the file", param=param)
    whose = None if file.kind is None else shelf(file.kind, file.resource_id, file.version, f"files[{number}].")
    return FileRef(session_id=session_id, file_id=file.id, name=file.name, shelf=whose)


def _stdin(text: str | None) -> bytes:
    try:
        return (text or "").encode()
    except UnicodeEncodeError as error:
        raise errors.InvalidRequest("stdin holds half of a surrogate pair; send Unicode", param="stdin") from error


def _timeout_s(body: ExecRequest) -> float | None:
    if body.timeout is not None and body.timeout_s is not None:
        raise errors.InvalidRequest("Give timeout_s (seconds) or timeout (milliseconds), not both", param="timeout")
    return body.timeout_s if body.timeout is None else body.timeout / 1000
