"""Runs and their checkpoints as models, for serving: the `AdapterCatalog` port."""

import asyncio
import re
from dataclasses import replace

from trainyard.core.ports.adapters import AdapterModel
from trainyard.core.principal import Principal
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Sessions
from trainyard.training.store import ArtifactRecord, RunRecord
from trainyard.training.types import RunState

_NAME = re.compile(r"(?P<run>run_[0-9a-f]{16})(?:@(?P<step>[0-9]{1,9})|:(?P<checkpoint>[A-Za-z0-9_-]{1,64}))?")
_CALLABLE = (RunState.ACTIVE, RunState.PAUSED, RunState.COMPLETED)


class RunAdapters:
    """Implements `AdapterCatalog`: a run is callable from the moment its first optimiser step returned.

    Callers see their own runs only. Both methods only read (opening a run in its engine changes nothing that is seen),
    so an idempotency key has nothing to do here.
    """

    def __init__(self, parts: Parts, sessions: Sessions) -> None:
        self._parts = parts
        self._sessions = sessions

    async def list_adapters(
        self, principal: Principal, *, deadline_s: float | None = None, idempotency_key: str | None = None
    ) -> list[AdapterModel]:
        """List the principal's callable runs, newest first.

        Raises:
            TimeoutError: Not done after `deadline_s` seconds.
        """
        async with asyncio.timeout(deadline_s):
            listing = self._parts.registry.list_runs
            records = await self._parts.stored(listing, principal.user, tenant=principal.tenant)
        return [_live(record) for record in records if _is_callable(record)]

    async def resolve_adapter(
        self, principal: Principal, name: str, *, deadline_s: float | None = None, idempotency_key: str | None = None
    ) -> AdapterModel | None:
        """Find an adapter of the principal by name; a live one is open in its engine afterwards.

        Returns:
            None when the name is no adapter's, is unknown, has no step yet, or belongs to somebody else.

        Raises:
            errors.Unavailable: The engine is away.
            TimeoutError: Not done after `deadline_s` seconds.
        """
        parsed = _NAME.fullmatch(name)
        if parsed is None:
            return None
        async with asyncio.timeout(deadline_s):
            record = await self._parts.stored(self._parts.registry.get_run, parsed["run"])
            if record is None or (record.tenant, record.user_id) != (principal.tenant, principal.user):
                return None
            if parsed["step"] or parsed["checkpoint"]:
                return await self._saved(record, name, parsed["step"], parsed["checkpoint"])
            if not _is_callable(record):
                return None
            state = await self._sessions.state(record)
        return replace(_live(record), step=state.current_step) if state.current_step else None

    async def _saved(
        self, record: RunRecord, name: str, step: str | None, checkpoint: str | None
    ) -> AdapterModel | None:
        saved = await self._parts.stored(self._parts.registry.list_artifacts, record.run_id)
        found = [
            one
            for one in saved
            if one.mode == "adapter" and (one.name == checkpoint if step is None else one.step == int(step))
        ]
        return self._checkpoint(record, name, found[-1]) if found else None

    def _checkpoint(self, record: RunRecord, name: str, artifact: ArtifactRecord) -> AdapterModel:
        return AdapterModel(
            name=name,
            base_model=record.base_model,
            run_id=record.run_id,
            checkpoint_dir=str(self._parts.run_dir(record.run_id) / "checkpoints" / artifact.name),
            step=artifact.step,
            created_at=artifact.created_at,
            owner=f"{record.tenant}/{record.user_id}",
        )


def _is_callable(record: RunRecord) -> bool:
    return record.status in _CALLABLE and record.current_step > 0


def _live(record: RunRecord) -> AdapterModel:
    return AdapterModel(
        name=record.run_id,
        base_model=record.base_model,
        run_id=record.run_id,
        checkpoint_dir=None,
        step=record.current_step,
        created_at=record.created_at,
        owner=f"{record.tenant}/{record.user_id}",
    )
