"""Routes that only one of several HTTP processes can serve: the others hand the request on, both ways as a stream."""

from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
from fastapi import APIRouter
from multidict import CIMultiDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from yarl import URL

from trainyard.core import errors
from trainyard.core.http.routing import NamedRoute

_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host"),
    }
)
"""Headers that belong to one connection (RFC 9110, 7.6.1), and the host, which is a socket here."""
_READ_HERE = frozenset({"content-length", "expect", "x-request-id"})
_MADE_HERE = frozenset({"date", "server", "x-request-id"})


class Forwarder:
    """Hands requests to the HTTP process that listens on a unix socket.

    Args:
        socket: Where that process listens.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    def routes(self, like: APIRouter) -> list[BaseRoute]:
        """Make routes of the same paths and methods that hand on what they get."""
        return [self.route(one.path, *(one.methods or ())) for one in like.routes if isinstance(one, Route)]

    def route(self, path: str, *methods: str) -> BaseRoute:
        """Make one route that hands on what it gets."""
        return NamedRoute(path, self._forward, methods=sorted(methods))

    async def ping(self) -> None:
        """Return when the other process answers.

        Raises:
            errors.Unavailable: It does not.
        """
        try:
            async with self._opened().get("http://worker/healthz") as answer:
                answer.raise_for_status()
        except aiohttp.ClientError as error:
            raise _away() from error

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _forward(self, request: Request) -> Response:
        scope = request.scope
        # as it came: a path that was decoded once must not be decoded again
        target = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        try:
            answer = await self._opened().request(
                request.method,
                URL(f"http://worker{target}", encoded=True),
                headers=_headers(request),
                data=await request.body() or None,
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            raise _away() from error
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in _HOP_BY_HOP and name.lower() not in _MADE_HERE
        }
        return StreamingResponse(_body(answer), status_code=answer.status, headers=headers)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _headers(request: Request) -> CIMultiDict[str]:
    """Keep what the client sent, under the id that this process gave the request."""
    named = {name.strip().lower() for name in request.headers.get("connection", "").split(",")}
    dropped = _HOP_BY_HOP | _READ_HERE | named
    kept = CIMultiDict((name, value) for name, value in request.headers.items() if name not in dropped)
    kept["X-Request-ID"] = request.scope.get("state", {}).get("request_id", "")
    return kept


async def _body(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Pass on what comes; a client that leaves closes this, and with it the connection to the other process."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    finally:
        answer.close()


def _away() -> errors.Unavailable:
    return errors.Unavailable(
        "The process that serves this path is being started again; send the request again",
        code="worker_restarting",
        retry_after_s=1,
    )
