"""States of sessions for callers: told of, read, put in their place, removed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from trainyard.core import errors
from trainyard.core.ledger.types import Work
from trainyard.core.metering.base import Charge
from trainyard.core.principal import Principal
from trainyard.sandbox.inside import container
from trainyard.sandbox.service import charging
from trainyard.sandbox.service.boxes import Boxes
from trainyard.sandbox.service.checkpoints import INTERPRETER_GONE, Checkpoints
from trainyard.sandbox.service.contents import Contents
from trainyard.sandbox.service.holding import Holding, is_held_elsewhere
from trainyard.sandbox.service.live import LiveSession, state_info
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import SessionRecord, StateRecord
from trainyard.sandbox.types.domain import StateInfo
from trainyard.sandbox.types.orders import Flavor, Variable

Result = TypeVar("Result")

Knows = Callable[[str], bool]
"""Whether the caller has the state of that SHA-256 already, and is sent nothing."""

STATE_ROUTE = "/state/{session_id}"
VARIABLES_ROUTE = "/sessions/{session_id}/variables"
_MODEL = "sandbox/state"


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

    async def read(
        self, principal: Principal, session_id: str, knows: Knows, request_id: str | None
    ) -> tuple[StateInfo, AsyncIterator[bytes]]:
        """See `SandboxService.read_state`."""
        async with await self._opened(principal, STATE_ROUTE, request_id) as charge:
            session = await self._holding.find(principal, session_id)
            cpu_s, state = await self._written(principal, session, charge)
            if state is None:
                left = errors.NotFound("This session has no state", code="state_not_found", param="session_id")
                await charging.charge_left(charge, left, Work(cpu_s=cpu_s))
                raise left
            sent_bytes = 0 if knows(state.sha256) else state.size_bytes
            await charge.settle(charging.used(Work(cpu_s=cpu_s, bytes_out=sent_bytes)))
        return self._told(session, state), self._parts.blobs.open(state.sha256)

    async def write(
        self, principal: Principal, session_id: str, content: AsyncIterator[bytes], request_id: str | None
    ) -> StateInfo:
        """See `SandboxService.write_state`."""
        async with await self._opened(principal, STATE_ROUTE, request_id) as charge:
            info = await self._taken(principal, session_id, content)
            await charge.settle(charging.used(Work(bytes_in=info.size_bytes)))
        return info

    async def _taken(self, principal: Principal, session_id: str, content: AsyncIterator[bytes]) -> StateInfo:
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
            await self._checkpoints.remove(live)
            self._reset(live)

    async def variables(self, principal: Principal, session_id: str, request_id: str | None) -> list[Variable]:
        """See `SandboxService.variables`."""
        async with await self._opened(principal, VARIABLES_ROUTE, request_id) as charge:
            async with self._holding.entered(principal, session_id) as live, _paid(live, charge) as cpu_s:
                found = await self._listed(live)
                spent_s = cpu_s()
            await charge.settle(charging.used(Work(cpu_s=spent_s)))
        return found

    # ------------------------------------------------------------------ inside

    async def _listed(self, live: LiveSession) -> list[Variable]:
        if not live.has_live_box and live.state is None:
            return []
        live.untold = await self._boxes.ready(live, live.flavor)
        assert live.box is not None
        try:
            return await live.box.variables()
        except errors.Conflict as error:
            if error.code == INTERPRETER_GONE:
                await self._checkpoints.give_up(live, error)
            raise

    async def _opened(self, principal: Principal, route: str, request_id: str | None) -> Charge:
        return await self._parts.meter.open(principal, charging.job(route, _MODEL, request_id))

    async def _written(
        self, principal: Principal, session: SessionRecord, charge: Charge
    ) -> tuple[float, StateRecord | None]:
        """Have written down what the interpreter of a session has, wherever it is; tell what that took here."""
        parts, cpu_s = self._parts, 0.0
        live = self._holding.sessions.get(session.id)
        if live is not None and live.is_dirty:
            async with self._holding.locked(live), _paid(live, charge) as spent_s:
                if not live.is_gone and live.has_live_box:
                    await self._checkpoints.save(live)
                cpu_s = spent_s()
        state = await parts.stored(parts.states.find, session.id)
        if is_held_elsewhere(session, parts.holder, parts.clock.now()) and not _is_as_used(session, state):
            async with self._holding.entered(principal, session.id):  # its holder writes it down and lets go of it
                state = await parts.stored(parts.states.find, session.id)
        return cpu_s, state

    def _told(self, session: SessionRecord, state: StateRecord | None) -> StateInfo:
        live = self._holding.sessions.get(session.id)
        if live is None or not live.has_live_box:
            is_live = is_held_elsewhere(session, self._parts.holder, self._parts.clock.now())
            is_durable = not is_live or _is_as_used(session, state)
        else:
            is_live, is_durable = True, not live.is_dirty
        return state_info(session.id, state, session.expires_at, is_live=is_live, is_durable=is_durable)

    def _reset(self, live: LiveSession) -> None:
        """Give up the interpreter; the next run begins with what the database has.

        Files that a failed run has left go with the box, as they do when a box dies.
        """
        self._boxes.abandon(live)
        live.forget_lost()

    def _flavor(self, live: LiveSession) -> Flavor:
        return live.state.flavor if live.state is not None else live.flavor


def _is_as_used(session: SessionRecord, state: StateRecord | None) -> bool:
    """Whether a checkpoint has all that a session has in another process, of which only the times are known here."""
    return state is not None and state.created_at >= session.used_at


@asynccontextmanager
async def _paid(live: LiveSession, charge: Charge) -> AsyncIterator[Callable[[], float]]:
    """Tell what the box of a session spends in the block; when the block fails, its caller pays that."""
    before_s = live.spent_cpu_s
    try:
        yield lambda: live.spent_cpu_s - before_s
    except BaseException as error:
        await charging.charge_left(charge, error, Work(cpu_s=live.spent_cpu_s - before_s))
        raise


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
