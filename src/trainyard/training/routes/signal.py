"""Signal's REST: runs, the four primitives, checkpoints, text."""

from fastapi import APIRouter

from trainyard.training.routes import artifacts, primitives, runs, sampling, text
from trainyard.training.service import TrainingService


def router(service: TrainingService) -> APIRouter:
    """Build all routes over one service; every one of them needs a key with the scope `train`."""
    routes = APIRouter()
    for part in (runs, primitives, sampling, artifacts, text):
        part.add(routes, service)
    return routes
