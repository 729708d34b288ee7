"""`EnginePool`: the engines of this server by model name, each over its socket, lazy ones started on demand."""

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

from trainyard.core import errors
from trainyard.engine import addresses, base
from trainyard.engine.client import SocketEngine

Ask = Callable[[str], Awaitable[None]]
"""A question to the supervisor about the child of a name; raises when the answer is no."""


class EnginePool:
    """Implements `Engines`.

    Args:
        socket_directory: Where the supervisor has the engines put their sockets.
        ensure: Asks to have a child running; returns when it is ready.
        check: Asks whether a child runs or will run again by itself.
    """

    def __init__(self, socket_directory: Path, ensure: Ask, check: Ask) -> None:
        self._socket_directory = socket_directory
        self._ensure = ensure
        self._check = check
        self._engines: dict[str, SocketEngine] = {}

    async def get(self, model: str) -> base.Engine:
        """Find the engine of a local model, started when it was not."""
        path = addresses.socket_path(self._socket_directory, model)
        if not path.exists():
            await _asked(self._ensure, model)
        if model not in self._engines:
            self._engines[model] = SocketEngine(path, on_refused=functools.partial(_asked, self._check, model))
        return self._engines[model]

    def connected(self) -> dict[str, base.Engine]:
        """Give the engines that were asked for so far, by model; none is started for this."""
        return dict(self._engines)

    async def aclose(self) -> None:
        """Close all connections; the engines go on."""
        for engine in self._engines.values():
            await engine.aclose()
        self._engines.clear()


async def _asked(ask: Ask, model: str) -> None:
    """Ask the supervisor and say its refusal in the words of models.

    Raises:
        errors.Unavailable: Code `engine_not_configured`, `engine_failed`, or that of the supervisor.
    """
    try:
        await ask(addresses.child_name(model))
    except errors.NotFound as error:
        message = f"{model} has no engine on this server: its files are not on this machine, or it is switched off"
        raise errors.Unavailable(message, code="engine_not_configured") from error
    except errors.Unavailable as error:
        if error.code != "child_failed":
            raise
        message = f"the engine of {model} has failed and stays down; an operator has to look at its log"
        raise errors.Unavailable(message, code="engine_failed") from error
