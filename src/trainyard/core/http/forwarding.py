"""Requests that only one of several HTTP processes can serve: the others hand them on, both ways as a stream."""

import hashlib
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import aiohttp
from fastapi import APIRouter
from multidict import CIMultiDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Scope
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
HANDED_ON = "x-trainyard-handed-on"
"""Header of a request that was handed on by a process which takes this one for the right one; once is enough."""
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
        request_id = request.scope.get("state", {}).get("request_id", "")
        answer = await self.hand_on(request.scope, request.headers.items(), await request.body(), request_id)
        if answer is None:
            raise _away()
        return answer

    async def hand_on(
        self, scope: Scope, headers: Iterable[tuple[str, str]], body: bytes, request_id: str
    ) -> Response | None:
        """Send a request to the other process; None, and nothing has happened, where nobody listens there.

        Args:
            scope: Of ASGI.
            headers: As the client sent them, names in lower case.
            body: Likewise.
            request_id: That this process gave the request.

        Raises:
            errors.Unavailable: The other process has ended in the middle of it (code `worker_restarting`).
        """
        # as it came: a path that was decoded once must not be decoded again
        target = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        try:
            answer = await self._opened().request(
                scope["method"],
                URL(f"http://worker{target}", encoded=True),
                headers=_kept(headers, request_id),
                data=body or None,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError:
            return None
        except aiohttp.ClientError as error:
            raise _away() from error
        told = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in _HOP_BY_HOP and name.lower() not in _MADE_HERE
        }
        return StreamingResponse(_body(answer), status_code=answer.status, headers=told)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class Neighbours:
    """The HTTP processes of one server, as one of them sees the others.

    Args:
        sockets: Directory where they listen.
        worker: Number of this one.
        others: Numbers of the others.
    """

    def __init__(self, sockets: Path, worker: int, others: Iterable[tuple[int, Path]]) -> None:
        self._server = hashlib.sha256(str(sockets).encode()).hexdigest()[:8]
        self._worker = worker
        self._forwarders = {self._named(other): Forwarder(socket) for other, socket in others}

    @property
    def name(self) -> str:
        """Of this process among those of all servers."""
        return self._named(self._worker)

    def __bool__(self) -> bool:
        """Whether there are others."""
        return bool(self._forwarders)

    def of(self, name: str) -> Forwarder | None:
        """Find the way to one of them; None where it is this one, or of another server."""
        return self._forwarders.get(name)

    async def aclose(self) -> None:
        """Close the connections."""
        for forwarder in self._forwarders.values():
            await forwarder.aclose()

    def _named(self, worker: int) -> str:
        return f"{self._server}.{worker}"


def _kept(headers: Iterable[tuple[str, str]], request_id: str) -> CIMultiDict[str]:
    """Keep what the client sent, under the id that this process gave the request."""
    sent = CIMultiDict(headers)
    named = {name.strip().lower() for name in sent.get("connection", "").split(",")}
    dropped = _HOP_BY_HOP | _READ_HERE | named
    kept = CIMultiDict((name, value) for name, value in sent.items() if name.lower() not in dropped)
    kept["X-Request-ID"] = request_id
    kept[HANDED_ON] = "1"
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
