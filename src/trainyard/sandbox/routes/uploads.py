"""POST /upload, all or nothing, and POST /upload/batch, file by file: forms are stored as they come."""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal, Self, TypedDict

from fastapi import APIRouter, Request

from trainyard.core import errors
from trainyard.core.http import error_bodies
from trainyard.sandbox.routes import asked
from trainyard.sandbox.routes.access import Runner
from trainyard.sandbox.routes.multipart import FormReader, Head
from trainyard.sandbox.service import SandboxService, Uploaded
from trainyard.sandbox.types.domain import Shelf, Upload
from trainyard.sandbox.types.wire_files import BatchAnswer, BatchFile, UploadAnswer, UploadedFile

_FILE_FIELDS: Final = ("file", "files")
_FIELDS: Final = ("kind", "id", "version", "read_only", "entity_id", "session_id")

_KNOWN: Final = f"unknown field; valid: {', '.join((*_FIELDS, *_FILE_FIELDS))}"

_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "kind": {
                            "type": "string",
                            "enum": ["user", "agent", "skill"],
                            "description": "Whose files these are; user when left out. Fields stand before the files.",
                        },
                        "id": {"type": "string", "description": "Of the agent or skill; of a user it says nothing."},
                        "version": {"type": "string", "description": "Of the skill."},
                        "read_only": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "Whether runs leave the stored file as it is.",
                        },
                        "entity_id": {"type": "string", "description": "Your name for the session to put them into."},
                        "session_id": {
                            "type": "string",
                            "description": "The session to put them into; else a new one.",
                        },
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "The files, each a part of its own named `file` or `files`; a file name may "
                            "have folders.",
                        },
                    },
                }
            }
        },
    }
}
_RAISED = error_bodies.responses("code", errors.Conflict, errors.LimitReached, errors.QuotaExhausted)


class Place(TypedDict):
    """Where files go, as arguments of the service."""

    session_id: str | None
    entity_id: str | None
    shelf: Shelf


def add(routes: APIRouter, service: SandboxService) -> None:
    """Add the routes."""

    @routes.post("/upload", summary="Upload files", responses=_RAISED, openapi_extra=_FORM)
    async def upload_files(who: Runner, request: Request) -> UploadAnswer:
        """Store files in a session, all of them or none."""
        form = await Form.begin(request)
        session_id, outcomes = await service.upload(
            who, form.uploads(), **form.place(), one_by_one=False, request_id=request.state.request_id
        )
        assert session_id is not None  # one that stores nothing raises
        stored = [outcome.file for outcome in outcomes if outcome.file is not None]
        files = [UploadedFile(file_id=file.id, filename=file.path, size=file.size_bytes) for file in stored]
        return UploadAnswer(session_id=session_id, storage_session_id=session_id, files=files)

    @routes.post("/upload/batch", summary="Upload files, each by itself", responses=_RAISED, openapi_extra=_FORM)
    async def upload_batch(who: Runner, request: Request) -> BatchAnswer:
        """Store what can be stored of several files in a session, and tell of each what became of it."""
        form = await Form.begin(request)
        session_id, outcomes = await service.upload(
            who, form.uploads(), **form.place(), one_by_one=True, request_id=request.state.request_id
        )
        files = [_batched(outcome) for outcome in outcomes]
        succeeded = sum(file.status == "success" for file in files)
        message: Literal["success", "partial_success", "error"] = "partial_success" if succeeded else "error"
        return BatchAnswer(
            message="success" if succeeded == len(files) else message,
            session_id=session_id,
            storage_session_id=session_id,
            files=files,
            succeeded=succeeded,
            failed=len(files) - succeeded,
        )


def _batched(outcome: Uploaded) -> BatchFile:
    if outcome.file is not None:
        file = outcome.file
        return BatchFile(status="success", filename=file.path, file_id=file.id, size=file.size_bytes)
    error = outcome.error or errors.TrainyardError()
    return BatchFile(status="error", filename=outcome.path, error=error.message, code=error.code)


class Form:
    """A form of fields, then files; the files are read as they are asked for.

    Attributes:
        fields: By name.
    """

    def __init__(self, reader: FormReader) -> None:
        self.fields: dict[str, str] = {}
        self._reader = reader
        self._first: Head | None = None

    @classmethod
    async def begin(cls, request: Request) -> Self:
        """Read what stands before the first file.

        Raises:
            errors.InvalidRequest: It is no such form, it has an unknown field or one twice, or it has no file.
        """
        form = cls(FormReader(request.headers.get("content-type", ""), request.stream()))
        while (head := await form._reader.next_part()) is not None and head.file_name is None:
            if head.name not in _FIELDS or head.name in form.fields:
                raise _bad_field(head.name, "it is there twice" if head.name in form.fields else _KNOWN)
            form.fields[head.name] = await form._reader.text()
        if head is None:
            raise errors.InvalidRequest("file: this field is required, with a file name", param="file", code="missing")
        form._first = head
        return form

    def place(self) -> Place:
        """Tell where the files go.

        Raises:
            errors.InvalidRequest: The fields contradict each other.
        """
        given = {name: value for name, value in self.fields.items() if value}
        whose = asked.shelf(given.get("kind"), given.get("id"), given.get("version"))
        return Place(session_id=given.get("session_id"), entity_id=given.get("entity_id"), shelf=whose)

    async def uploads(self) -> AsyncIterator[Upload]:
        """Give the files; what was not read of one is passed over when the next is asked for.

        Raises:
            errors.InvalidRequest: A part that follows is no file.
        """
        is_read_only, head = self._is_read_only(), self._first
        while head is not None:
            if head.file_name is None or head.name not in _FILE_FIELDS:
                raise _bad_field(head.name, "fields stand before the files, and files are named file or files")
            yield Upload(
                path=head.file_name,
                content=self._reader.content(),
                content_type=head.content_type,
                is_read_only=is_read_only,
            )
            head = await self._reader.next_part()

    def _is_read_only(self) -> bool:
        value = self.fields.get("read_only", "false").lower()
        if value not in ("true", "false", ""):
            raise _bad_field("read_only", "valid are true and false")
        return value == "true"


def _bad_field(name: str, reason: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{name[:80]}: {reason}", param=name[:80])
