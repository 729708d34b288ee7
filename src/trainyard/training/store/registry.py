"""The registry of training runs: who owns which run, where it stands, what it measured and saved."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, text, update

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.ids import new_run_id
from trainyard.training.store import tables
from trainyard.training.store.records import ArtifactRecord, RunRecord
from trainyard.training.types import FileFacts, RunState
from trainyard.training.types.runs import LIVE_STATES

MAX_LIVE_RUNS = 5
"""Live runs a user may have at a time; Signal's limit."""

_TICK_S = 1e-6
"""What `updated_at` rises by at least; the finest step that survives the way through an ISO timestamp."""

_runs = tables.runs
_artifacts = tables.artifacts


class RunRegistry:
    """Runs in the database; every method is one transaction and blocks, so async callers go through `database.call`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self._clock = clock

    def create_run(
        self,
        user_id: str,
        base_model: str,
        config: Mapping[str, object],
        *,
        tenant: str = "default",
        max_live_runs: int = MAX_LIVE_RUNS,
    ) -> str:
        """Record a run in state `initialized`; counting the live ones and inserting is one act.

        Returns:
            The id of the run.

        Raises:
            errors.LimitReached: The user has `max_live_runs` live runs already; code `too_many_runs`.
        """
        now = self._clock.now()
        run_id = new_run_id()
        with self.database.begin() as connection:
            _lock_owner(connection, tenant, user_id)
            live = _count_live(connection, tenant, user_id)
            if live >= max_live_runs:
                raise errors.LimitReached(
                    f"{live} of your runs are live and {max_live_runs} are allowed; complete one first "
                    "(POST /runs/{id}/complete)",
                    code="too_many_runs",
                    data={"live_runs": live, "max_live_runs": max_live_runs},
                )
            values = {"run_id": run_id, "tenant": tenant, "user_id": user_id, "base_model": base_model}
            times = {"created_at": now, "updated_at": now}
            connection.execute(
                insert(_runs).values(
                    **values,
                    **times,
                    config=dict(config),
                    status=RunState.INITIALIZED,
                    current_step=0,
                    durable_step=0,
                )
            )
        return run_id

    def get_run(self, run_id: str) -> RunRecord | None:
        """Find a run; None when there is none of that id."""
        with self.database.read() as connection:
            row = connection.execute(select(_runs).where(_runs.c.run_id == run_id)).mappings().first()
        return None if row is None else _run(row)

    def list_runs(self, user_id: str, *, tenant: str = "default") -> list[RunRecord]:
        """List the runs of a user, newest first."""
        query = select(_runs).where(_runs.c.tenant == tenant, _runs.c.user_id == user_id)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(_runs.c.created_at.desc(), _runs.c.run_id.desc())).mappings().all()
        return [_run(row) for row in rows]

    def update_run(
        self,
        run_id: str,
        *,
        status: RunState | None = None,
        current_step: int | None = None,
        durable_step: int | None = None,
        rolled_back: tuple[int, int] | None = None,
        error: str | None = None,
        metrics: Mapping[str, object] | None = None,
    ) -> bool:
        """Change what is given and append a metrics entry, in one transaction; `updated_at` always rises.

        Args:
            run_id: The run.
            status: `completed`, `failed` and `cancelled` set `completed_at`; the first `active` sets `started_at`.
            current_step: Optimiser steps applied.
            durable_step: Of them, those that survive a crash.
            rolled_back: (from, to) of a crash that took steps away.
            error: Why the run failed.
            metrics: Numbers of one step; `timestamp` and `step` are put before them. What is not finite becomes null.

        Returns:
            False when there is no such run.
        """
        given = {"current_step": current_step, "durable_step": durable_step, "error": error}
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if rolled_back is not None:
            values["rolled_back_from"], values["rolled_back_to"] = rolled_back
        with self.database.begin() as connection:
            found = (
                connection.execute(select(_runs).where(_runs.c.run_id == run_id).with_for_update()).mappings().first()
            )
            if found is None:
                return False
            now = max(self._clock.now(), found["updated_at"] + _TICK_S)
            values |= {"updated_at": now} | _on_status(found, status, now)
            connection.execute(update(_runs).where(_runs.c.run_id == run_id).values(**values))
            if metrics is not None:
                step = found["current_step"] if current_step is None else current_step
                _append(connection, run_id, {"timestamp": now, "step": step, **metrics})
        return True

    def delete_run(self, run_id: str, user_id: str, *, tenant: str = "default") -> bool:
        """Forget a run with its metrics and artifacts; files stay where they are.

        Returns:
            False when there is no such run or it belongs to somebody else.
        """
        mine = (_runs.c.run_id == run_id, _runs.c.user_id == user_id, _runs.c.tenant == tenant)
        with self.database.begin() as connection:
            return bool(connection.execute(delete(_runs).where(*mine)).rowcount)

    def get_metrics(self, run_id: str) -> list[dict[str, object]] | None:
        """List the metrics entries of a run, oldest first; None when there is no such run."""
        query = select(tables.metrics.c.entry).where(tables.metrics.c.run_id == run_id).order_by(tables.metrics.c.id)
        with self.database.read() as connection:
            if connection.execute(select(_runs.c.run_id).where(_runs.c.run_id == run_id)).first() is None:
                return None
            return [dict(entry) for entry in connection.execute(query).scalars()]

    def fail_unopened(self, reason: str) -> list[str]:
        """Mark every run that is still `initialized` as failed; its creation was never answered.

        Returns:
            Their ids.
        """
        with self.database.read() as connection:
            query = select(_runs.c.run_id).where(_runs.c.status == RunState.INITIALIZED)
            ids = list(connection.execute(query).scalars())
        return [run_id for run_id in ids if self.update_run(run_id, status=RunState.FAILED, error=reason)]

    # ------------------------------------------------------------- artifacts
    def add_artifact(self, record: ArtifactRecord) -> None:
        """Record a checkpoint whose files are complete.

        Raises:
            errors.Conflict: The run has a checkpoint of that name; code `checkpoint_exists`.
        """
        manifest = {name: facts.model_dump() for name, facts in record.manifest.items()}
        with self.database.begin() as connection:
            connection.execute(select(_runs.c.run_id).where(_runs.c.run_id == record.run_id).with_for_update())
            same = (_artifacts.c.run_id == record.run_id, _artifacts.c.name == record.name)
            if connection.execute(select(_artifacts.c.id).where(*same)).first() is not None:
                raise errors.Conflict(f"{record.run_id} has a checkpoint {record.name}", code="checkpoint_exists")
            connection.execute(
                insert(_artifacts).values(
                    id=record.id,
                    run_id=record.run_id,
                    name=record.name,
                    mode=record.mode,
                    step=record.step,
                    manifest=manifest,
                    download_count=0,
                    created_at=record.created_at,
                )
            )

    def list_artifacts(self, run_id: str) -> list[ArtifactRecord]:
        """List the checkpoints of a run, oldest first."""
        query = select(_artifacts).where(_artifacts.c.run_id == run_id)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(_artifacts.c.created_at, _artifacts.c.id)).mappings().all()
        return [_artifact(row) for row in rows]

    def count_download(self, artifact_id: str) -> None:
        """Add one to the downloads of a checkpoint."""
        counted = update(_artifacts).where(_artifacts.c.id == artifact_id)
        with self.database.begin() as connection:
            connection.execute(counted.values(download_count=_artifacts.c.download_count + 1))


def _lock_owner(connection: Connection, tenant: str, user_id: str) -> None:
    """Hold the owner's row to the end of the transaction; SQLite has one writer anyway."""
    who = {"tenant": tenant, "user_id": user_id}
    # The one upsert that SQLite and Postgres spell alike.
    connection.execute(
        text("INSERT INTO training_owners (tenant, user_id) VALUES (:tenant, :user_id) ON CONFLICT DO NOTHING"), who
    )
    owner = select(tables.owners).where(tables.owners.c.tenant == tenant, tables.owners.c.user_id == user_id)
    connection.execute(owner.with_for_update())


def _count_live(connection: Connection, tenant: str, user_id: str) -> int:
    mine = (_runs.c.tenant == tenant, _runs.c.user_id == user_id, _runs.c.status.in_(LIVE_STATES))
    return connection.execute(select(func.count()).select_from(_runs).where(*mine)).scalar_one()


def _on_status(found: RowMapping, status: RunState | None, now: float) -> dict[str, object]:
    if status is None:
        return {}
    if not status.is_live:
        return {"status": status, "completed_at": now}
    is_first_start = status is RunState.ACTIVE and found["started_at"] is None
    return {"status": status, "completed_at": None} | ({"started_at": now} if is_first_start else {})


def _append(connection: Connection, run_id: str, entry: Mapping[str, object]) -> None:
    # Postgres' JSON has no NaN, nor has the JSON of an answer.
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
    connection.execute(insert(tables.metrics).values(run_id=run_id, entry=clean))


def _run(row: RowMapping) -> RunRecord:
    return RunRecord(**{**row, "status": RunState(row["status"])})


def _artifact(row: RowMapping) -> ArtifactRecord:
    manifest = {name: FileFacts(**facts) for name, facts in row["manifest"].items()}
    return ArtifactRecord(**{**row, "manifest": manifest})
