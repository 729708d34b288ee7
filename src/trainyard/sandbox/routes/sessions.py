"""Sessions: what runs, what it holds, and ending it."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from trainyard.sandbox.routes import access, answers
from trainyard.sandbox.routes.access import Runner, SessionId
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types import wire_sessions as bodies
from trainyard.sandbox.types.domain import SessionInfo


def add(routes: APIRouter, service: SandboxService) -> None:
    """Add the routes."""

    @routes.get("/sessions", summary="List sessions")
    async def list_sessions(who: Runner) -> bodies.SessionList:
        """List the caller's sessions, live ones before the others, the one that was used last first."""
        found = await service.list_sessions(who)
        return bodies.SessionList(sessions=[info(one) for one in found], has_more=found.has_more)

    @routes.get("/sessions/{session_id}", summary="Show a session")
    async def show_session(who: Runner, session_id: SessionId) -> bodies.SessionAnswer:
        """Tell whether it is live, what it holds, and when it ends."""
        return info(await service.show_session(who, session_id))

    @routes.delete("/sessions/{session_id}", summary="Remove a session", status_code=204, responses=access.STATE)
    async def delete_session(who: Runner, session_id: SessionId) -> Response:
        """End what runs, and remove files and state."""
        await service.delete_session(who, session_id)
        return Response(status_code=204)

    @routes.post("/sessions/{session_id}/interrupt", summary="Interrupt what runs")
    async def interrupt(who: Runner, session_id: SessionId) -> bodies.Interrupted:
        """Send SIGINT to what runs, as Ctrl-C does; the run ends with `reason: interrupted`, its variables are kept."""
        return bodies.Interrupted(session_id=session_id, interrupted=await service.interrupt(who, session_id))

    @routes.post("/sessions/{session_id}/reset", summary="Begin anew", status_code=204, responses=access.STATE)
    async def reset(who: Runner, session_id: SessionId) -> Response:
        """Put a new interpreter in the place of the old one; files stay."""
        await service.reset(who, session_id)
        return Response(status_code=204)

    @routes.get("/sessions/{session_id}/variables", summary="List variables", responses=access.WORK)
    async def list_variables(who: Runner, session_id: SessionId, request: Request) -> bodies.VariableList:
        """List what the code has defined."""
        found = await service.variables(who, session_id, request_id=request.state.request_id)
        shown = [
            bodies.VariableInfo(name=one.name, type=one.type, bytes=one.bytes, preview=one.preview) for one in found
        ]
        return bodies.VariableList(session_id=session_id, variables=shown)


def info(session: SessionInfo) -> bodies.SessionAnswer:
    """Write one session."""
    return bodies.SessionAnswer(**fields(session))


def fields(session: SessionInfo) -> dict[str, Any]:
    """Lay out what every list of sessions tells."""
    return {
        "session_id": session.id,
        "entity_id": session.entity_id,
        "created_at": answers.moment(session.created_at),
        "used_at": answers.moment(session.used_at),
        "expires_at": answers.moment(session.expires_at),
        "is_live": session.is_live,
        "memory_bytes": session.memory_bytes,
        "files": session.files,
        "state_bytes": session.state_bytes,
        "kind": session.shelf.kind,
        "resource_id": session.shelf.resource_id,
        "version": answers.version(session.shelf),
    }
