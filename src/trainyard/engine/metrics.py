"""What engines count, as Prometheus metrics of the HTTP process.

`refresh` asks the engines when `/metrics` is read, at most once a second; `collect` shows what they last said. An
engine that does not answer in time is shown as down, and its last counts stay.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trainyard.core import errors
from trainyard.engine import base, types

FRESH_S: Final = 1.0
"""Reading more often shows the same numbers again."""
ANSWER_S: Final = 0.5
"""Time to answer; an engine does so between two steps of at most about 50 ms."""

_GAUGES: Final = {
    "open_runs": ("runs", "Runs that are open"),
    "active_streams": ("streams_active", "Streams that are read or decode"),
    "queued_streams": ("streams_queued", "Streams that wait for a place or for memory"),
    "rss_bytes": ("resident_bytes", "Memory of the process"),
    "kv_bytes": ("kv_bytes", "Memory of keys and values in use by streams and kept beginnings"),
    "kv_max_bytes": ("kv_limit_bytes", "Memory for keys and values"),
}
_COUNTERS: Final = {
    "trained_tokens": ("trained_tokens", "Tokens of training batches"),
    "sampled_tokens": ("sampled_tokens", "Tokens drawn"),
    "prompt_tokens": ("prompt_tokens", "Tokens of prompts"),
    "prefix_hit_tokens": ("prefix_hit_tokens", "Tokens of prompts that were found computed"),
}


class EngineMetrics(Collector):
    """Numbers of all engines by model.

    Args:
        engines: Gives the engines that are connected; a lazy one that was not asked for yet is not started for this.
        monotonic: Seconds of a clock that only goes forward.
    """

    def __init__(
        self, engines: Callable[[], Mapping[str, base.Engine]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engines = engines
        self._monotonic = monotonic
        self._stats: dict[str, types.EngineStats] = {}
        self._is_up: dict[str, bool] = {}
        self._asked_at: float | None = None

    async def refresh(self) -> None:
        """Ask all engines at once, unless they were asked a moment ago."""
        now = self._monotonic()
        if self._asked_at is not None and now - self._asked_at < FRESH_S:
            return
        self._asked_at = now
        engines = self._engines()
        answers = await asyncio.gather(*(_ask(engine) for engine in engines.values()))
        found = dict(zip(engines, answers, strict=True))
        self._is_up = {model: stats is not None for model, stats in found.items()}
        known = self._stats | {model: stats for model, stats in found.items() if stats is not None}
        self._stats = {model: stats for model, stats in known.items() if model in found}

    def collect(self) -> Iterator[Metric]:
        """Give one family per number, labelled by model."""
        up = GaugeMetricFamily("trainyard_engine_up", "Whether the engine answers", labels=("model",))
        for model, is_up in self._is_up.items():
            up.add_metric((model,), float(is_up))
        yield up
        for name, (shown, text) in _GAUGES.items():
            yield self._filled(GaugeMetricFamily(f"trainyard_engine_{shown}", text, labels=("model",)), name)
        for name, (shown, text) in _COUNTERS.items():
            yield self._filled(CounterMetricFamily(f"trainyard_engine_{shown}", text, labels=("model",)), name)

    def _filled(self, family: GaugeMetricFamily | CounterMetricFamily, name: str) -> Metric:
        for model, stats in self._stats.items():
            family.add_metric((model,), getattr(stats, name))
        return family


async def _ask(engine: base.Engine) -> types.EngineStats | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await engine.stats()
    except (TimeoutError, errors.Unavailable):
        return None
