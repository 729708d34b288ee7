"""`/v1/admin/sandbox`: what runs, ending it, and clearing away what is over."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from trainyard.core.http import auth, query
from trainyard.core.principal import Principal
from trainyard.sandbox.routes import sessions
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.domain import SessionInfo
from trainyard.sandbox.types.wire_sessions import BoxAnswer, Collection, Inventory, Killed, OwnedSession

Admin = Annotated[Principal, Depends(auth.principal("admin"))]
"""The principal of a key that may administer."""


def router(service: SandboxService) -> APIRouter:
    """Make the routes; an administrator sees his tenant."""
    routes = APIRouter(prefix="/v1/admin/sandbox", tags=["administration"], dependencies=[Depends(query.only_known)])

    @routes.get("", summary="Show what runs in the sandbox")
    async def show_sandbox(who: Admin) -> Inventory:
        """List the sessions of the tenant, live ones first, then as they were used, and the boxes of this process."""
        boxes = [BoxAnswer(id=box.id, pid=box.pid, flavor=box.flavor, is_taken=box.is_taken) for box in service.boxes()]
        found = await service.list_sessions(who, everyone=True)
        return Inventory(sessions=[_owned(session) for session in found], has_more=found.has_more, boxes=boxes)

    @routes.post("/sessions/{session_id}/kill", summary="End the box of a session")
    async def kill_session(
        who: Admin, session_id: Annotated[str, Path(max_length=256, description="A session of your tenant.")]
    ) -> Killed:
        """End what runs, and the interpreter; files and the newest checkpoint stay, and the next run begins with it."""
        return Killed(session_id=session_id, killed=await service.kill_session(who, session_id))

    @routes.post("/gc", summary="Remove what is over")
    async def collect(
        who: Admin,
        stray_s: Annotated[
            float | None,
            Query(ge=60, le=31_536_000, description="Age in seconds of contents without a name; null = an hour."),
        ] = None,
    ) -> Collection:
        """Remove expired sessions, and contents that nothing names; it also happens by itself, every minute.

        Of all tenants; what is not over yet stays.
        """
        removed = await (service.gc() if stray_s is None else service.gc(stray_s=stray_s))
        return Collection(sessions=removed.sessions, contents=removed.contents)

    return routes


def _owned(session: SessionInfo) -> OwnedSession:
    return OwnedSession(**sessions.fields(session), user=session.owner)
