"""States of sessions for callers: told of, read, put in their place, removed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.sandbox.inside import container
from trainyard.sandbox.service.boxes import Boxes
from trainyard.sandbox.service.checkpoints import Checkpoints
from trainyard.sandbox.service.contents import Contents
from trainyard.sandbox.service.holding import Holding
from trainyard.sandbox.service.live import LiveSession, state_info
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import SessionRecord, StateRecord
from trainyard.sandbox.types.domain import StateInfo
from trainyard.sandbox.types.orders import Flavor, Variable

Result = TypeVar("Result")


class Stating:
    """Variables of sessions."""

    def __init__(
        self, parts: Parts, holding: Holding, boxes: Boxes, checkpoints: Checkpoints, contents: Contents
    ) -> None:
        self._parts = parts
        self._holding = holding
        self._boxes = boxes
        self._checkpoints = checkpoints
        self._contents = contents

    async def info(self, principal: Principal, session_id: str) -> StateInfo:
        """See `SandboxService.state_info`."""
        session = await self._holding.find(principal, session_id)
        state = await self._parts.stored(self._parts.states.find, session_id)
        return self._told(session, state)

    async def read(self, principal: Principal, session_id: str) -> tuple[StateInfo, AsyncIterator[bytes]]:
        """See `SandboxService.read_state`."""
        session = await self._holding.find(principal, session_id)
        live = self._holding.sessions.get(session_id)
        if live is not None and live.is_dirty:
            async with self._holding.locked(live):
                if not live.is_gone and live.has_live_box:
                    await self._checkpoints.save(live)
        state = await self._parts.stored(self._parts.states.find, session_id)
        if state is None:
            raise errors.NotFound("This session has no state", code="state_not_found", param="session_id")
        return self._told(session, state), self._parts.blobs.open(state.sha256)

    async def write(self, principal: Principal, session_id: str, content: AsyncIterator[bytes]) -> StateInfo:
        """See `SandboxService.write_state`."""
        await self._holding.find(principal, session_id)
        header = _Header()
        blob = await self._contents.put(header.watch(content), self._parts.limits.state_bytes, "uploaded", "state")
        try:
            kept = await asyncio.to_thread(header.names, blob.size_bytes)
            async with self._holding.entered(principal, session_id) as live:
                state = StateRecord(
                    session_id=session_id,
                    tenant=live.record.tenant,
                    sha256=blob.sha256,
                    size_bytes=blob.size_bytes,
                    created_at=self._parts.clock.now(),
                    flavor=self._flavor(live),
                    kept=kept,
                    dropped=(),
                )
                await self._checkpoints.replace(live, state)
                self._reset(live)
                return live.state_info(live.record.expires_at)
        except BaseException:
            self._parts.finish(self._contents.collect_later([blob.sha256]))
            raise

    async def delete(self, principal: Principal, session_id: str) -> None:
        """See `SandboxService.delete_state`."""
        async with self._holding.entered(principal, session_id) as live:
            await self._checkpoints.forget(live)
            self._reset(live)

    async def variables(self, principal: Principal, session_id: str) -> list[Variable]:
        """See `SandboxService.variables`."""
        async with self._holding.entered(principal, session_id) as live:
            if not live.has_live_box and live.state is None:
                return []
            await self._boxes.ready(live, live.flavor)
            assert live.box is not None
            return await live.box.variables()

    def _told(self, session: SessionRecord, state: StateRecord | None) -> StateInfo:
        live = self._holding.sessions.get(session.id)
        if live is None or not live.has_live_box:
            is_live = session.holder not in (None, self._parts.holder)
            # Of another process only the times are known here.
            is_durable = not is_live or (state is not None and state.created_at >= session.used_at)
        else:
            is_live, is_durable = True, not live.is_dirty
        return state_info(session.id, state, session.expires_at, is_live=is_live, is_durable=is_durable)

    def _reset(self, live: LiveSession) -> None:
        """Give up the interpreter; the next run begins with what the database has.

        Files that a failed run has left go with the box, as they do when a box dies.
        """
        self._boxes.abandon(live)

    def _flavor(self, live: LiveSession) -> Flavor:
        return live.state.flavor if live.state is not None else live.flavor


class _Header:
    """Keeps the begin of a state while it is stored, and reads from it what may be known without unpickling."""

    def __init__(self) -> None:
        self._begin = b""

    async def watch(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass the content on; stops at once where it is no state."""
        wanted = container.START.size
        async for piece in content:
            if len(self._begin) < wanted:
                self._begin += piece
                if len(self._begin) >= container.START.size:
                    wanted = self._read(container.header_bytes)
            yield piece

    def names(self, size_bytes: int) -> tuple[str, ...]:
        """List the variables of a whole state.

        Raises:
            errors.InvalidRequest: It is none (code `invalid_state`).
        """
        header = self._read(container.state_header)
        if header.size_bytes != size_bytes:
            raise _invalid(f"by its header it has {header.size_bytes} bytes, but there are {size_bytes}")
        return tuple(variable.name for variable in header.variables)

    def _read(self, reader: Callable[[bytes], Result]) -> Result:
        try:
            return reader(self._begin)
        except container.BadState as error:
            raise _invalid(str(error)) from error


def _invalid(why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"This is no state of a session: {why}; send what GET /state has given", code="invalid_state", param="body"
    )
