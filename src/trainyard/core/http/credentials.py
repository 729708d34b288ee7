"""Who asks on paths of the code interpreter, whose clients do not all have a header for a key.

A credential that is there is judged, and a wrong one is refused, wherever the request comes from. In this order: a
header (API key, or a signed token); in the body of a route that says so, an API key; the network of the peer.
"""

import ipaddress
import re
from typing import Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Scope

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.http.auth import MISSING_KEY, KeyChecker, find_key
from trainyard.core.http.tokens import Tokens, looks_like_token
from trainyard.core.keys import guests
from trainyard.core.principal import Principal
from trainyard.core.settings import SandboxSettings
from trainyard.core.settings_sandbox import network

PEER: Final = "trainyard.peer"
"""Key of an ASGI scope for the address of the socket's peer, which no header can change."""

MAX_KEYED_BYTES: Final = 2 << 20
"""Of a body in which a key is looked for: nobody is known yet who could be held to a limit."""

_NOT_THE_PEER: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "origin", "sec-fetch-site")
"""Headers by which a proxy tells that it hands on, and a browser that a page asks, which may be anybody's."""
_TRUSTED: Final = guests.principal("net", "default", "trusted", frozenset({"execute"}))


class _KeyedBody(msgspec.Struct, frozen=True):
    """The names under which clients put a key into a body; everything else is left unread."""

    key: str | None = msgspec.field(default=None, name="LIBRECHAT_CODE_API_KEY")
    snake_key: str | None = msgspec.field(default=None, name="api_key")
    camel_key: str | None = msgspec.field(default=None, name="apiKey")


_body = msgspec.json.Decoder(_KeyedBody)


class Credentials:
    """Knows callers by key, token or network.

    Args:
        rules: Of the settings.
        checker: Knows the keys.
        clock: For tokens.
        paths: Matches the whole paths on which they count.

    Raises:
        errors.ConfigError: Networks or public keys cannot be used.
    """

    def __init__(self, rules: SandboxSettings, checker: KeyChecker, clock: Clock, paths: re.Pattern[str]) -> None:
        self._paths = paths
        self._checker = checker
        self._tokens = None if rules.jwt.keys is None else Tokens(rules.jwt, clock)
        self._networks = [network(text) for text in rules.trusted_networks]

    def covers(self, path: str) -> bool:
        """Whether they count on a path."""
        return self._paths.fullmatch(path) is not None

    async def of_request(self, scope: Scope) -> Principal:
        """Tell who sent a request that has no body with a key.

        Raises:
            errors.Unauthenticated: Codes `missing_api_key`, `invalid_api_key`, `invalid_token`.
            errors.Unavailable: The database did not answer.
        """
        headers = Headers(scope=scope)
        key = find_key(headers.get("authorization", ""), headers.get("x-api-key", ""))
        return await self.of_head(key) or await self._of_network(scope)

    async def of_head(self, key: str) -> Principal | None:
        """Tell whose credential stood in the head; None where none did. Raises as `of_request`."""
        if not key:
            return None
        if not looks_like_token(key):
            return self._checker.recognise(key) or await self._checker.check(key)
        if self._tokens is None:
            raise errors.Unauthenticated(
                "Signed tokens are not accepted here; set sandbox.jwt.keys, or send an API key", code="invalid_token"
            )
        principal = self._tokens.read(key)
        await self._checker.refresh()  # limits of the tenant
        return principal

    async def of_body(self, scope: Scope, raw: bytes) -> Principal:
        """Tell whose key stands in a body, or trust the network. Raises as `of_request`."""
        try:
            found = _body.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = _KeyedBody()
        key = found.key or found.snake_key or found.camel_key
        return await self._checker.check(key.strip()) if key else await self._of_network(scope)

    async def _of_network(self, scope: Scope) -> Principal:
        if not self._is_trusted(scope):
            raise errors.Unauthenticated(MISSING_KEY, code="missing_api_key")
        await self._checker.refresh()
        return _TRUSTED

    def _is_trusted(self, scope: Scope) -> bool:
        """Whether the peer itself asks, from a trusted network."""
        peer = scope.get(PEER) or scope.get("client")
        headers = Headers(scope=scope)
        if not self._networks or not peer or any(name in headers for name in _NOT_THE_PEER):
            return False
        try:
            address = ipaddress.ip_address(peer[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in one for one in self._networks)
