"""Identifiers: a prefix that tells the kind, then a part that sorts by time of making."""

import os
import secrets
from collections import deque

from trainyard.core.clock import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: sorts as its digits do, without letters that look alike."""

_TIME_CHARACTERS = 10
_RANDOM_CHARACTERS = 16


def new_id(prefix: str, clock: Clock) -> str:
    """Make an id such as `ses_01jd…`: 50 bits of milliseconds, then 80 random bits.

    Args:
        prefix: Kind of the thing, without the underscore.
        clock: Its `now` gives the sortable part; ids of one millisecond are in no order.
    """
    sortable = _base32(int(clock.now() * 1000), _TIME_CHARACTERS)
    return f"{prefix}_{sortable}{_base32(secrets.randbits(80), _RANDOM_CHARACTERS)}"


def new_run_id() -> str:
    """Make the id of a training run in the form that the Signal guide fixes: `run_` and 16 hex digits."""
    return f"run_{secrets.token_hex(8)}"


_HEX_BYTES = 12
_POOL_IDS = 256
_pool: deque[str] = deque()
os.register_at_fork(after_in_child=_pool.clear)


def hex_id(prefix: str) -> str:
    """Make an id such as `req_3f…`: the prefix as it stands and 24 hex digits, 96 random bits.

    For what every request has several of: random bytes are fetched for many at once, so that one costs no system call.
    """
    return prefix + hex_digits()


def hex_digits() -> str:
    """Draw the 24 digits of a `hex_id`."""
    while True:
        try:
            return _pool.popleft()  # atomic, so that no two threads get the same
        except IndexError:
            digits, width = os.urandom(_HEX_BYTES * _POOL_IDS).hex(), 2 * _HEX_BYTES
            _pool.extend(digits[start : start + width] for start in range(0, len(digits), width))


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
