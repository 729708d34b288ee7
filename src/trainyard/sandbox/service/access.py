"""Who may see which session and which file."""

from trainyard.core.principal import Principal
from trainyard.sandbox.service.parts import Parts, is_owner, unknown_session
from trainyard.sandbox.store import SessionRecord
from trainyard.sandbox.types.domain import Shelf


class Access:
    """Decides by owner, tenant and shelf; all refusals are the answer for what is not there."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def may_read(self, principal: Principal, session: SessionRecord, shelf: Shelf | None) -> bool:
        """Whether the caller may read the files of a session.

        A user's own are his alone. Those of an agent or a skill are for all users of the tenant who name it rightly;
        whoever uploaded them need not name it.
        """
        if session.expires_at <= self._parts.clock.now() or session.tenant != principal.tenant:
            return False
        is_mine = is_owner(principal, session.tenant, session.owner)
        if session.kind == "user":
            return is_mine and (shelf is None or shelf.kind == "user")
        return is_mine if shelf is None else shelf == session.shelf

    async def readable(self, principal: Principal, session_id: str, shelf: Shelf | None) -> SessionRecord:
        """Find a session whose files the caller may read; raises errors.NotFound (code `session_not_found`)."""
        session = await self._parts.sessions.find(session_id)
        if session is None or not self.may_read(principal, session, shelf):
            raise unknown_session()
        return session

    async def writable(self, principal: Principal, session_id: str, shelf: Shelf | None) -> SessionRecord:
        """Find a session whose files the caller may change; raises as `readable`."""
        session = await self.readable(principal, session_id, shelf)
        if not is_owner(principal, session.tenant, session.owner):
            raise unknown_session()
        return session
