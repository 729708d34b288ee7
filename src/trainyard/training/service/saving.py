"""Checkpoints: written by the engine, verified, copied to the blob store, then recorded.

A crash leaves nothing half-registered. Before the record exists, the directory is unknown to everybody and the next
save of that name replaces it; blobs are content-addressed, so one without a record is only space.
"""

import asyncio
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from trainyard.core import ids
from trainyard.core.principal import Principal
from trainyard.engine import types as engine_types
from trainyard.engine.base import Engine
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Sessions
from trainyard.training.service.signing import Link, Signer
from trainyard.training.store import ArtifactRecord, RunRecord
from trainyard.training.types import Artifact, FileFacts, RunState, SaveStateRequest, SaveStateResponse

Mode = Literal["adapter", "merged"]


class Saving:
    """Saves runs and lists what was saved."""

    def __init__(self, parts: Parts, sessions: Sessions, signer: Signer) -> None:
        self._parts = parts
        self._sessions = sessions
        self._signer = signer

    async def save_state(self, principal: Principal, run_id: str, request: SaveStateRequest) -> SaveStateResponse:
        """Write the weights of this moment as a new checkpoint.

        Raises:
            errors.Conflict: The run failed or was cancelled, code `run_not_active`.
            errors.Unavailable: The engine is away; nothing was saved.
        """
        await self._sessions.find(principal, run_id)
        async with self._sessions.training(run_id):
            record = await self._sessions.find(principal, run_id)
            if record.status is not RunState.COMPLETED:
                record = await self._sessions.trainable(run_id)
            saved = await self._sessions.call(record, lambda engine: self._write(record, request.mode, engine))
            directory = Path(saved.directory)
            artifact = ArtifactRecord(
                id=ids.new_id("art", self._parts.clock),
                run_id=run_id,
                name=directory.name,
                mode=request.mode,
                step=saved.step,
                manifest=await self._keep(directory, saved.files),
                download_count=0,
                created_at=self._parts.clock.now(),
            )
            await self._parts.stored(self._parts.registry.add_artifact, artifact)
        return self._answer(artifact, directory, self._signer.link(run_id, artifact.id))

    async def artifacts(self, principal: Principal, run_id: str) -> list[Artifact]:
        """List the checkpoints of a run, oldest first, each with a fresh link (path and query)."""
        await self._sessions.find(principal, run_id, is_read=True)
        records = await self._parts.stored(self._parts.registry.list_artifacts, run_id)
        return [_listed(record, self._signer.link(run_id, record.id)) for record in records]

    async def recover(self) -> None:
        """Remove the temporary directories of saves that a crash cut short."""
        await asyncio.to_thread(_remove_temporary, self._parts.data_dir / "runs")

    async def _write(self, record: RunRecord, mode: Mode, engine: Engine) -> engine_types.SaveResult:
        """Have the engine write a directory that nobody knows yet."""
        step = (await engine.run_state(record.run_id)).current_step
        known = {one.name for one in await self._parts.stored(self._parts.registry.list_artifacts, record.run_id)}
        directory = self._parts.run_dir(record.run_id) / "checkpoints" / _free_name(step, mode, known)
        await asyncio.to_thread(_remove_leftovers, directory)
        return await engine.save(record.run_id, mode, str(directory))

    async def _keep(self, directory: Path, files: Mapping[str, int]) -> dict[str, FileFacts]:
        manifest = {}
        for name in sorted(files):
            blob = await self._parts.blobs.put_file(directory / name)
            manifest[name] = FileFacts(sha256=blob.sha256, size=blob.size_bytes)
        return manifest

    def _answer(self, artifact: ArtifactRecord, directory: Path, link: Link) -> SaveStateResponse:
        return SaveStateResponse(
            artifact_id=artifact.id,
            name=artifact.name,
            step=artifact.step,
            mode=artifact.mode,
            artifact_uri=f"trainyard://runs/{artifact.run_id}/artifacts/{artifact.id}",
            local_path=str(directory),
            checkpoint_path=str(directory.relative_to(self._parts.data_dir)),
            download_url=link.path,
            download_expires_at=link.expires_at,
            manifest=dict(artifact.manifest),
        )


def _listed(record: ArtifactRecord, link: Link) -> Artifact:
    return Artifact(
        id=record.id,
        name=record.name,
        step=record.step,
        mode=record.mode,
        download_url=link.path,
        download_expires_at=link.expires_at,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        file_size_bytes=record.size_bytes,
        download_count=record.download_count,
        manifest=dict(record.manifest),
    )


def _free_name(step: int, mode: Mode, known: set[str]) -> str:
    """Name a checkpoint by its step; a second one at the same step gets `_2`, and so on."""
    base = f"step_{step}" if mode == "adapter" else f"step_{step}_merged"
    name, count = base, 1
    while name in known:
        count += 1
        name = f"{base}_{count}"
    return name


def _remove_temporary(runs: Path) -> None:
    """Remove what has a dot in its name; no checkpoint has, and every temporary directory of an engine does."""
    for path in runs.glob("run_*/checkpoints/*"):
        if "." in path.name and path.is_dir():  # a file is none of ours
            shutil.rmtree(path)


def _remove_leftovers(directory: Path) -> None:
    """Remove what a crash left of a save of this name: the directory and the engine's temporary ones beside it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for path in directory.parent.iterdir():
        name = path.name.removeprefix(".")
        if path.is_dir() and (name == directory.name or name.startswith(f"{directory.name}.")):
            shutil.rmtree(path)
