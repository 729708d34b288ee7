"""The cache as the service sees it: memory first, then what is shared, and never an error."""

import asyncio
from collections import deque
from typing import Final

import structlog

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.telemetry import Metrics
from trainyard.serving.cache import entry as entries
from trainyard.serving.cache.base import Kept, SharedCache
from trainyard.serving.cache.entry import Entry
from trainyard.serving.cache.memory import MemoryCache

MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 16 << 20
"""Answers on their way into the shared cache; beyond that they are kept in memory alone."""

TEND_S: Final = 1.0
PAUSE_S: Final = 1.0
"""How long the shared cache is left alone after it failed."""

_BATCH: Final = 200

_log = structlog.get_logger("serving.cache")


class CacheMetrics:
    """What the cache counts."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter(
            "trainyard_cache_requests", "Generation requests: hit, joined (another's work), miss, bypass", ("outcome",)
        )
        self.hits = self.requests.of("hit")
        self.failures = metrics.counter(
            "trainyard_cache_shared_failures", "Calls of the shared cache that failed, counted as misses", ("call",)
        )
        self.dropped = metrics.counter(
            "trainyard_cache_dropped", "Answers that did not get into the shared cache since too many waited"
        )
        self.bytes_held = metrics.gauge("trainyard_cache_memory_bytes", "Answers in this process's memory")


class Answers:
    """Finds and keeps answers.

    Args:
        memory: Of this process.
        shared: Of all processes; None = there is none.
    """

    def __init__(self, memory: MemoryCache, shared: SharedCache | None, clock: Clock, metrics: Metrics) -> None:
        self.metrics = CacheMetrics(metrics)
        self._memory = memory
        self._shared = shared
        self._clock = clock
        self._waiting: deque[Kept] = deque()
        self._waiting_bytes = 0
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._resumes_at_s = 0.0

    async def start(self) -> None:
        """Begin the work in the background: writing to the shared cache, and tending it."""
        if self._shared is not None and not self._tasks:
            self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._tend())]

    async def aclose(self) -> None:
        """Write what waits, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._shared is not None:
            await self.flush()
            await self._shared.aclose()

    def recent(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """Find an answer in memory; costs one lookup."""
        raw = self._memory.get(key, max_age_s)
        return None if raw is None else entries.decode(raw)

    def peek(self, key: bytes) -> bytes | None:
        """Give the bytes that are in memory under a key."""
        return self._memory.get(key)

    async def find(self, key: bytes, max_age_s: float | None = None) -> Entry | None:
        """Find an answer in the shared cache, and keep it in memory."""
        shared = self._shared
        if shared is None or self._is_pausing or not shared.may_hold(key):
            return None
        try:
            raw = await shared.get(key)
        except errors.Unavailable as error:
            self._failed("get", error)
            return None
        found = None if raw is None else entries.decode(raw)
        if raw is None or found is None or (max_age_s is not None and self._clock.now() - found.at > max_age_s):
            return None
        self._remember(key, raw, found.at)
        return found

    def keep(self, key: bytes, tenant: str, made: Entry) -> None:
        """Keep an answer: in memory now, in the shared cache soon."""
        raw = entries.encode(made)
        self._remember(key, raw, made.at)
        if self._shared is None:
            return
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(raw) > MAX_WAITING_BYTES:
            self.metrics.dropped.of().inc()
            return
        self._waiting.append(Kept(key, tenant, raw, made.at))
        self._waiting_bytes += len(raw)
        self._more.set()

    async def flush(self) -> None:
        """Write what waits for the shared cache now."""
        shared = self._shared
        while shared is not None and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._waiting_bytes -= sum([len(one.answer) for one in batch])
            try:
                await shared.put(batch)
            except errors.Unavailable as error:
                self._failed("put", error)

    @property
    def _is_pausing(self) -> bool:
        return self._clock.monotonic() < self._resumes_at_s

    def _remember(self, key: bytes, raw: bytes, at: float) -> None:
        self._memory.put(key, raw, at)
        self.metrics.bytes_held.of().set(self._memory.bytes_held)

    def _failed(self, call: str, error: errors.Unavailable) -> None:
        if not self._is_pausing:
            _log.warning("cache_unavailable", call=call, reason=error.message)
        self.metrics.failures.of(call).inc()
        self._resumes_at_s = self._clock.monotonic() + PAUSE_S

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self.flush()

    async def _tend(self) -> None:
        assert self._shared is not None, "there is something to tend"
        while True:
            try:
                await self._shared.tend()
            except errors.Unavailable as error:
                self._failed("tend", error)
            await asyncio.sleep(TEND_S)
