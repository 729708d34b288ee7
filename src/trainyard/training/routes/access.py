"""Who calls a training route, on which run, and what can stand against it."""

from typing import Annotated

from fastapi import Depends, Path

from trainyard.core import errors
from trainyard.core.http import auth, error_bodies
from trainyard.core.principal import Principal

Trainer = Annotated[Principal, Depends(auth.principal("train"))]
"""The principal of a key that may train."""

RunId = Annotated[str, Path(description="`run_` and 16 hex digits; GET /runs lists yours.")]

NEEDS_STATE = error_bodies.responses("signal", errors.Conflict)
"""Errors of a route that not every state of a run allows."""

NEEDS_ROOM = error_bodies.responses("signal", errors.UnknownModel, errors.LimitReached)
"""Errors of a route that begins a run."""
