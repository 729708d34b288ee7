"""`EnginePool`: the engines of this server by model name, each over its socket, lazy ones started on demand."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from trainyard.core import errors
from trainyard.engine import addresses, base
from trainyard.engine.client import SocketEngine


class EnginePool:
    """Implements `Engines`.

    Args:
        socket_directory: Where the supervisor has the engines put their sockets.
        ensure: Asks the supervisor to have a child of that name running; returns when it is ready, raises
        errors.Unavailable when it
            cannot be, errors.NotFound when there is no such child.
    """

    def __init__(self, socket_directory: Path, ensure: Callable[[str], Awaitable[None]]) -> None:
        self._socket_directory = socket_directory
        self._ensure = ensure
        self._engines: dict[str, SocketEngine] = {}

    async def get(self, model: str) -> base.Engine:
        """Find the engine of a local model, started when it was not."""
        path = addresses.socket_path(self._socket_directory, model)
        if not path.exists():
            await self._started(model)
        if model not in self._engines:
            self._engines[model] = SocketEngine(path)
        return self._engines[model]

    async def _started(self, model: str) -> None:
        try:
            await self._ensure(addresses.child_name(model))
        except errors.NotFound as error:
            message = f"{model} has no engine on this server: its files are not on this machine, or it is switched off"
            raise errors.Unavailable(message, code="engine_not_configured") from error

    async def aclose(self) -> None:
        """Close all connections; the engines go on."""
        for engine in self._engines.values():
            await engine.aclose()
        self._engines.clear()
