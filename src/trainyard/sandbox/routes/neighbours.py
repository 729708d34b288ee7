"""Handing requests on to the process of this server that has their session live: moving the session would cost more."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from trainyard.core.http import hot, leaving
from trainyard.core.http.forwarding import HANDED_ON, Neighbours
from trainyard.core.keys import guests
from trainyard.core.principal import Principal
from trainyard.sandbox.service import SandboxService

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_KEYS = ("authorization", "x-api-key")


class HandingOn:
    """Finds out whether another process should answer, and has it answer.

    Requests that are let in for their network alone stay, since behind a unix socket nobody has an address, and so do
    those with long bodies, which would be here twice. What stays here has the session moved here.

    Args:
        service: Knows who has a session live.
        neighbours: The other processes.
    """

    def __init__(self, service: SandboxService, neighbours: Neighbours | None) -> None:
        self._service = service
        self._neighbours = neighbours

    async def run(
        self, request: hot.Request, principal: Principal, session_id: str | None, entity_id: str | None
    ) -> Response | None:
        """Have a request that runs code answered where its session is live; None when that is here, or nowhere."""
        if not self._neighbours or not request.raw or HANDED_ON.encode() in request.headers:
            return None
        if guests.is_of_network(principal.key_id):
            return None
        holder = await self._service.held_by(session_id, principal, entity_id)
        neighbour = None if holder is None else self._neighbours.of(holder)
        if neighbour is None:
            return None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
        sending = neighbour.hand_on(request.scope, headers, request.raw, request.request_id)
        return await leaving.while_connected(request, sending)

    def route_class(self) -> type[APIRoute]:
        """Make the class of routes with a session in their path that are answered where it is live."""
        handing_on = self

        class Route(APIRoute):
            """Looks for the holder before anything else; the holder judges the request as if it had come to it."""

            def get_route_handler(self) -> _Handler:
                answer_here = super().get_route_handler()

                async def answer(request: Request) -> Response:
                    return await handing_on.route(request) or await answer_here(request)

                return answer

        return Route

    async def route(self, request: Request) -> Response | None:
        """Have a request answered whose path names a session; None when that is live here, or nowhere."""
        headers, session_id = request.headers, request.path_params.get("session_id")
        if not self._neighbours or session_id is None or HANDED_ON in headers:
            return None
        if not any(key in headers for key in _KEYS) or not _is_small(headers):
            return None
        holder = await self._service.held_by(session_id)
        neighbour = None if holder is None else self._neighbours.of(holder)
        if neighbour is None:
            return None
        return await neighbour.hand_on(
            request.scope, headers.items(), await request.body(), request.scope.get("state", {}).get("request_id", "")
        )


def _is_small(headers: Headers) -> bool:
    length = headers.get("content-length", "0")
    return "transfer-encoding" not in headers and length.isdecimal() and int(length) <= hot.KEPT_BODY_BYTES
