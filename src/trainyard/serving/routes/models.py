"""`GET /v1/models`: everything that the caller can name, his live runs among it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from trainyard.core import errors
from trainyard.core.http import auth, error_bodies
from trainyard.core.principal import Principal
from trainyard.serving.service import ServingService
from trainyard.serving.types import ModelView
from trainyard.serving.types.models import ModelCard, ModelList

Caller = Annotated[Principal, Depends(auth.principal("generate"))]
Name = Annotated[str, Path(description="Name or alias of a model, or `run_<id>`; it may hold slashes.")]


def router(service: ServingService) -> APIRouter:
    """Make the routes."""
    slow = error_bodies.responses("openai", errors.DeadlineExceeded)
    made = APIRouter(prefix="/v1/models", tags=["serving"], responses=slow)

    @made.get("", summary="List the models that you can call")
    async def list_served_models(caller: Caller) -> ModelList:
        return ModelList(data=[_card(view) for view in await service.list_models(caller)])

    @made.get("/{name:path}", summary="Describe one model by name or alias")
    async def show_served_model(name: Name, caller: Caller) -> ModelCard:
        return _card(await service.show_model(caller, name))

    return made


def _card(view: ModelView) -> ModelCard:
    return ModelCard(
        id=view.name,
        created=int(view.created_at),
        owned_by=view.owner,
        status=view.status,
        backend=view.backend,
        capabilities=list(view.capabilities),
        aliases=list(view.aliases),
        root=view.root,
        default=view.is_default,
        step=view.step,
    )
