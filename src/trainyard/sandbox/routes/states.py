"""The variables of a session: export, import, removal, and what is known of them."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from trainyard.core.blobs import begun
from trainyard.sandbox.routes import access, answers
from trainyard.sandbox.routes.access import Runner, SessionId
from trainyard.sandbox.routes.downloads import IfNoneMatch, is_known
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.domain import StateInfo
from trainyard.sandbox.types.wire_sessions import DroppedVariable, StateAnswer, StateUploaded

_BYTES: Final[dict[str, Any]] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_CHECKPOINT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The checkpoint; its ETag is the SHA-256 of it.", "content": _BYTES},
    304: {"description": "`If-None-Match` names the checkpoint as it is."},
}


def add(routes: APIRouter, service: SandboxService) -> None:
    """Add the routes."""

    @routes.get("/state/{session_id}/info", summary="What is known of a session's variables")
    async def show_state(who: Runner, session_id: SessionId) -> StateAnswer:
        """Tell size, hash and names."""
        return _answer(await service.state_info(who, session_id))

    @routes.get("/state/{session_id}", summary="Export a session's variables", responses=_CHECKPOINT | access.WORK)
    async def read_state(
        who: Runner, session_id: SessionId, request: Request, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Send the checkpoint, which POST takes again; what the interpreter holds is written down first."""
        state, content = await service.read_state(
            who,
            session_id,
            knows=lambda sha256: is_known(if_none_match, sha256),
            request_id=request.state.request_id,
        )
        headers = {"ETag": f'"{state.sha256}"', "Cache-Control": "private, no-cache"}
        if state.sha256 is not None and is_known(if_none_match, state.sha256):
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(state.size_bytes)
        return StreamingResponse(await begun(content), headers=headers, media_type="application/octet-stream")

    @routes.post(
        "/state/{session_id}",
        summary="Import a session's variables",
        status_code=201,
        responses=access.WORK,
        openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
    )
    async def write_state(who: Runner, session_id: SessionId, request: Request) -> StateUploaded:
        """Put a checkpoint in the place of the variables; it is opened in isolation, by the next run."""
        state = await service.write_state(who, session_id, request.stream(), request_id=request.state.request_id)
        return StateUploaded(size=state.size_bytes, hash=state.sha256)

    @routes.delete("/state/{session_id}", summary="Forget a session's variables", status_code=204)
    async def delete_state(who: Runner, session_id: SessionId) -> Response:
        """Remove the checkpoint, and put a new interpreter in the place of a live one; files stay."""
        await service.delete_state(who, session_id)
        return Response(status_code=204)


def _answer(state: StateInfo) -> StateAnswer:
    is_written = state.sha256 is not None
    return StateAnswer(
        session_id=state.session_id,
        exists=is_written,
        size_bytes=state.size_bytes,
        hash=state.sha256,
        created_at=None if state.created_at is None else answers.moment(state.created_at),
        expires_at=answers.moment(state.expires_at),
        source="live" if state.is_live else "checkpoint" if is_written else "none",
        is_durable=state.is_durable,
        kept=list(state.kept),
        dropped=[DroppedVariable(name=one.name, reason=one.reason) for one in state.dropped],
    )
