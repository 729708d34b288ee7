"""One server elsewhere, for one model: where it is, how it does, and how requests get there and back."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import aiohttp
import msgspec
from yarl import URL

from trainyard.core.catalog import ModelEntry
from trainyard.core.clock import Clock
from trainyard.core.version import VERSION
from trainyard.serving.backends.remote import failures, retries, transport
from trainyard.serving.backends.remote.breaker import Breaker, Pass, State
from trainyard.serving.backends.remote.failures import AttemptFailed, Outcome
from trainyard.serving.backends.remote.meters import UpstreamMetrics
from trainyard.serving.backends.remote.transport import Transport

MAX_ANSWER_BYTES = 64 << 20
"""Of a whole answer; more is not an answer to a request that this server let in."""

MAX_ERROR_BYTES = 16 << 10


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_Read = Callable[[aiohttp.ClientResponse], Awaitable[T]]

_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # what is small is not worth it, and a stream would wait for its blocks
    "User-Agent": f"trainyard/{VERSION}",  # some front servers refuse requests without one
}
_NO_STREAM = frozenset({"text/html", "application/json"})
_DRAIN_S = 0.1
"""What the end of a finished stream may take, so that its connection can be used again."""


class StreamDecoder(Protocol[T_co]):
    """Makes items of the blocks of a stream; every method raises `AttemptFailed` when it cannot."""

    @property
    def is_done(self) -> bool:
        """Whether everything that counts has come."""
        ...

    def feed(self, block: bytes) -> Iterable[T_co]:
        """Take a block; gives what it completed."""
        ...

    def end(self) -> Sequence[T_co]:
        """Say that nothing follows; returns what was held back for the end."""
        ...


class _Said(msgspec.Struct):
    """An error of an upstream: OpenAI's object or Ollama's text."""

    error: dict[str, object] | str = ""


_read_error = msgspec.json.Decoder(_Said).decode


class Upstream:
    """Sends requests of one model and gives up in time.

    Attributes:
        entry: Of the catalog.
        knows_stream_options: False once the server has refused them.
    """

    def __init__(
        self, entry: ModelEntry, key: str | None, wires: Transport, clock: Clock, metrics: UpstreamMetrics
    ) -> None:
        self.entry = entry
        self.model = entry.name
        self.knows_stream_options = True
        self.metrics = metrics
        self.breaker = Breaker(clock)
        self._transport = wires
        self._clock = clock
        self._key = key
        self._budget = retries.RetryBudget()
        self._urls: dict[str, URL] = {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=entry.connect_timeout_s)
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        self._headers = transport.headers(_HEADERS | authorization)
        self._places = asyncio.Semaphore(entry.max_concurrency) if entry.max_concurrency else None

    async def whole(self, path: str, body: bytes, timeout_s: float, decode: Callable[[bytes], T]) -> T:
        """Send a request and read its whole answer.

        Args:
            path: Below the base URL.
            body: JSON.
            timeout_s: For all attempts together.
            decode: Reads the answer; raises `AttemptFailed` when it is none.

        Raises:
            errors.Unavailable: It is overloaded, or is left alone after failures.
            errors.UpstreamFailed: It failed.
            errors.InvalidRequest: It found the request at fault.
            errors.DeadlineExceeded: `timeout_s` is over.
        """

        async def read(response: aiohttp.ClientResponse) -> T:
            return decode(await self._all_of_it(response))

        ends_at_s = self._ends_at_s(timeout_s)
        if self._places is None:
            return await self._whole(path, body, ends_at_s, read)
        async with self._place(ends_at_s):
            return await self._whole(path, body, ends_at_s, read)

    async def stream(
        self, path: str, body: bytes, timeout_s: float, decoder: StreamDecoder[T]
    ) -> AsyncGenerator[T, None]:
        """Send a request and give what its answer says as it comes; closing it closes the connection.

        Raises as `whole`; nothing is tried again once a block has come.
        """
        ends_at_s = self._ends_at_s(timeout_s)
        async with self._place(ends_at_s):
            response, block, given = await self._repeat(path, body, ends_at_s, self._first_block)
            outcome = Outcome.CANCELLED
            try:
                while block:
                    for item in decoder.feed(block):
                        yield item
                    if decoder.is_done:
                        break
                    block = await self._next_block(response, ends_at_s)
                last = decoder.end()
                await _drain(response)
                outcome = Outcome.OK
                for item in last:
                    yield item
            except AttemptFailed as failure:
                outcome = failure.outcome
                raise failure.error from failure
            finally:
                self._settle(given, outcome)
                _let_go(response)

    def now_s(self) -> float:
        """Read the clock by which attempts are timed, that of the event loop."""
        return _now()

    # --------------------------------------------------------------- attempts
    async def _whole(self, path: str, body: bytes, ends_at_s: float, read: _Read[T]) -> T:
        response, value, given = await self._repeat(path, body, ends_at_s, read)
        self._settle(given, Outcome.OK)
        _let_go(response)
        return value

    async def _repeat(
        self, path: str, body: bytes, ends_at_s: float, read: _Read[T]
    ) -> tuple[aiohttp.ClientResponse, T, Pass]:
        self._budget.earn()
        attempt = 0
        while True:
            try:
                return await self._attempt(path, body, ends_at_s, read)
            except AttemptFailed as failure:
                attempt += 1
                wait_s = retries.pause_s(attempt, failure.error.retry_after_s)
                if not self._may_repeat(failure, attempt, wait_s, ends_at_s):
                    raise failure.error from failure
            self.metrics.retry(self.model)
            await asyncio.sleep(wait_s)

    def _may_repeat(self, failure: AttemptFailed, attempt: int, wait_s: float, ends_at_s: float) -> bool:
        if not failure.may_repeat or attempt > self.entry.retries or wait_s > retries.LONGEST_PAUSE_S:
            return False
        is_late = _now() + wait_s >= ends_at_s
        return not is_late and self.breaker.state is State.CLOSED and self._budget.spend()

    async def _attempt(
        self, path: str, body: bytes, ends_at_s: float, read: _Read[T]
    ) -> tuple[aiohttp.ClientResponse, T, Pass]:
        """Try once; the one who gets an answer settles the pass that comes with it."""
        given = self.breaker.enter()
        if given is Pass.REFUSED:
            raise failures.resting(self.model, self.breaker.wait_s)
        outcome: Outcome | None = Outcome.CANCELLED
        try:
            response, value = await self._send(path, body, ends_at_s, read)
            outcome = None
            return response, value, given
        except AttemptFailed as failure:
            outcome = failure.outcome
            raise
        finally:
            if outcome is not None:
                self._settle(given, outcome)

    def _settle(self, given: Pass, outcome: Outcome) -> None:
        """Say what became of an attempt."""
        if outcome in (Outcome.OK, Outcome.REJECTED):
            self.breaker.succeeded(given)
        elif outcome in (Outcome.OVERLOADED, Outcome.CANCELLED, Outcome.LATE):
            self.breaker.abandoned(given)
        else:
            self.breaker.failed(given)
        self.metrics.attempt(self.model, outcome, self.breaker.state)

    async def _send(self, path: str, body: bytes, ends_at_s: float, read: _Read[T]) -> tuple[aiohttp.ClientResponse, T]:
        response: aiohttp.ClientResponse | None = None
        is_good = False
        first_at_s = _now() + self.entry.first_byte_timeout_s
        try:
            async with asyncio.timeout_at(min(first_at_s, ends_at_s)):
                response = await self._transport.post(self._url(path), self._headers, body, self._timeout)
                if response.status != 200:
                    raise await self._refusal(response)
                value = await read(response)
                is_good = True
                return response, value
        except aiohttp.ConnectionTimeoutError as error:
            raise self._unreachable() from error
        except TimeoutError as error:
            raise self._too_slow(ends_at_s <= first_at_s) from error
        except aiohttp.ClientError as error:
            raise self._broken(error, has_head=response is not None) from error
        finally:
            if response is not None and not is_good:
                response.close()

    # ---------------------------------------------------------------- reading
    async def _all_of_it(self, response: aiohttp.ClientResponse) -> bytes:
        content = response.content
        raw = await content.readany()
        if content.at_eof():
            return raw
        blocks = [raw]
        size = len(raw)
        while block := await content.readany():
            size += len(block)
            if size > MAX_ANSWER_BYTES:
                raise AttemptFailed(failures.failed(self.model, "answered with too many bytes"), Outcome.GARBAGE)
            blocks.append(block)
        return b"".join(blocks)

    async def _first_block(self, response: aiohttp.ClientResponse) -> bytes:
        if response.content_type in _NO_STREAM:
            raise failures.garbage(self.model)
        block = await response.content.readany()
        if not block:
            raise AttemptFailed(failures.failed(self.model, "answered with an empty stream"), Outcome.GARBAGE)
        return block

    async def _next_block(self, response: aiohttp.ClientResponse, ends_at_s: float) -> bytes:
        idle_at_s = _now() + self.entry.idle_timeout_s
        try:
            async with asyncio.timeout_at(min(idle_at_s, ends_at_s)):
                return await response.content.readany()
        except TimeoutError as error:
            raise self._too_slow(ends_at_s <= idle_at_s, "stopped in the middle of its answer") from error
        except aiohttp.ClientError as error:
            raise self._broken(error, has_head=True) from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> AttemptFailed:
        raw = await response.content.read(MAX_ERROR_BYTES)
        said, code = _error_of(raw)
        if self._key:
            said = said.replace(self._key, "***")
        wait_s = retries.retry_after_s(response.headers.get("Retry-After"), self._clock)
        return failures.by_status(self.model, response.status, said, code, wait_s)

    # --------------------------------------------------------------- failures
    def _unreachable(self) -> AttemptFailed:
        error = failures.failed(self.model, "cannot be reached", code="upstream_unreachable")
        return AttemptFailed(error, Outcome.UNREACHABLE, may_repeat=True)

    def _too_slow(self, is_callers_time: bool, what: str = "did not answer in time") -> AttemptFailed:
        if is_callers_time:
            return AttemptFailed(failures.out_of_time(self.model), Outcome.LATE)
        return AttemptFailed(failures.failed(self.model, what, code="upstream_timeout"), Outcome.TIMEOUT)

    def _broken(self, error: aiohttp.ClientError, *, has_head: bool) -> AttemptFailed:
        if isinstance(error, aiohttp.ClientConnectorError):
            return self._unreachable()
        if has_head or isinstance(error, aiohttp.ClientPayloadError):
            what = "closed the connection in the middle of its answer"
            return AttemptFailed(failures.failed(self.model, what), Outcome.DROPPED)
        if isinstance(error, aiohttp.ClientConnectionError):
            silent = failures.failed(self.model, "closed the connection without an answer")
            return AttemptFailed(silent, Outcome.DROPPED, may_repeat=True)
        return AttemptFailed(failures.failed(self.model, "answered with something that is not HTTP"), Outcome.GARBAGE)

    # ----------------------------------------------------------------- places
    @asynccontextmanager
    async def _place(self, ends_at_s: float) -> AsyncIterator[None]:
        """Hold one of the `max_concurrency` places."""
        if self._places is None:
            yield
            return
        try:
            async with asyncio.timeout_at(min(ends_at_s, _now() + self.entry.first_byte_timeout_s)):
                await self._places.acquire()
        except TimeoutError as error:
            raise failures.overloaded(self.model, 1.0) from error
        try:
            yield
        finally:
            self._places.release()

    def _ends_at_s(self, timeout_s: float) -> float:
        return _now() + min(timeout_s, self.entry.timeout_s)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self.entry.url + path)
        return url


def _now() -> float:
    return asyncio.get_running_loop().time()


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Keep the connection of an answer that was read to its end, close any other."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read what follows the last event, which is the end of the body."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_DRAIN_S):
            while not response.content.at_eof():
                await response.content.readany()


def _error_of(raw: bytes) -> tuple[str, str]:
    """Read message and code of an error body; empty when it has none."""
    try:
        error = _read_error(raw).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    if isinstance(error, str):
        return error, ""
    return str(error.get("message") or ""), str(error.get("code") or "")
