"""Lists of files, single ones, and their removal."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from trainyard.core.principal import Principal
from trainyard.sandbox.routes import access, answers
from trainyard.sandbox.routes.access import Claimed, FileId, Runner, SessionId
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.domain import StoredFile
from trainyard.sandbox.types.wire_files import FileInfo, FileMetadata, FileName, FileSummary

Detail = Annotated[
    Literal["simple", "summary", "full"], Query(description="How much to tell: names, times, or everything.")
]


def add(routes: APIRouter, service: SandboxService) -> None:
    """Add the routes."""

    @routes.get("/files/{session_id}", summary="List the files of a session")
    async def list_files(
        who: Runner, session_id: SessionId, claimed: Claimed, detail: Detail = "full"
    ) -> list[FileInfo] | list[FileSummary] | list[FileName]:
        """List files in the order in which they came."""
        found = await service.list_files(who, session_id, shelf=claimed)
        if detail == "simple":
            return [FileName(id=file.id, name=file.path, path=file.path) for file in found]
        return _summaries(found) if detail == "summary" else [info(who, file) for file in found]

    @routes.get("/sessions/{session_id}/objects/{file_id}", summary="Show a file")
    async def show_file(who: Runner, session_id: SessionId, file_id: FileId, claimed: Claimed) -> FileInfo:
        """Show one file; LibreChat looks at `lastModified` before it uploads a file again."""
        file, _ = await service.open_file(who, session_id, file_id, shelf=claimed)
        return info(who, file)

    for path in ("/files/{session_id}/{file_id}", "/sessions/{session_id}/objects/{file_id}"):
        _add_removal(routes, service, path)


def _add_removal(routes: APIRouter, service: SandboxService, path: str) -> None:
    @routes.delete(path, summary="Remove a file", responses=access.STATE)
    async def delete_file(who: Runner, session_id: SessionId, file_id: FileId, claimed: Claimed) -> Response:
        """Remove a file from its session, and from the workspace of its interpreter."""
        await service.delete_file(who, session_id, file_id, shelf=claimed)
        return Response(status_code=200)


def info(who: Principal, file: StoredFile) -> FileInfo:
    """Tell everything about a file."""
    return FileInfo(
        id=file.id,
        name=answers.object_name(file),
        session_id=file.session_id,
        storage_session_id=file.session_id,
        resource_id=answers.resource_id(who, file.shelf),
        kind=file.shelf.kind,
        version=answers.version(file.shelf),
        size=file.size_bytes,
        etag=f'"{file.sha256}"',
        content_type=file.content_type,
        created_at=answers.moment(file.created_at),
        last_modified=answers.moment(file.modified_at),
        read_only=file.is_read_only,
        metadata=FileMetadata(content_type=file.content_type, original_filename=file.path),
    )


def _summaries(found: Sequence[StoredFile]) -> list[FileSummary]:
    return [
        FileSummary(name=f"{file.session_id}/{file.id}", last_modified=answers.moment(file.modified_at))
        for file in found
    ]
