"""The one place where a client of Redis is made; works against Redis 7 and Valkey.

The library is imported when the first client is: a server without `redis.url` needs none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainyard.core import errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger(__name__)

TIMEOUT_S = 1.0
"""To connect, and to wait for one answer: a Redis that is slower than that counts as away."""


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """Make a client; nothing is opened before its first command, and it reconnects by itself.

    A command is never sent twice: whoever can stand a repetition asks again.

    Raises:
        errors.ConfigError: The URL is none of Redis, or the library is not installed.
    """
    try:
        from redis import asyncio as library
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            "redis.url is set, but its client is not installed; run: pip install 'trainyard[redis]'", param="redis.url"
        ) from error
    try:
        return library.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # the same bytes from every server and every version of the library
        )
    except ValueError as error:
        # The URL may hold a password, so it is not repeated.
        raise errors.ConfigError(
            "redis.url is not a URL of Redis; write redis://host:6379/0 (rediss:// with TLS, unix:// for a socket)",
            param="redis.url",
        ) from error


@contextmanager
def answering(code: str) -> Iterator[None]:
    """Turn what goes wrong between us and Redis into the error of the family.

    Args:
        code: Of the error: what is unavailable without it, such as `limiter_unavailable`.

    Raises:
        errors.Unavailable: Redis is away, too slow, full, or refuses; `retry_after_s` is 1.
    """
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        note(error)
        raise unavailable(code) from error


def note(cause: BaseException) -> None:
    """Write to the log what went wrong; strangers read the message of the error, so it is not in there."""
    _log.warning("Redis does not answer: %s", " ".join(str(cause).split()) or type(cause).__name__)


def unavailable(code: str) -> errors.Unavailable:
    """Make the error for a failure of Redis."""
    return errors.Unavailable("Redis does not answer; the log says why", code=code, retry_after_s=1)
