"""POST /exec: run code, and answer with the whole or with events as output appears."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from msgspec import Struct
from starlette.responses import Response

from trainyard.core import errors
from trainyard.core.http import leaving
from trainyard.core.http.hot import HotRoute, Reply, Request, Stream, hot_route
from trainyard.core.principal import Principal
from trainyard.sandbox.routes import answers, asked
from trainyard.sandbox.routes.events import RunEvents
from trainyard.sandbox.routes.neighbours import HandingOn
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types import wire

RAISED = (errors.NotFound, errors.Conflict, errors.LimitReached, errors.QuotaExhausted, errors.DeadlineExceeded)

EVENTS: Final[Mapping[str, type[Struct]]] = {
    "session": wire.RunBegun,
    "stdout": wire.OutputPiece,
    "stderr": wire.OutputPiece,
    "result": wire.Output,
    "done": wire.ExecResponse,
}
"""Structs of the events of a stream, by their names."""


def route(service: SandboxService, path: str, name: str, handing_on: HandingOn) -> HotRoute:
    """Make the route.

    Args:
        service: Runs the code.
        path: Where.
        name: Of the operation in the OpenAPI document.
        handing_on: To the process that has the session.
    """

    async def execute(request: Request, body: wire.ExecRequest, principal: Principal) -> Reply | Stream | Response:
        wish = asked.execute(request, body)
        elsewhere = await handing_on.run(request, principal, wish.session_id, wish.entity_id)
        if elsewhere is not None:
            return elsewhere
        write = partial(answers.executed, principal, echoes=asked.knows_inputs(body), refs=wish.files)
        lines: list[bytes] = []
        run = partial(service.execute, principal, wish, request_id=request.request_id, on_admitted=lines.append)
        if not asked.is_streamed(request, body):
            done = await leaving.while_connected(request, run())
            return Reply(write(done), lines=b"".join(lines))
        events = RunEvents(run, write, request.request_id)
        try:
            await leaving.while_connected(request, events.begin())
        except BaseException:
            await events.aclose()
            raise
        return Stream(events, lines=b"".join(lines))

    execute.__name__ = name
    return hot_route(
        path,
        execute,
        request_type=wire.ExecRequest,
        response_type=wire.ExecResponse,
        named_events=EVENTS,
        scope="execute",
        raises=RAISED,
        is_idempotent=False,
        dialect="code",
        summary="Run code",
    )
