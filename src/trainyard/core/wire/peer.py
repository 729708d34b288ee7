"""A server and the connections to it: those that are kept, and how a new one comes to stand."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec

from trainyard.core.wire.connection import Connection
from trainyard.core.wire.failures import ConnectFailed, TimedOut
from trainyard.core.wire.origin import Origin, trusting
from trainyard.core.wire.racing import first_of

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host, the one to try first at the front; raises OSError when there are none."""


async def lookup(host: str, port: int) -> Sequence[str]:
    """Ask the system."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Rules(msgspec.Struct, frozen=True):
    """How connections are made and kept.

    Attributes:
        keep_alive_s: Longest time that a connection waits for its next request.
        tls: Whose certificates are believed; those that this machine believes when left out.
        resolve: Finds addresses.
    """

    keep_alive_s: float
    tls: ssl.SSLContext | None
    resolve: Resolve


class Peer:
    """Lends connections to one server; made by `Pool.peer`.

    There is no bound on how many: who sends requests decides how many go at once.
    """

    def __init__(self, origin: Origin, rules: Rules, on_open: Callable[[Connection], None]) -> None:
        self._host = origin.host
        self._port = origin.port
        self._tls = (rules.tls or trusting()) if origin.is_tls else None
        self._keep_alive_s = rules.keep_alive_s
        self._resolve = rules.resolve
        self._on_open = on_open
        self._kept: list[Connection] = []
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, now_s: float) -> Connection | None:
        """Take the connection that was used last, if any is kept; `now_s` is the time of the loop."""
        if not self._kept:
            return None
        connection = self._kept.pop()
        if now_s - connection.kept_at_s < self._keep_alive_s:
            return connection
        connection.close()
        self._sweep_old(now_s)
        return None

    async def connect(self, connect_timeout_s: float, deadline_s: float) -> Connection:
        """Open a connection to the address of the server's name that answers first.

        Raises:
            ConnectFailed: None stands in `connect_timeout_s`.
            TimedOut: `deadline_s`, a time of the loop, was over before.
        """
        until_s = min(deadline_s, asyncio.get_running_loop().time() + connect_timeout_s)
        try:
            async with asyncio.timeout_at(until_s):
                return await first_of(await self._resolve(self._host, self._port), self._open)
        except TimeoutError as error:
            if until_s == deadline_s:
                raise TimedOut("the deadline is over") from error
            raise ConnectFailed("no connection in time") from error
        except OSError as error:
            raise ConnectFailed("no connection") from error

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end, close any other."""
        if not connection.is_free:
            connection.close()
            return
        connection.rest()
        self._kept.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._keep_alive_s, self._sweep_now)

    def forget(self, connection: Connection) -> None:
        """Take out a connection that has ended."""
        if connection in self._kept:
            self._kept.remove(connection)

    def stop(self) -> None:
        """Keep nothing more for now; connections are closed by who knows them all."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # ------------------------------------------------------------- connecting
    async def _open(self, address: str) -> Connection:
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        _, connection = await loop.create_connection(
            lambda: Connection(loop, self.forget), address, self._port, ssl=self._tls, server_hostname=name
        )
        self._on_open(connection)
        return connection

    # ------------------------------------------------------------------- rest
    def _sweep_now(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        self._sweep_old(loop.time())
        if self._kept:
            self._sweep = loop.call_at(self._kept[0].kept_at_s + self._keep_alive_s, self._sweep_now)

    def _sweep_old(self, now_s: float) -> None:
        for connection in [one for one in self._kept if now_s - one.kept_at_s >= self._keep_alive_s]:
            connection.close()
