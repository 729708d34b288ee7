"""Sessions as a whole: listed, interrupted, ended, removed."""

import asyncio
from dataclasses import replace

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.sandbox.service.boxes import Boxes
from trainyard.sandbox.service.collecting import Collecting
from trainyard.sandbox.service.holding import Holding, is_held_elsewhere
from trainyard.sandbox.service.parts import Parts, unknown_session
from trainyard.sandbox.store.records import SessionRecord, Wanted
from trainyard.sandbox.store.sessions import Listed
from trainyard.sandbox.types.domain import Cut, SessionInfo

_ANSWER_S = 2.0
"""For another process, which looks four times a second, to answer."""
_LOOK_S = 0.05


class Seeing:
    """Sessions for callers."""

    def __init__(self, parts: Parts, holding: Holding, boxes: Boxes, collecting: Collecting) -> None:
        self._parts = parts
        self._holding = holding
        self._boxes = boxes
        self._collecting = collecting

    async def sessions(self, principal: Principal, *, everyone: bool, most: int) -> Cut[SessionInfo]:
        """See `SandboxService.list_sessions`."""
        if everyone and not principal.is_admin:
            raise errors.Forbidden("Only a key with the scope admin sees the sessions of others")
        owner = None if everyone else principal.user
        listed = await self._parts.stored(
            self._parts.sessions.listed, principal.tenant, owner, self._parts.clock.now(), most + 1
        )
        return Cut((self._shown(one) for one in listed[:most]), has_more=len(listed) > most)

    async def session(self, principal: Principal, session_id: str) -> SessionInfo:
        """See `SandboxService.show_session`."""
        await self._holding.find(principal, session_id)
        listed = await self._parts.stored(self._parts.sessions.described, session_id)
        if listed is None:
            raise unknown_session()
        return self._shown(listed)

    async def interrupt(self, principal: Principal, session_id: str) -> bool:
        """See `SandboxService.interrupt`."""
        session = await self._holding.find(principal, session_id)
        live = self._holding.sessions.get(session_id)
        if live is not None and live.box is not None:
            if live.is_running:
                await live.box.interrupt()
            return live.is_running
        return await self._ask(session, "interrupt") and await self._answered(session, "interrupt")

    async def kill(self, principal: Principal, session_id: str) -> bool:
        """See `SandboxService.kill_session`."""
        principal = await self._acting(principal, session_id)
        session = await self._holding.find(principal, session_id)
        live = self._holding.sessions.get(session_id)
        if live is None or live.box is None:
            return await self._ask(session, "kill") and await self._answered(session, "kill")
        if live.lock.locked():
            await live.box.close()  # what runs, ends with it
            return True
        async with self._holding.locked(live):
            await self._boxes.put_away(live, "killed", is_final=True)
            await self._boxes.let_go(live)
        return True

    async def delete(self, principal: Principal, session_id: str) -> None:
        """See `SandboxService.delete_session`."""
        session = await self._holding.find(principal, session_id)
        live = self._holding.sessions.get(session_id)
        if live is not None and live.is_running and live.box is not None:
            await live.box.close()
        elif live is None:
            await self._ask(session, "kill")
        async with self._holding.entered(principal, session_id) as live:
            self._boxes.abandon(live)
            live.forget_lost()
            await self._collecting.remove(session_id)

    async def _acting(self, principal: Principal, session_id: str) -> Principal:
        """Put an administrator in the place of the owner, within his tenant."""
        if not principal.is_admin:
            return principal
        session = await self._parts.sessions.find(session_id)
        if session is None or session.tenant != principal.tenant:
            return principal
        return replace(principal, user=session.owner)

    async def _ask(self, session: SessionRecord, wanted: Wanted) -> bool:
        """Ask the process that holds a session; whether there is another."""
        now = self._parts.clock.now()
        if not is_held_elsewhere(session, self._parts.holder, now):
            return False
        return await self._parts.stored(self._parts.sessions.want, session.id, wanted, now)

    async def _answered(self, asked: SessionRecord, wanted: Wanted) -> bool:
        """Wait for the holder; whether it had something to do it to.

        Raises:
            errors.Unavailable: It has not answered yet (code `session_not_answered`).
        """
        for _ in range(round(_ANSWER_S / _LOOK_S)):
            await asyncio.sleep(_LOOK_S)
            found = await self._parts.sessions.find(asked.id)
            if found is None or (found.holder, found.fence) != (asked.holder, asked.fence):
                return wanted == "kill"  # nobody lets go of a session whose box runs
            if found.wanted != wanted:
                return found.wanted in ("interrupted", "killed")
        raise errors.Unavailable(
            f"The process that has this session was asked to {wanted} it and has not answered yet; ask again",
            code="session_not_answered",
            param="session_id",
            retry_after_s=1,
        )

    def _shown(self, listed: Listed) -> SessionInfo:
        session = listed.session
        live = self._holding.sessions.get(session.id)
        is_here = live is not None and live.has_live_box
        return SessionInfo(
            id=session.id,
            owner=session.owner,
            entity_id=session.entity_id,
            created_at=session.created_at,
            used_at=session.used_at,
            expires_at=session.expires_at,
            is_live=is_here or is_held_elsewhere(session, self._parts.holder, self._parts.clock.now()),
            memory_bytes=live.memory_bytes if live is not None else 0,
            files=listed.files,
            state_bytes=listed.state_bytes,
            shelf=session.shelf,
        )
