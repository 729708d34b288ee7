"""Which limiter a server has."""

from trainyard.core import redis
from trainyard.core.clock import Clock
from trainyard.core.limits.base import Limiter, Spent
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.redis import RedisLimiter
from trainyard.core.settings import Settings


def open_limiter(settings: Settings, spent: Spent, clock: Clock) -> Limiter:
    """Count in Redis when `redis.url` is set, in this process otherwise; nothing is opened before the first request.

    Raises:
        errors.ConfigError: `redis.url` is no URL of Redis, or its client is not installed.
    """
    window_s = settings.limits.window_s
    if settings.redis.url is None:
        return MemoryLimiter(spent, clock, window_s=window_s)
    return RedisLimiter(redis.connect(settings.redis.url), spent, clock, window_s=window_s)
