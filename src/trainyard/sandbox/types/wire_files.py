"""Bodies of the routes for files."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trainyard.sandbox.types.wire import KindOfFile


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class UploadedFile(_Body):
    """One file that was stored."""

    file_id: str = Field(validation_alias="fileId", serialization_alias="fileId", description="21 characters.")
    filename: str = Field(description="Path under /mnt/data.")
    size: int = Field(description="Bytes.")


class UploadAnswer(_Body):
    """Every file of the request is stored."""

    message: Literal["success"] = Field(default="success", description="LibreChat looks for it.")
    session_id: str = Field(description="Session that keeps the files.")
    storage_session_id: str = Field(description="The same.")
    files: list[UploadedFile] = Field(description="In the order in which they came.")


class BatchFile(_Body):
    """What became of one file of a batch."""

    status: Literal["success", "error"] = Field(description="Whether it was stored.")
    filename: str = Field(description="Path under /mnt/data; of a refused file its name as it came.")
    file_id: str | None = Field(
        default=None,
        validation_alias="fileId",
        serialization_alias="fileId",
        description="21 characters; null for a refused one.",
    )
    size: int | None = Field(default=None, description="Bytes; null for a refused one.")
    error: str | None = Field(default=None, description="Why it was refused.")
    code: str | None = Field(default=None, description="The reason for machines, such as `file_too_large`.")


class BatchAnswer(_Body):
    """What became of each file, in the order in which they came."""

    message: Literal["success", "partial_success", "error"] = Field(
        description="Whether all, some or none were stored."
    )
    session_id: str | None = Field(description="Session that keeps the files; null where none could be stored.")
    storage_session_id: str | None = Field(description="The same.")
    files: list[BatchFile] = Field(description="In the order in which they came.")
    succeeded: int = Field(description="Files that were stored.")
    failed: int = Field(description="Files that were refused.")


class FileName(_Body):
    """One file with `detail=simple`."""

    id: str = Field(description="21 characters.")
    name: str = Field(description="Path under /mnt/data.")
    path: str = Field(description="The same.")


class FileSummary(_Body):
    """One file with `detail=summary`."""

    name: str = Field(description="`<session>/<file>`.")
    last_modified: str = Field(
        validation_alias="lastModified", serialization_alias="lastModified", description="ISO 8601, UTC."
    )


class FileMetadata(_Body):
    """Headers of the stored object, in LibreChat's words."""

    content_type: str = Field(
        validation_alias="content-type",
        serialization_alias="content-type",
        description="As it was uploaded, or by its name.",
    )
    original_filename: str = Field(
        validation_alias="original-filename",
        serialization_alias="original-filename",
        description="Path under /mnt/data.",
    )


class FileInfo(_Body):
    """One file in full."""

    id: str = Field(description="21 characters.")
    name: str = Field(description="`<session>/<file>` and the extension.")
    session_id: str = Field(description="Session that keeps it.")
    storage_session_id: str = Field(description="The same.")
    resource_id: str = Field(description="Of the agent or skill; the user, where it is a user's.")
    kind: KindOfFile = Field(description="Whose it is.")
    version: int | str | None = Field(default=None, description="Of the skill.")
    size: int = Field(description="Bytes.")
    etag: str = Field(description="SHA-256 of the content, in quotes.")
    content_type: str = Field(
        validation_alias="contentType",
        serialization_alias="contentType",
        description="As it was uploaded, or by its name.",
    )
    created_at: str = Field(validation_alias="createdAt", serialization_alias="createdAt", description="ISO 8601, UTC.")
    last_modified: str = Field(
        validation_alias="lastModified", serialization_alias="lastModified", description="ISO 8601, UTC."
    )
    read_only: bool = Field(description="Whether runs leave the stored file as it is.")
    metadata: FileMetadata = Field(description="The same in LibreChat's words.")
