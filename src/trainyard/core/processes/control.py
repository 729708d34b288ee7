"""Asking the supervisor from another process: JSON lines over a unix socket, `status`, `ensure` and `check`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import msgspec

from trainyard.core import errors
from trainyard.core.processes.runfile import RunFile


class ControlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line to the supervisor."""

    op: Literal["status", "ensure", "check"]
    name: str = ""


class ControlError(msgspec.Struct, frozen=True):
    """An error of `trainyard.core.errors` on the way to another process."""

    kind: str
    message: str
    code: str
    retry_after_s: float | None = None


class ControlAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line back; `run` for status, nothing for ensure, `error` when it was refused."""

    run: RunFile | None = None
    error: ControlError | None = None


_request = msgspec.json.Decoder(ControlRequest)
_answer = msgspec.json.Decoder(ControlAnswer)


class ControlServer:
    """Answers on the control socket.

    Args:
        status: Gives what `run.json` holds, as of now.
        ensure: Has a child running; raises errors.TrainyardError.
        check: Raises errors.TrainyardError when a child has failed for good.
    """

    def __init__(
        self, status: Callable[[], RunFile], ensure: Callable[[str], Awaitable[None]], check: Callable[[str], None]
    ) -> None:
        self._status = status
        self._ensure = ensure
        self._check = check

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the lines of one connection."""
        with contextlib.suppress(ConnectionError, ValueError):  # gone, or a line over the reader's limit
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        await close(writer)

    async def _answer(self, line: bytes) -> ControlAnswer:
        try:
            request = _request.decode(line)
            if request.op == "status":
                return ControlAnswer(run=self._status())
            if request.op == "check":
                self._check(request.name)
            else:
                await self._ensure(request.name)
            return ControlAnswer()
        except msgspec.DecodeError as error:
            return ControlAnswer(error=ControlError("InvalidRequest", str(error), "validation_error"))
        except errors.TrainyardError as error:
            return ControlAnswer(
                error=ControlError(type(error).__name__, error.message, error.code, error.retry_after_s)
            )


class ControlClient:
    """Asks the supervisor; every question is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def status(self) -> RunFile:
        """Tell what runs; raises errors.Unavailable when the supervisor does not answer."""
        answer = await self._ask(ControlRequest("status"))
        if answer.run is None:
            raise errors.Unavailable("the supervisor's answer holds no status", code="supervisor_away")
        return answer.run

    async def ensure(self, name: str) -> None:
        """Return when a child is ready.

        Raises:
            errors.NotFound: there is no such child.
            errors.Unavailable: it has failed, or the supervisor does not answer.
        """
        await self._ask(ControlRequest("ensure", name))

    async def check(self, name: str) -> None:
        """Return when a child runs or will run again by itself; raises as `ensure` does."""
        await self._ask(ControlRequest("check", name))

    async def _ask(self, request: ControlRequest) -> ControlAnswer:
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise _away(error) from error
        try:
            writer.write(msgspec.json.encode(request) + b"\n")
            answer = _answer.decode(await reader.readline())
        except (ConnectionError, msgspec.DecodeError) as error:
            raise _away(error) from error
        finally:
            await close(writer)
        if answer.error is not None:
            raise _rebuilt(answer.error)
        return answer


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait until its descriptor is gone."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _away(error: Exception) -> errors.Unavailable:
    return errors.Unavailable(f"the supervisor does not answer: {error}", code="supervisor_away", retry_after_s=1.0)


def _rebuilt(error: ControlError) -> errors.TrainyardError:
    kinds = {cls.__name__: cls for cls in (errors.NotFound, errors.Unavailable, errors.InvalidRequest)}
    cls = kinds.get(error.kind, errors.TrainyardError)
    return cls(error.message, code=error.code, retry_after_s=error.retry_after_s)
