"""Rate limits and quotas: reserve before the work, settle or refund after it."""

from trainyard.core.limits.base import Limiter, Spent
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.opening import open_limiter
from trainyard.core.limits.redis import RedisLimiter
from trainyard.core.limits.types import Amount, Limits, Quota, Reservation, Standing, Subject

__all__ = [
    "Amount",
    "Limiter",
    "Limits",
    "MemoryLimiter",
    "Quota",
    "RedisLimiter",
    "Reservation",
    "Spent",
    "Standing",
    "Subject",
    "open_limiter",
]
