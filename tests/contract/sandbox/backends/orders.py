"""Orders as the tests write them: short, and with limits that a broken runner does not outlast."""

from collections.abc import AsyncIterator
from typing import Any

from trainyard.sandbox.backends.base import Box, Kept
from trainyard.sandbox.types.orders import Order, Place, Program, Step


async def run(box: Box, code: str, *, stdin: bytes = b"", **settings: Any) -> Kept:
    chosen: dict[str, Any] = {"timeout_s": 20.0} | settings
    return await box.run(Order(code=code, **chosen), stdin)


async def shell(box: Box, code: str, *, stdin: bytes = b"", **settings: Any) -> Kept:
    program = Program(file="main.sh", steps=(Step(phase="run", argv=("bash", "{file}", "{args}")),))
    return await run(box, code, stdin=stdin, program=program, **settings)


async def pieces(content: bytes, piece_bytes: int = 1 << 20) -> AsyncIterator[bytes]:
    for at in range(0, len(content), piece_bytes):
        yield content[at : at + piece_bytes]


async def put(box: Box, path: str, content: bytes, place: Place = "data") -> None:
    await box.put(place, path, len(content), pieces(content))


async def read(box: Box, path: str, place: Place = "data") -> bytes:
    return b"".join([piece async for piece in box.get(place, path)])
