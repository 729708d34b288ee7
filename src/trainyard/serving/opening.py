"""Making the cache that the settings ask for."""

from trainyard.core import errors, redis
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.base import SharedCache
from trainyard.serving.cache.memory import MemoryCache
from trainyard.serving.cache.redis import RedisCache
from trainyard.serving.store import DatabaseCache


def answers(settings: Settings, database: Database, clock: Clock, metrics: Metrics) -> Answers | None:
    """Make the cache of one process; None when it is switched off.

    Raises:
        errors.ConfigError: It is to be shared in Redis, and `redis.url` is not set or cannot be used.
    """
    bounds = settings.cache
    if not bounds.enabled:
        return None
    memory = MemoryCache(bounds.memory_bytes, bounds.ttl_s, clock)
    return Answers(memory, shared(settings, database, clock), clock, metrics)


def shared(settings: Settings, database: Database, clock: Clock) -> SharedCache | None:
    """Make the part that all processes find; None where `cache.shared` is `off`.

    Raises:
        errors.ConfigError: As `answers`.
    """
    bounds = settings.cache
    if bounds.shared == "off" or bounds.shared_bytes == 0:
        return None
    if bounds.shared == "database":
        return DatabaseCache(database, clock, ttl_s=bounds.ttl_s, max_bytes=bounds.shared_bytes)
    if settings.redis.url is None:
        raise errors.ConfigError("cache.shared is redis, which needs redis.url", param="cache.shared")
    return RedisCache(redis.connect(settings.redis.url), clock, ttl_s=bounds.ttl_s, max_bytes=bounds.shared_bytes)
