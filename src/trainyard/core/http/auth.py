"""Who asks: the key of a request, checked once, before the body is read."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol, cast
from urllib.parse import parse_qs

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.http.routing import PUBLIC_PATHS
from trainyard.core.http.sharing import Shared
from trainyard.core.keys import APIKeyManager
from trainyard.core.principal import SCOPES, Principal

MISSING_KEY = (
    "Missing API key: send the header 'Authorization: Bearer <key>' ('Authorization: ApiKey <key>' and "
    "'X-API-Key: <key>' do too)"
)


class KeyChecker:
    """Checks keys without blocking the loop: the database is read in its threads, and only when the snapshot is old.

    Requests that find it old at the same time wait for one reading, so that a database that is away does not make
    each of them wait for the time-outs of those before it.

    Attributes:
        recognise: Tells whose key a text is by what is known at this moment, as `APIKeyManager.recognise_fresh`; None
            when the database has to be asked first.
    """

    def __init__(self, keys: APIKeyManager, database: Database) -> None:
        self._keys = keys
        self.recognise: Callable[[str], Principal | None] = keys.recognise_fresh
        self._database = database
        self._refresh = Shared(self._renew)

    async def check(self, key: str) -> Principal:
        """Tell whose key this is.

        Raises:
            errors.Unauthenticated: Code `invalid_api_key`.
            errors.Unavailable: The database did not answer.
        """
        if self._keys.is_stale_for(key):
            await self._refresh()
        return self._keys.recognise(key)

    async def refresh(self) -> None:
        """Bring keys and limits up to date when they are due, for callers who have no key of this server."""
        if self._keys.is_stale_for(None):
            await self._refresh()

    async def _renew(self) -> None:
        if not await self._keys.is_current():
            await self._database.call(self._keys.refresh)


class Otherwise(Protocol):
    """Knows callers of some paths by more than keys in headers."""

    def covers(self, path: str) -> bool:
        """Whether it is asked on a path."""
        ...

    async def of_request(self, scope: Scope) -> Principal:
        """Tell who sent a request; raises errors.Unauthenticated."""
        ...


class RequireKey:
    """Pure ASGI middleware: everything but the public paths needs a key, unknown paths too.

    Args:
        app: What comes next.
        checker: Knows the keys.
        signed_paths: Paths whose route checks the query's `signature` itself; with one, no key is needed.
        otherwise: Is asked in place of the checker on the paths that it covers.
    """

    def __init__(
        self,
        app: ASGIApp,
        checker: KeyChecker,
        signed_paths: Sequence[re.Pattern[str]] = (),
        otherwise: Otherwise | None = None,
    ) -> None:
        self._app = app
        self._checker = checker
        self._signed_paths = signed_paths
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the principal into the state of the request, or raise."""
        if scope["type"] == "http" and not self._is_open(scope):
            if self._otherwise is not None and self._otherwise.covers(scope["path"]):
                principal = await self._otherwise.of_request(scope)
            else:
                principal = await self._checker.check(read_key(HTTPConnection(scope)))
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        if scope["path"] in PUBLIC_PATHS:
            return True
        is_signed = any(pattern.fullmatch(scope["path"]) for pattern in self._signed_paths)
        query = scope["query_string"].decode("latin-1")  # of bytes, `parse_qs` reads ASCII alone
        return is_signed and "signature" in parse_qs(query)


def read_key(connection: HTTPConnection) -> str:
    """Find the key in `Authorization: Bearer`, `Authorization: ApiKey` or `X-API-Key`, in this order.

    Raises:
        errors.Unauthenticated: Code `missing_api_key`; the message says what to send.
    """
    headers = connection.headers
    return choose_key(headers.get("authorization", ""), headers.get("x-api-key", ""))


def choose_key(authorization: str, alone: str) -> str:
    """Find the key in the values of the two headers, empty where they are absent; raises as `read_key`."""
    found = find_key(authorization, alone)
    if not found:
        raise errors.Unauthenticated(MISSING_KEY, code="missing_api_key")
    return found


def find_key(authorization: str, alone: str) -> str:
    """Do as `choose_key`; empty where there is none."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() in ("bearer", "apikey") and credentials.strip():
        return credentials.strip()
    return alone.strip()


async def authenticate(request: Request, scope: str = "train") -> Principal:
    """Tell who sent a request and make sure that the key has a scope; an `admin` key has no other scope by itself.

    Raises:
        errors.Unauthenticated: There is no valid key.
        errors.Forbidden: The key lacks the scope (code `missing_scope`).
    """
    principal = getattr(request.state, "principal", None)
    if principal is None:
        checker = cast(KeyChecker, request.app.state.key_checker)
        principal = request.state.principal = await checker.check(read_key(request))
    return require_scope(cast(Principal, principal), scope)


def require_scope(principal: Principal, scope: str) -> Principal:
    """Return the principal when its key has the scope.

    Raises:
        errors.Forbidden: It has not.
    """
    if scope not in principal.scopes:
        raise errors.Forbidden(
            f"This API key lacks the scope '{scope}'; it has: {', '.join(sorted(principal.scopes))}",
            code="missing_scope",
            data={"scope": scope},
        )
    return principal


_bearer = HTTPBearer(auto_error=False, description="`Authorization: Bearer <key>`")
_header = APIKeyHeader(name="X-API-Key", auto_error=False)


def principal(scope: str) -> Callable[..., Awaitable[Principal]]:
    """Make the FastAPI dependency of a scope: `who: Annotated[Principal, Depends(auth.principal("train"))]`."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; valid: {', '.join(SCOPES)}")

    async def dependency(
        request: Request,
        _bearer_shown_in_docs: Annotated[object, Security(_bearer)],
        _header_shown_in_docs: Annotated[object, Security(_header)],
    ) -> Principal:
        return await authenticate(request, scope)

    return dependency
