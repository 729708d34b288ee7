"""Runs from creation to completion."""

from datetime import UTC, datetime

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.engine import types as engine_types
from trainyard.training.service import configuring
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Sessions
from trainyard.training.store import RunRecord
from trainyard.training.types import (
    CompleteResponse,
    MetricsResponse,
    ModelsResponse,
    RolledBack,
    RunConfig,
    RunList,
    RunResponse,
    RunState,
    RunStatus,
)

_INTERRUPTED = "the server stopped while the run was being created; create it again"

_NOT_OPENED = "the run could not be opened in its engine; create it again"


class Runs:
    """Creates runs, tells where they stand and completes them."""

    def __init__(self, parts: Parts, sessions: Sessions) -> None:
        self._parts = parts
        self._sessions = sessions

    def models(self) -> ModelsResponse:
        """List the models that a run can be made on."""
        return ModelsResponse(models=self._trainable())

    async def create(self, principal: Principal, config: RunConfig) -> RunResponse:
        """Record a run, open it in its engine and make it active.

        Raises:
            errors.UnknownModel: No model of that name is trained here.
            errors.InvalidRequest: The model cannot do what the configuration asks for.
            errors.LimitReached: The user has as many live runs as allowed, code `too_many_runs`.
            errors.Unavailable: The engine is away; the run is recorded as failed and counts no more.
        """
        base_model = self._base_model(config.base_model)
        engine = await self._parts.engines.get(base_model)
        wanted = configuring.effective(config, base_model, await engine.info())
        run_id = await self._parts.stored(
            self._parts.registry.create_run,
            principal.user,
            base_model,
            wanted.model_dump(mode="json"),
            tenant=principal.tenant,
            max_live_runs=self._parts.settings.training.max_live_runs_per_user,
        )
        record = await self._sessions.find(principal, run_id)
        failure: str | None = _NOT_OPENED
        try:
            await self._sessions.open_new(record)
            failure = None
        except errors.TrainyardError as error:
            failure = error.message
            raise
        finally:  # whatever went wrong, a run that nobody was told of must not hold one of its user's places
            if failure is not None:
                await self._update(run_id, status=RunState.FAILED, error=failure)
        await self._update(run_id, status=RunState.ACTIVE)
        return _response(await self._sessions.find(principal, run_id))

    async def list_own(self, principal: Principal) -> RunList:
        """List the principal's runs, newest first."""
        listing = self._parts.registry.list_runs
        records = await self._parts.stored(listing, principal.user, tenant=principal.tenant)
        return RunList(runs=[_response(record) for record in records])

    async def status(self, principal: Principal, run_id: str) -> RunStatus:
        """Tell where a run stands; with its engine away, what the registry knows."""
        record = await self._sessions.find(principal, run_id, is_read=True)
        if record.status is not RunState.ACTIVE:
            return _status(record, None, "closed")
        try:
            state = await self._sessions.state(record)
        except errors.Unavailable as error:
            return _status(record, None, error.code)
        return _status(await self._sessions.find(principal, run_id, is_read=True), state, "ready")

    async def metrics(self, principal: Principal, run_id: str) -> MetricsResponse:
        """List what each optimiser step measured."""
        record = await self._sessions.find(principal, run_id, is_read=True)
        entries = await self._parts.stored(self._parts.registry.get_metrics, run_id)
        return MetricsResponse(run_id=run_id, step=record.current_step, metrics=entries or [])

    async def complete(self, principal: Principal, run_id: str) -> CompleteResponse:
        """Write the run durably and end its training; sampling still works.

        Raises:
            errors.Conflict: The run failed or was cancelled, code `run_not_active`.
            errors.Unavailable: The engine is away; the run goes on.
        """
        await self._sessions.find(principal, run_id)
        async with self._sessions.training(run_id):
            record = await self._sessions.find(principal, run_id)
            if record.status is RunState.COMPLETED:
                return _completed(run_id, "The run was completed before; nothing changed")
            await self._sessions.trainable(run_id)
            if not self._parts.models.is_supported(record.base_model):
                await self._update(run_id, status=RunState.COMPLETED)
                return _completed(run_id, f"{record.base_model} left the catalog; the run ends as it lies on disk")
            waiting = (await self._sessions.state(record)).pending_tokens
            state = await self._sessions.call(record, lambda engine: engine.close_run(run_id))
            await self._update(
                run_id,
                status=RunState.COMPLETED,
                current_step=state.current_step,
                durable_step=state.current_step,
            )
            self._sessions.pending.pop(run_id, None)
        dropped = f"Gradients of {waiting} tokens waited for optim_step and were dropped" if waiting else None
        return _completed(run_id, dropped)

    async def recover(self) -> list[str]:
        """Fail the runs whose creation was interrupted; returns their ids."""
        return await self._parts.stored(self._parts.registry.fail_unopened, _INTERRUPTED)

    async def _update(
        self,
        run_id: str,
        *,
        status: RunState,
        error: str | None = None,
        current_step: int | None = None,
        durable_step: int | None = None,
    ) -> None:
        await self._parts.stored(
            self._parts.registry.update_run,
            run_id,
            status=status,
            error=error,
            current_step=current_step,
            durable_step=durable_step,
        )

    def _trainable(self) -> list[str]:
        return [e.name for e in self._parts.models.entries if e.trainable and e.backend == "local" and e.load != "off"]

    def _base_model(self, name: str) -> str:
        known = self._parts.models.is_supported(name)
        if known and (found := self._parts.models.entry(name).name) in self._trainable():
            return found
        what = "is not trainable here" if known else "is not supported"
        names = ", ".join(self._trainable()) or "none is configured"
        raise errors.UnknownModel(f"Model {name!r} {what}; base_model can be: {names}", param="base_model")


def _time(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def _response(record: RunRecord) -> RunResponse:
    config = configuring.config_of(record)
    return RunResponse(
        run_id=record.run_id,
        user_id=record.user_id,
        base_model=record.base_model,
        status=record.status,
        created_at=_time(record.created_at),
        config=config,
        gpu=configuring.gpu_assignment(config),
    )


def _status(record: RunRecord, state: engine_types.RunState | None, engine: str) -> RunStatus:
    rolled_back = None
    if record.rolled_back_from is not None and record.rolled_back_to is not None:
        rolled_back = RolledBack.model_validate({"from": record.rolled_back_from, "to": record.rolled_back_to})
    return RunStatus(
        **dict(_response(record)),
        updated_at=_time(record.updated_at),
        completed_at=None if record.completed_at is None else _time(record.completed_at),
        current_step=record.current_step if state is None else state.current_step,
        durable_step=record.durable_step if state is None else max(0, state.durable_step),
        pending_tokens=None if state is None else state.pending_tokens,
        gradients_lost=None if state is None else state.gradients_lost,
        rolled_back=rolled_back,
        trainable_parameters=None if state is None else state.trainable_parameters,
        learning_rate=None if state is None else state.learning_rate,
        engine=engine,
        error=record.error,
    )


def _completed(run_id: str, message: str | None) -> CompleteResponse:
    return CompleteResponse(success=True, run_id=run_id, status=RunState.COMPLETED, message=message)
