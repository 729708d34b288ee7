"""The bond between a run in the registry and the same run in its engine."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.engine import types as engine_types
from trainyard.engine.base import Engine
from trainyard.training.service import configuring
from trainyard.training.service.parts import Parts
from trainyard.training.store import RunRecord
from trainyard.training.types import RunState

Answer = TypeVar("Answer")

MAX_ENDED_OPEN = 8
"""Runs that no longer train but are open in an engine to be sampled; one more closes the one that was opened first."""

_RUN_ID = re.compile(r"run_[0-9a-f]{16}")


@dataclass
class Pending:
    """What the batches since the last optimiser step added up to; weighted by nothing but themselves."""

    loss_sum: float = 0.0
    weight_sum: float = 0.0
    tokens: int = 0
    compute_s: float = 0.0
    is_known: bool = True


class Sessions:
    """Finds runs for their owners and opens them in their engines when they are needed.

    An engine that was restarted does not know its runs any more; it says so before doing anything, so the call is
    repeated once the run is open again. What the crash took is then recorded with the run.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._training: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ended: dict[str, Engine] = {}
        self.pending: dict[str, Pending] = {}

    async def find(self, principal: Principal, run_id: str, *, is_read: bool = False) -> RunRecord:
        """Find a run of the principal.

        Args:
            principal: Who asks.
            run_id: As sent.
            is_read: Nothing is computed or changed; administrators may read every run of their tenant.

        Raises:
            errors.NotFound: There is no such run, code `run_not_found`.
            errors.Forbidden: It belongs to somebody else, code `run_forbidden`.
        """
        record = None
        if _RUN_ID.fullmatch(run_id):
            record = await self._parts.stored(self._parts.registry.get_run, run_id)
        if record is None:
            raise errors.NotFound(
                f"There is no run {run_id[:80]!r}; ids are run_ and 16 hex digits, GET /runs lists yours",
                code="run_not_found",
            )
        is_ours = record.tenant == principal.tenant
        is_allowed = is_ours and (record.user_id == principal.user or (is_read and principal.is_admin))
        if not is_allowed:
            raise errors.Forbidden(f"{run_id} belongs to somebody else; GET /runs lists yours", code="run_forbidden")
        return record

    def training(self, run_id: str) -> asyncio.Lock:
        """Give the lock under which a run is trained, saved and completed, one act at a time."""
        return self._training.setdefault(run_id, asyncio.Lock())

    async def trainable(self, run_id: str) -> RunRecord:
        """Read a run again and make sure that it still trains; call it under the lock.

        Raises:
            errors.Conflict: It does not train, code `run_not_active`.
        """
        record = await self._again(run_id)
        if record.status is not RunState.ACTIVE:
            raise errors.Conflict(
                f"{run_id} is {record.status} and does not train any more; create a new run",
                code="run_not_active",
                data={"status": str(record.status)},
            )
        return record

    async def call(self, record: RunRecord, act: Callable[[Engine], Awaitable[Answer]]) -> Answer:
        """Do something with a run in its engine, opening the run there when the engine does not hold it.

        Raises:
            errors.Unavailable: The engine is away.
            Whatever the act raises.
        """
        engine = await self._parts.engines.get(record.base_model)
        try:
            return await act(engine)
        except errors.NotFound as error:
            if error.code != "run_not_open":
                raise
        await self._open(record.run_id, engine)
        return await act(engine)

    async def state(self, record: RunRecord) -> engine_types.RunState:
        """Ask the engine where the run stands."""
        return await self.call(record, lambda engine: engine.run_state(record.run_id))

    async def open_new(self, record: RunRecord) -> engine_types.RunState:
        """Open a run for the first time."""
        engine = await self._parts.engines.get(record.base_model)
        return await engine.open_run(configuring.spec(record, self._parts.run_dir(record.run_id)))

    async def watch_pending(self, record: RunRecord) -> None:
        """See to it that `pending` has the run: what the engine holds is unknown when the server is younger than it."""
        if record.run_id not in self.pending:
            state = await self.state(record)
            self.pending.setdefault(record.run_id, Pending(is_known=state.pending_tokens == 0))

    async def _open(self, run_id: str, engine: Engine) -> None:
        async with self._opening.setdefault(run_id, asyncio.Lock()):
            if await _is_open(run_id, engine):
                return  # by somebody who stood before us at the lock; what was trained since must stay counted
            record = await self._again(run_id)
            state = await engine.open_run(configuring.spec(record, self._parts.run_dir(run_id)))
            self.pending[run_id] = Pending(is_known=state.pending_tokens == 0)
            await self._record_steps(record, state)
        if record.status is not RunState.ACTIVE:
            await self._bound_ended(run_id, engine)

    async def _bound_ended(self, run_id: str, engine: Engine) -> None:
        """Keep runs that ended from filling the engine's memory; a closed one is opened again when it is needed."""
        self._ended.pop(run_id, None)
        self._ended[run_id] = engine
        while len(self._ended) > MAX_ENDED_OPEN:
            oldest = next(iter(self._ended))
            with suppress(errors.NotFound, errors.Unavailable):  # the engine was restarted and does not hold it anyway
                await self._ended.pop(oldest).close_run(oldest)
            self.pending.pop(oldest, None)

    async def _record_steps(self, record: RunRecord, state: engine_types.RunState) -> None:
        rolled_back = None
        if state.rolled_back is not None:
            rolled_back = (state.rolled_back.from_step, state.rolled_back.to_step)
        elif record.current_step > state.current_step:
            rolled_back = (record.current_step, state.current_step)
        if rolled_back is None and record.current_step == state.current_step:
            return
        await self._parts.stored(
            self._parts.registry.update_run,
            record.run_id,
            current_step=state.current_step,
            durable_step=max(0, state.durable_step),
            rolled_back=rolled_back,
        )

    async def _again(self, run_id: str) -> RunRecord:
        record = await self._parts.stored(self._parts.registry.get_run, run_id)
        if record is None:
            raise errors.NotFound(f"{run_id} was deleted", code="run_not_found")
        return record


async def _is_open(run_id: str, engine: Engine) -> bool:
    try:
        await engine.run_state(run_id)
    except errors.NotFound as error:
        if error.code != "run_not_open":
            raise
        return False
    return True
