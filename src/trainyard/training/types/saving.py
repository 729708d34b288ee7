"""Requests and answers about checkpoints."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from trainyard.training.types.base import Request, Result


def _check_no_push(value: bool) -> bool:
    if value:
        raise PydanticCustomError(
            "no_hub", "No hub is configured on this server; leave push_to_hub false and download the artifact"
        )
    return value


class SaveStateRequest(Request):
    """What `save_state` takes."""

    refused: ClassVar[Mapping[str, str]] = {
        "hub_model_id": "No hub is configured on this server; leave hub_model_id out and download the artifact"
    }
    mode: Literal["adapter", "merged"] = Field(
        default="adapter",
        description="adapter: LoRA weights in PEFT's format; merged: a model in transformers' format.",
    )
    push_to_hub: Annotated[bool, pydantic.AfterValidator(_check_no_push)] = Field(
        default=False, description="Only false: no hub is configured."
    )


class FileFacts(Result):
    """One file of a checkpoint."""

    sha256: str = Field(description="Hex digest of the content.")
    size: int = Field(description="Bytes.")


class SaveStateResponse(Result):
    """What `save_state` answers."""

    artifact_id: str = Field(description="Names it in GET /runs/{id}/artifacts.")
    name: str = Field(description="Checkpoint name; an adapter is callable on /v1 as `run_<id>:<name>`.")
    step: int = Field(description="Optimiser steps behind these weights.")
    mode: Literal["adapter", "merged"] = Field(description="As asked.")
    artifact_uri: str = Field(description="`trainyard://runs/<run_id>/artifacts/<artifact_id>`.")
    local_path: str = Field(description="Directory on the server.")
    checkpoint_path: str = Field(description="The same below the data directory.")
    s3_uri: str | None = Field(default=None, description="Null: no S3 store is configured.")
    download_url: str = Field(description="Signed; needs no key.")
    download_expires_at: datetime = Field(description="When the URL ends, UTC; one hour.")
    manifest: dict[str, FileFacts] = Field(description="File name -> digest and size.")
    pushed_to_hub: bool = Field(default=False, description="Always false: no hub is configured.")
    hub_model_id: str | None = Field(default=None, description="Always null: no hub is configured.")


class Artifact(Result):
    """One checkpoint as `GET /runs/{id}/artifacts` lists it."""

    id: str = Field(description="`art_…`.")
    name: str = Field(description="Checkpoint name.")
    step: int = Field(description="Optimiser steps behind these weights.")
    mode: Literal["adapter", "merged"] = Field(description="adapter: PEFT's format; merged: a whole model.")
    s3_uri: str | None = Field(default=None, description="Null: no S3 store is configured.")
    download_url: str = Field(description="Signed; needs no key.")
    download_expires_at: datetime = Field(description="When the URL ends, UTC; one hour.")
    created_at: datetime = Field(description="When it was saved, UTC.")
    file_size_bytes: int = Field(description="Sum over the files, bytes.")
    download_count: int = Field(description="Downloads that were begun.")
    manifest: dict[str, FileFacts] = Field(description="File name -> digest and size.")
