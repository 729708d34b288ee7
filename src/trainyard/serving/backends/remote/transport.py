"""The connections of this process to servers elsewhere: one aiohttp session for all of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.client import _RequestContextManager

DNS_TTL_S = 60
"""How long an address is believed; a server that moves is found after that."""

KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s of uvicorn, below which most of these servers run, so that none closes under a request."""

_NOT_SENT = frozenset({"User-Agent", "Accept", "Accept-Encoding"})


class Transport:
    """Sends bytes; opened by its first request, because it needs the running event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def post(
        self, url: URL, headers: CIMultiDict[str], body: bytes, timeout: aiohttp.ClientTimeout
    ) -> "_RequestContextManager":
        """Begin a request; redirects are not followed, since an upstream does not choose where a key is sent."""
        session = self._session or self._open()
        return session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, limit_per_host=0, ttl_dns_cache=DNS_TTL_S, keepalive_timeout=KEEP_ALIVE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NOT_SENT,
            trust_env=False,
            read_bufsize=1 << 20,
        )
        return self._session


def headers(values: Mapping[str, str]) -> CIMultiDict[str]:
    """Make headers once, for many requests."""
    return CIMultiDict(values)
