"""Answers of `GET /v1/models`: OpenAI's fields first, then what this server adds."""

from typing import Literal

from pydantic import BaseModel, Field


class ModelCard(BaseModel):
    """One model that the caller can name."""

    id: str = Field(description="Name to use as `model`.")
    object: Literal["model"] = Field(default="model", description="Always `model`.")
    created: int = Field(description="Unix seconds: of the run, or of this server's start for the catalog's models.")
    owned_by: str = Field(description="User who trained the run; `trainyard` for the catalog's models.")
    status: Literal["available", "off", "unavailable"] = Field(
        description="`off`: listed, but its entry says `load: off`; `unavailable`: what does the work does not answer."
    )
    backend: str = Field(description="What does the work: `local` or `fake`.")
    capabilities: list[str] = Field(description="What it can do: `generate`, `chat`, `embed`.")
    aliases: list[str] = Field(description="Further names for it.")
    root: str = Field(description="The base model; the model itself when it is one.")
    default: bool = Field(description="Whether requests that name no model get this one.")
    step: int | None = Field(description="Optimiser steps behind a run; null for base models.")


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = Field(default="list", description="Always `list`.")
    data: list[ModelCard] = Field(description="Models of the catalog, then the caller's runs.")
