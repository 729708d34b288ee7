"""Commands to a zygote, one connection each; boxes come back as descriptors."""

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainyard.core import errors
from trainyard.sandbox.backends.base import Layer

_ANSWER_BYTES: Final = 64 << 10
_DESCRIPTORS: Final = 2
_ANSWER_S: Final = 30.0
_CODE: Final = "sandbox_unavailable"
REFUSED: Final = "sandbox_refused"
"""Code of the error where a zygote makes no boxes and never will."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A fresh box.

    Attributes:
        control: Connected to its runner.
        pidfd: Of its process 1, `pid`.
    """

    control: socket.socket
    pidfd: int
    pid: int


class Link:
    """The way to one zygote; raises errors.Unavailable (code `sandbox_unavailable`) when nobody is there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> Opened:
        """Have a box made.

        Raises:
            errors.Unavailable: It makes none, and says why; code `REFUSED` where that will not change.
        """
        answer, descriptors = await self._ask("open")
        if len(descriptors) != _DESCRIPTORS:
            _close_each(descriptors)
            raise _unavailable(str(answer.get("error")), REFUSED if answer.get("is_final") else _CODE)
        return Opened(socket.socket(fileno=descriptors[0]), descriptors[1], int(answer["pid"]))

    async def layers(self) -> list[Layer]:
        """Ask what isolates its boxes, or would."""
        answer, _ = await self._ask("layers")
        return [Layer(**layer) for layer in answer["layers"]]

    async def ping(self) -> None:
        """Ask whether it makes boxes.

        Raises:
            errors.Unavailable: It does not, and says why (code `REFUSED`).
        """
        answer, _ = await self._ask("layers")
        if answer["refusal"] is not None:
            raise _unavailable(str(answer["refusal"]), REFUSED)

    async def _ask(self, op: str) -> tuple[dict[str, Any], list[int]]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(_ANSWER_S):
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(connection, str(self._path))
                    await loop.sock_sendall(connection, json.dumps({"op": op}).encode())
                    return await _answer(connection)
            except (OSError, TimeoutError, ValueError) as error:
                raise _unavailable(f"the zygote does not answer ({error or 'in time'})") from error


async def _answer(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read up to the end of the line; raises ValueError when there is none, OSError when the zygote has gone."""
    text, descriptors = b"", list[int]()
    try:
        while not text.endswith(b"\n"):
            await _readable(connection)
            received, new, _flags, _address = socket.recv_fds(connection, _ANSWER_BYTES, _DESCRIPTORS)
            descriptors += new
            if not received:
                raise ConnectionResetError("it ended in the middle of an answer")
            text += received
        answer = json.loads(text)
    except BaseException:
        _close_each(descriptors)
        raise
    return answer, descriptors


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(connection.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


def _close_each(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _unavailable(why: str, code: str = _CODE) -> errors.Unavailable:
    return errors.Unavailable(f"no box of the sandbox can be made: {why}", code=code, retry_after_s=1.0)
