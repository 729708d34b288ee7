"""Attempts at one server elsewhere: requests over `core.wire`, and what became of them in words of our own."""

import asyncio
import contextlib
from typing import Final

import msgspec

from trainyard.core import wire
from trainyard.core.catalog import ModelEntry
from trainyard.core.clock import Clock
from trainyard.core.version import VERSION
from trainyard.serving.backends.remote import failures, retries
from trainyard.serving.backends.remote.failures import AttemptFailed, Outcome

MAX_ANSWER_BYTES: Final = 64 << 20
"""Of a whole answer; more is not an answer to a request that this server let in."""

MAX_ERROR_BYTES: Final = 16 << 10

_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # what is small is not worth it, and a stream would wait for its blocks
    "User-Agent": f"trainyard/{VERSION}",  # some front servers refuse requests without one
}
_NO_STREAM: Final = frozenset({b"text/html", b"application/json"})
_DRAIN_S: Final = 0.1
"""What the end of a finished stream may take, so that its connection can be used again."""

_REASON_S: Final = 1.0
"""What the reason of a refusal may take; its status has come already."""


class _Said(msgspec.Struct):
    """An error of an upstream: OpenAI's object or Ollama's text."""

    error: dict[str, object] | str = ""


_read_error = msgspec.json.Decoder(_Said).decode


class Transport:
    """Sends requests of one model; every method that waits raises `AttemptFailed`.

    Redirects are not followed, since an upstream does not choose where a key is sent.
    """

    def __init__(self, entry: ModelEntry, key: str | None, pool: wire.Pool, clock: Clock) -> None:
        self._entry = entry
        self._model = entry.name
        self._key = key
        self._clock = clock
        self._origin = wire.Origin(entry.url)
        self._peer = pool.peer(self._origin)
        self._headers = _HEADERS | ({"Authorization": f"Bearer {key}"} if key else {})
        self._heads: dict[str, bytes] = {}

    async def whole(self, path: str, body: bytes, ends_at_s: float) -> bytes:
        """Send a request and read its answer to the end.

        Args:
            path: Below the base URL.
            body: JSON.
            ends_at_s: Time of the loop at which the caller gives up.
        """
        now_s = asyncio.get_running_loop().time()
        entry = self._entry
        deadline_s = min(now_s + entry.first_byte_timeout_s, ends_at_s)
        connection = self._peer.take(now_s)
        try:
            if connection is None:
                connection = await self._peer.connect(entry.connect_timeout_s, deadline_s)
            await connection.ask(self._head(path), body, deadline_s, MAX_ANSWER_BYTES)
            if connection.answer.status != 200:
                raise await self._refusal(connection, deadline_s)
            return connection.answer.take()
        except wire.WireError as error:
            raise self._broken(error, is_callers_time=deadline_s == ends_at_s) from error
        finally:
            if connection is not None:
                self._peer.give_back(connection)

    async def begin(self, path: str, body: bytes, ends_at_s: float) -> wire.Connection:
        """Send a request and wait for the first block of its answer; who gets the connection lets it go."""
        now_s = asyncio.get_running_loop().time()
        entry = self._entry
        deadline_s = min(now_s + entry.first_byte_timeout_s, ends_at_s)
        connection = self._peer.take(now_s)
        is_good = False
        try:
            if connection is None:
                connection = await self._peer.connect(entry.connect_timeout_s, deadline_s)
            await connection.ask(self._head(path), body, deadline_s)
            if connection.answer.status != 200:
                raise await self._refusal(connection, deadline_s)
            self._check_stream(connection.answer)
            is_good = True
            return connection
        except wire.WireError as error:
            raise self._broken(error, is_callers_time=deadline_s == ends_at_s) from error
        finally:
            if connection is not None and not is_good:
                self._peer.give_back(connection)

    async def next_block(self, connection: wire.Connection, ends_at_s: float) -> bytes:
        """Wait for what comes next; empty at the end."""
        idle_at_s = asyncio.get_running_loop().time() + self._entry.idle_timeout_s
        try:
            return await connection.read(min(idle_at_s, ends_at_s))
        except wire.WireError as error:
            what = "stopped in the middle of its answer"
            raise self._broken(error, is_callers_time=ends_at_s <= idle_at_s, late=what) from error

    async def drain(self, connection: wire.Connection) -> None:
        """Read what follows the last event, which is the end of the body."""
        if connection.answer.is_complete:
            return
        until_s = asyncio.get_running_loop().time() + _DRAIN_S
        with contextlib.suppress(wire.WireError):
            while await connection.read(until_s):
                pass

    def let_go(self, connection: wire.Connection) -> None:
        """Keep the connection of an answer that was read to its end, close any other."""
        self._peer.give_back(connection)

    # ---------------------------------------------------------------- reading
    def _head(self, path: str) -> bytes:
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self._origin.head(path, self._headers)
        return head

    def _check_stream(self, answer: wire.Answer) -> None:
        kind = answer.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind in _NO_STREAM:
            raise failures.garbage(self._model)
        if not answer.blocks:
            raise AttemptFailed(failures.failed(self._model, "answered with an empty stream"), Outcome.GARBAGE)

    async def _refusal(self, connection: wire.Connection, deadline_s: float) -> AttemptFailed:
        status, header = connection.answer.status, connection.answer.headers.get(b"retry-after")
        until_s = min(deadline_s, asyncio.get_running_loop().time() + _REASON_S)
        raw = b""
        with contextlib.suppress(wire.WireError):  # the status says enough
            while len(raw) < MAX_ERROR_BYTES and (block := await connection.read(until_s)):
                raw += block
        said, code = _error_of(raw[:MAX_ERROR_BYTES])
        if self._key:
            said = said.replace(self._key, "***")
        wait_s = retries.retry_after_s(None if header is None else header.decode("latin-1"), self._clock)
        return failures.by_status(self._model, status, said, code, wait_s)

    # --------------------------------------------------------------- failures
    def _broken(
        self, error: wire.WireError, *, is_callers_time: bool, late: str = "did not answer in time"
    ) -> AttemptFailed:
        if isinstance(error, wire.TimedOut):
            if is_callers_time:
                return AttemptFailed(failures.out_of_time(self._model), Outcome.LATE)
            return self._failed(late, Outcome.TIMEOUT, code="upstream_timeout")
        if isinstance(error, wire.ConnectFailed):
            return self._failed("cannot be reached", Outcome.UNREACHABLE, code="upstream_unreachable", may_repeat=True)
        if isinstance(error, wire.TooLong):
            return self._failed("answered with too many bytes", Outcome.GARBAGE)
        if isinstance(error, wire.Dropped):
            if error.stage is wire.Stage.BODY:
                return self._failed("closed the connection in the middle of its answer", Outcome.DROPPED)
            return self._failed("closed the connection without an answer", Outcome.DROPPED, may_repeat=True)
        return self._failed("answered with something that is not HTTP", Outcome.GARBAGE)

    def _failed(
        self, what: str, outcome: Outcome, *, code: str | None = None, may_repeat: bool = False
    ) -> AttemptFailed:
        return AttemptFailed(failures.failed(self._model, what, code=code), outcome, may_repeat=may_repeat)


def _error_of(raw: bytes) -> tuple[str, str]:
    """Read message and code of an error body; empty when it has none."""
    try:
        error = _read_error(raw).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    if isinstance(error, str):
        return error, ""
    return str(error.get("message") or ""), str(error.get("code") or "")
