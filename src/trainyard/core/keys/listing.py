"""How keys and tenants are shown: plain values, nothing that would help to guess a key."""

from dataclasses import asdict

from trainyard.core.keys.bars import UNLIMITED, OwnLimits
from trainyard.core.keys.types import KeyRecord, TenantRecord
from trainyard.core.settings import LimitSettings

UNLIMITED_WORD = "unlimited"
"""How `UNLIMITED` is written where people read and write limits."""


def key(record: KeyRecord, defaults: LimitSettings, now: float) -> dict[str, object]:
    """Show a key."""
    return {
        "id": record.id,
        "prefix": record.prefix,
        "source": record.source,
        "tenant": record.tenant,
        "user_id": record.user,
        "description": record.description,
        "scopes": sorted(record.scopes),
        "status": record.status(now),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "last_used": record.last_used_at,
        "replaced_by": record.replaced_by,
        "account": record.account_id,
        "limits": limits(record.limits),
        "quota": asdict(record.quota),
        "effective_limits": asdict(record.limits.effective(defaults)),
        "effective_quota": asdict(record.quota.effective(defaults)),
    }


def tenant(record: TenantRecord, defaults: LimitSettings) -> dict[str, object]:
    """Show a tenant."""
    return {
        "name": record.name,
        "key_count": record.key_count,
        "limits": limits(record.limits),
        "quota": asdict(record.quota),
        "effective_quota": asdict(record.quota.effective(defaults)),
        "updated_at": record.updated_at,
    }


def limits(own: OwnLimits) -> dict[str, int | str | None]:
    """Show limits as they are set; `unlimited` where null would mean the server's default."""
    return {name: UNLIMITED_WORD if value == UNLIMITED else value for name, value in asdict(own).items()}
