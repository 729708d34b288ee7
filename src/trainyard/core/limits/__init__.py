"""Rate limits and quotas: reserve before the work, settle or refund after it."""

from trainyard.core.limits.base import Limiter, Spent
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.opening import open_limiter
from trainyard.core.limits.redis import RedisLimiter
from trainyard.core.limits.types import Amount, Limits, Passed, Quota, Reservation, Standing, Subject

__all__ = [
    "Amount",
    "Limiter",
    "Limits",
    "MemoryLimiter",
    "Passed",
    "Quota",
    "RedisLimiter",
    "Reservation",
    "Spent",
    "Standing",
    "Subject",
    "open_limiter",
]
