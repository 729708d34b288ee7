"""Making the cache that the settings ask for."""

from trainyard.core.clock import Clock
from trainyard.core.settings import CacheSettings
from trainyard.core.telemetry import Metrics
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.base import SharedCache
from trainyard.serving.cache.memory import MemoryCache


def answers(settings: CacheSettings, shared: SharedCache | None, clock: Clock, metrics: Metrics) -> Answers | None:
    """Make the cache; None when it is switched off.

    Args:
        settings: Its bounds.
        shared: What `settings.shared` names; None where it is `off`.
        clock: For the age of answers.
        metrics: Where hits and failures are counted.
    """
    if not settings.enabled:
        return None
    return Answers(MemoryCache(settings.memory_bytes, settings.ttl_s, clock), shared, clock, metrics)
