"""The columns of limits and quotas, which keys and tenants both have."""

from typing import Any

from sqlalchemy import BigInteger, Column, Double, Integer, String


def bars() -> list[Column[Any]]:
    """Make the columns anew for one table; null = not set."""
    return [
        Column("requests", Integer),
        Column("tokens", BigInteger),
        Column("concurrency", Integer),
        Column("quota_tokens", BigInteger),
        Column("quota_micros", BigInteger),
        Column("quota_zone", String(64)),
        Column("quota_day", Integer),
        Column("quota_reset_at", Double),
    ]
