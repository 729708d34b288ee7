"""`save_state`, the list of artifacts and their downloads."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import StreamingResponse

from trainyard.core import errors
from trainyard.core.http import auth
from trainyard.training import types
from trainyard.training.routes.access import NEEDS_STATE, RunId, Trainer
from trainyard.training.service import TrainingService

SIGNED_PATH = re.compile(r"/runs/[^/]+/artifacts/[^/]+/download")
"""Download links carry a signature in place of a key."""

_ARCHIVE: dict[int | str, dict[str, Any]] = {200: {"description": "A tar file.", "content": {"application/x-tar": {}}}}

ArtifactId = Annotated[str, Path(description="`art_…`; GET /runs/{run_id}/artifacts lists them.")]
Expires = Annotated[int | None, Query(ge=0, le=2**53, description="End of the link, Unix seconds.")]
Signature = Annotated[
    str | None, Query(max_length=64, description="Signature of the link; without it a key is needed.")
]


def add(routes: APIRouter, service: TrainingService) -> None:
    """Add what concerns checkpoints."""

    @routes.post("/runs/{run_id}/save_state", tags=["primitives"], summary="Save a checkpoint", responses=NEEDS_STATE)
    async def save_state(
        who: Trainer, run_id: RunId, connection: Request, request: types.SaveStateRequest | None = None
    ) -> types.SaveStateResponse:
        """Write the adapter, or the model with the adapter merged in, and verify it."""
        saved = await service.saving.save_state(who, run_id, request or types.SaveStateRequest())
        return saved.model_copy(update={"download_url": _absolute(connection, saved.download_url)})

    @routes.get("/runs/{run_id}/artifacts", tags=["runs"], summary="Checkpoints of a run")
    async def list_artifacts(who: Trainer, run_id: RunId, connection: Request) -> list[types.Artifact]:
        """List the checkpoints, oldest first, each with a link that is good for an hour."""
        found = await service.saving.artifacts(who, run_id)
        return [one.model_copy(update={"download_url": _absolute(connection, one.download_url)}) for one in found]

    @routes.get(
        "/runs/{run_id}/artifacts/{artifact_id}/download",
        tags=["runs"],
        summary="Download a checkpoint",
        responses=_ARCHIVE,
        response_class=StreamingResponse,
    )
    async def download_artifact(
        connection: Request,
        run_id: RunId,
        artifact_id: ArtifactId,
        expires: Expires = None,
        signature: Signature = None,
    ) -> StreamingResponse:
        """Send the files as one tar; a signed link needs no key."""
        if signature is None:
            who = await auth.authenticate(connection, "train")
            download = await service.downloads.by_owner(who, run_id, artifact_id)
        elif expires is None:
            raise errors.InvalidRequest("A signed link has both expires and signature", param="expires")
        else:
            download = await service.downloads.by_link(run_id, artifact_id, expires, signature)
        headers = {
            "Content-Length": str(download.size_bytes),
            "Content-Disposition": f'attachment; filename="{download.file_name}"',
        }
        return StreamingResponse(download.chunks, media_type="application/x-tar", headers=headers)


def _absolute(connection: Request, path: str) -> str:
    return str(connection.base_url).rstrip("/") + path
