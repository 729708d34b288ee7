"""Making the record of a key, and the checks of what people write into it."""

import math
from dataclasses import replace
from typing import Any

from msgspec import UNSET

from trainyard.core import errors, ids
from trainyard.core.clock import Clock
from trainyard.core.keys import bars, format
from trainyard.core.keys.types import KeyPatch, KeyRecord, NewKey

MAX_DESCRIPTION = 500


def mint(clock: Clock, pepper: bytes, *, expires_at: float | None, description: str, **facts: Any) -> NewKey:
    """Make a key and its record, which is not stored yet.

    Args:
        clock: For the id and the time of making.
        pepper: Under which the key is hashed.
        expires_at: Unix time in the future; None = never.
        description: One line.
        facts: The further fields of `KeyRecord`.

    Raises:
        errors.InvalidRequest: One of these is unusable; `param` names it.
    """
    key = format.mint()
    record = KeyRecord(
        id=ids.new_id("key", clock),
        prefix=key[: format.PREFIX_CHARACTERS],
        digest=format.digest(key, pepper),
        created_at=clock.now(),
        expires_at=read_expiry(expires_at, clock.now()),
        description=read_description(description),
        **facts,
    )
    return NewKey(key, record)


def patch(record: KeyRecord, wishes: KeyPatch, now: float) -> KeyRecord:
    """Change what a patch names.

    Raises:
        errors.InvalidRequest: A value is unusable; `param` names it.
    """
    changed: dict[str, Any] = {}
    if wishes.description is not UNSET:
        changed["description"] = read_description(wishes.description)
    if wishes.scopes is not UNSET:
        changed["scopes"] = format.read_scopes(wishes.scopes)
    if wishes.expires_at is not UNSET:
        changed["expires_at"] = read_expiry(wishes.expires_at, now)
    if wishes.limits is not UNSET:
        changed["limits"] = bars.patched(record.limits, wishes.limits, "limits")
    if wishes.quota is not UNSET:
        changed["quota"] = bars.patched(record.quota, wishes.quota, "quota")
    return replace(record, **changed)


def read_description(text: str) -> str:
    """Check what people say about a key.

    Raises:
        errors.InvalidRequest: It is not one short line.
    """
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        raise errors.InvalidRequest(
            f"description is one line of at most {MAX_DESCRIPTION} characters", param="description"
        )
    return text


def read_expiry(expires_at: float | None, now: float) -> float | None:
    """Check a moment at which a key is to end; None = never.

    Raises:
        errors.InvalidRequest: It is not in the future.
    """
    if expires_at is not None and not now < expires_at < bars.MAX_TIME:
        raise errors.InvalidRequest("expires_at must be a Unix time in the future, or null", param="expires_at")
    return expires_at


def read_overlap(overlap_s: float) -> float:
    """Check for how long a replaced key still works.

    Raises:
        errors.InvalidRequest: It is no number of seconds.
    """
    if not 0 <= overlap_s < math.inf:
        raise errors.InvalidRequest("overlap_s must be a number of seconds, 0 or more", param="overlap_s")
    return overlap_s
