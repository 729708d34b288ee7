"""A forward without anything: uvicorn, plain ASGI, aiohttp; no key, no limit, no ledger, no log.

`python -m benchmarks.gateway.bare PORT UPSTREAM_PORT`
"""

import sys
from typing import Any

import aiohttp
import uvicorn

_HEADERS = {"Content-Type": "application/json"}


class Forward:
    """Sends the body on as it is and the answer back as it is."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = (await receive())["body"]
        async with self._session.post(self._url, data=body, headers=_HEADERS) as answer:
            content = await answer.read()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(
        Forward(f"http://127.0.0.1:{sys.argv[2]}/v1/chat/completions"),
        port=int(sys.argv[1]),
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
    )
