"""The shared cache in Redis: an answer per key, and beside them how old and how large they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from trainyard.core import redis as redis_factory
from trainyard.core.clock import Clock
from trainyard.serving.cache.base import Kept

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX: Final = "trainyard:{cache}:"
"""The braces keep all keys in one slot of a cluster, since one script touches several."""

ABSENT_S: Final = 0.25
"""How long a key that was not there is not asked for again."""

_ABSENT_KEYS: Final = 4096
_CODE: Final = "cache_unavailable"
_STEP: Final = 200

_PUT: Final = """
-- KEYS: prefix. ARGV: bytes at most, now, lifetime in ms, then key, moment and answer of each.
-- order: keys by moment; sizes: bytes by key; total: their sum. At most so many of the oldest go in one call.
local order, sizes, total = KEYS[1] .. 'order', KEYS[1] .. 'sizes', KEYS[1] .. 'total'
local most, now, life_ms, steps = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local function forget(key)
  local size = tonumber(redis.call('HGET', sizes, key) or '0')
  redis.call('HDEL', sizes, key)
  redis.call('ZREM', order, key)
  redis.call('DEL', KEYS[1] .. key)
  return redis.call('DECRBY', total, size)
end
for at = 5, #ARGV, 3 do
  local key, made, answer = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local left_ms = math.floor(life_ms - (now - made) * 1000)
  forget(key)
  if left_ms > 0 and #answer <= most then
    redis.call('SET', KEYS[1] .. key, answer, 'PX', left_ms)
    redis.call('HSET', sizes, key, #answer)
    redis.call('ZADD', order, made, key)
    redis.call('INCRBY', total, #answer)
  end
end
local sum = tonumber(redis.call('GET', total) or '0')
for _ = 1, steps do
  local oldest = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')
  if not oldest[1] or (sum <= most and tonumber(oldest[2]) + life_ms / 1000 > now) then break end
  sum = forget(oldest[1])
end
return sum
"""


class RedisCache:
    """Implements `SharedCache`; keys that were just looked for in vain are not asked for again for a moment."""

    def __init__(self, client: Redis, clock: Clock, *, ttl_s: float, max_bytes: int, prefix: str = PREFIX) -> None:
        self._client = client
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._prefix = prefix
        self._put = client.register_script(_PUT)
        self._absent: OrderedDict[bytes, float] = OrderedDict()

    def may_hold(self, key: bytes) -> bool:
        """Whether it was not looked for in vain a moment ago."""
        since_s = self._absent.get(key)
        return since_s is None or self._clock.monotonic() - since_s >= ABSENT_S

    async def get(self, key: bytes) -> bytes | None:
        """Ask for one key."""
        with redis_factory.answering(_CODE):
            found = await self._client.get(self._prefix + key.hex())
        if found is None:
            self._absent[key] = self._clock.monotonic()
            if len(self._absent) > _ABSENT_KEYS:
                self._absent.popitem(last=False)
            return None
        assert isinstance(found, bytes), "the factory asks for bytes"
        return found

    async def put(self, answers: Sequence[Kept]) -> None:
        """Keep answers and let the oldest go that are too much, in one script."""
        await self._run(answers)
        for one in answers:
            self._absent.pop(one.key, None)

    async def tend(self) -> None:
        """Forget sizes of answers that have expired, and let go what is too much."""
        await self._run(())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _run(self, answers: Sequence[Kept]) -> None:
        arguments: list[str | bytes | int | float] = [
            self._max_bytes,
            repr(self._clock.now()),
            int(self._ttl_s * 1000),
            _STEP,
        ]
        for one in answers:
            arguments += [one.key.hex(), repr(one.at), one.answer]
        with redis_factory.answering(_CODE):
            await self._put(keys=[self._prefix], args=arguments)
