"""A gateway without anything: uvicorn and plain ASGI; no key, no limit, no ledger, no log.

`python -m benchmarks.gateway.bare PORT UPSTREAM_PORT` forwards with aiohttp; without an upstream it gives the same
answer to everything, as a cache hit would.
"""

import sys
from typing import Any

import aiohttp
import uvicorn

from benchmarks.gateway import upstream

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


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Serve one request by what the upstream would say."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(upstream.ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": upstream.ANSWER})


if __name__ == "__main__":
    uvicorn.run(
        Forward(f"http://127.0.0.1:{sys.argv[2]}/v1/chat/completions") if len(sys.argv) > 2 else answer,
        port=int(sys.argv[1]),
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
    )
