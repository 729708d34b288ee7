"""Is it there, can it work, what is it: the routes that need no key."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from trainyard.core import errors
from trainyard.core.http.drain import Drain
from trainyard.core.http.health_bodies import Alive, Health, Ready, Root
from trainyard.core.http.sharing import Shared
from trainyard.core.telemetry import Metrics
from trainyard.core.version import VERSION

Probe = Callable[[], Awaitable[object]]

SERVICE = "trainyard"
PROBE_TIMEOUT_S = 2.0

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Ready, "description": "A dependency does not work, or the server drains; ask again in a second"}
}
_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Samples, one per line", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


class Readiness:
    """Asks every dependency at once whether it works; whoever asks meanwhile gets the same answer.

    The path needs no key, so a crowd of callers must not become a crowd of queries.
    """

    def __init__(self, timeout_s: float = PROBE_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._probes: dict[str, Probe] = {}
        self._shared = Shared(self._check)

    def register(self, name: str, probe: Probe) -> None:
        """Add a dependency; its probe returns when it works and raises when it does not."""
        self._probes[name] = probe

    def replace(self, kind: str, probes: Mapping[str, Probe]) -> None:
        """Put these dependencies, named `<kind>:<name>`, in the place of all of that kind."""
        others = {name: probe for name, probe in self._probes.items() if not name.startswith(f"{kind}:")}
        self._probes = {**others, **{f"{kind}:{name}": probe for name, probe in probes.items()}}

    async def check(self) -> dict[str, dict[str, object]]:
        """Tell for each dependency whether it is `ok`, and why not; takes as long as the slowest, bounded."""
        return await self._shared()

    async def _check(self) -> dict[str, dict[str, object]]:
        probes = dict(self._probes)
        outcomes = await asyncio.gather(*(self._ask(probe) for probe in probes.values()), return_exceptions=True)
        return {name: self._told(outcome) for name, outcome in zip(probes, outcomes, strict=True)}

    async def _ask(self, probe: Probe) -> None:
        async with asyncio.timeout(self._timeout_s):
            await probe()

    def _told(self, outcome: BaseException | None) -> dict[str, object]:
        if outcome is None:
            return {"ok": True}
        if isinstance(outcome, TimeoutError):
            return {"ok": False, "reason": f"no answer within {self._timeout_s:g} s"}
        # Only messages of our own are shown: this path needs no key, and others may hold addresses.
        shown = outcome.message if isinstance(outcome, errors.TrainyardError) else type(outcome).__name__
        return {"ok": False, "reason": shown}


def router(
    readiness: Readiness, drain: Drain, metrics: Metrics, shown_config: Callable[[], Mapping[str, object]]
) -> APIRouter:
    """Make the routes.

    Args:
        readiness: The dependencies.
        drain: Makes `/readyz` 503 at shutdown.
        metrics: For `/metrics`.
        shown_config: What `/health` shows; no secrets and no paths, since it needs no key.
    """
    routes = APIRouter(tags=["health"])

    @routes.get("/", summary="Name and version")
    async def root() -> Root:
        return Root(name=SERVICE, version=VERSION, status="running")

    @routes.get("/healthz", summary="Whether the process answers")
    async def healthz() -> Alive:
        return Alive(status="ok")

    @routes.get("/health", summary="What this server is")
    async def health() -> Health:
        return Health(status="healthy", service=SERVICE, version=VERSION, config=dict(shown_config()))

    @routes.get(
        "/readyz",
        summary="Whether every dependency works; 503 as soon as one does not",
        response_model=Ready,
        responses=_NOT_READY,
    )
    async def readyz(_request: Request) -> JSONResponse:
        checks = await readiness.check()
        is_ready = all(check["ok"] for check in checks.values()) and not drain.is_draining
        status = "ready" if is_ready else "draining" if drain.is_draining else "not_ready"
        headers = {} if is_ready else {"Retry-After": "1"}
        body = {"status": status, "checks": checks}
        return JSONResponse(body, status_code=200 if is_ready else 503, headers=headers)

    @routes.get(
        "/metrics",
        summary="Metrics in Prometheus' text format",
        response_class=PlainTextResponse,
        responses=_METRICS,
    )
    async def prometheus() -> Response:
        await metrics.refresh()
        content, content_type = metrics.render()
        return Response(content, headers={"Content-Type": content_type})

    return routes
