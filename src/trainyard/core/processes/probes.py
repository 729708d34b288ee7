"""Is a child ready? Asked from outside, by connecting to it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

PROBE_TIMEOUT_S: Final = 2.0

Probe = Callable[[], Awaitable[bool]]


def unix_socket(path: Path) -> Probe:
    """Ready when something accepts connections at the path; a socket file that a dead process left does not count."""

    async def is_ready() -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_unix_connection(path)
                writer.close()
                await writer.wait_closed()
            return True
        return False

    return is_ready


def http(host: str, port: int, path: str) -> Probe:
    """Ready when a GET of the path is answered with 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()

    async def is_ready() -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(request)
                    status_line = await reader.readline()
                finally:
                    writer.close()
                    await writer.wait_closed()
            return status_line.split(b" ")[1:2] == [b"200"]
        return False

    return is_ready
