"""The API of the code interpreter, at the root and under LibreChat's base URL."""

import re
from typing import Final

from fastapi import APIRouter, Depends

from trainyard.core.http import query
from trainyard.core.http.forwarding import Neighbours
from trainyard.core.http.hot import HotRoute
from trainyard.core.http.middleware import BodyBar
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.routes import downloads, exec, files, languages, sessions, states, uploads
from trainyard.sandbox.routes.access import PREFIXES
from trainyard.sandbox.routes.neighbours import HandingOn
from trainyard.sandbox.service import SandboxService

PATHS: Final = re.compile(
    r"(/v1/code)?/(exec|upload|upload/batch|languages|sessions|(files|download|sessions|state)/[^/]+(/.*)?)"
)
"""Where LibreChat's tokens, keys in a body, and trusted networks count beside keys in headers."""

_UPLOADS: Final = re.compile(r"(/v1/code)?/upload")
_BATCHES: Final = re.compile(r"(/v1/code)?/upload/batch")
_STATES: Final = re.compile(r"(/v1/code)?/state/[^/]+")
_FORM_BYTES: Final = 64 << 10
"""What a form adds to one file: its head, and fields."""


def hot_routes(service: SandboxService, neighbours: Neighbours | None = None) -> list[HotRoute]:
    """Make POST /exec, once for each base.

    Args:
        service: Runs the code.
        neighbours: Processes that answer for the sessions that they have live; None = this one is alone.
    """
    handing_on = HandingOn(service, neighbours)
    return [exec.route(service, f"{prefix}/exec", _named("execute_code", prefix), handing_on) for prefix in PREFIXES]


def routers(service: SandboxService, neighbours: Neighbours | None = None) -> list[APIRouter]:
    """Make all other routes, once for each base; every one needs a credential with the scope `execute`."""
    return [_router(service, prefix, HandingOn(service, neighbours)) for prefix in PREFIXES]


def _router(service: SandboxService, prefix: str, handing_on: HandingOn) -> APIRouter:
    routes = APIRouter(prefix=prefix, tags=["sandbox"], dependencies=[Depends(query.only_known)])
    for part in (uploads, files, downloads, languages):
        part.add(routes, service)
    routes.route_class = handing_on.route_class()  # of those that are added from here on: they tell of what is live
    for tending in (states, sessions):
        tending.add(routes, service)
    return routes


def body_bars(limits: SandboxLimits) -> list[BodyBar]:
    """Bound the bodies of routes that take files: of a form by its files together, of a state by itself."""
    file_bytes = limits.file_bytes + _FORM_BYTES
    return [
        BodyBar(_UPLOADS, limits.files_per_request * file_bytes, "sandbox.limits.file_bytes"),
        BodyBar(_BATCHES, limits.files_per_batch * file_bytes, "sandbox.limits.file_bytes"),
        BodyBar(_STATES, limits.state_bytes, "sandbox.limits.state_bytes"),
    ]


def _named(name: str, prefix: str) -> str:
    return f"{name}{prefix.replace('/', '_')}"
