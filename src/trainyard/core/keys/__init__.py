"""API keys: minted once, stored as a keyed hash, checked in memory.

In: users, scopes, the pepper; limits and quotas of keys and tenants. Out: a `Principal` for a key and the `Subject`s
that its work is limited by, in microseconds. Not here: HTTP headers (`core/http/auth.py`), counting (`core/limits`).
"""

from trainyard.core.keys.authority import Authority
from trainyard.core.keys.bars import UNLIMITED, OwnLimits, OwnQuota
from trainyard.core.keys.format import derive_pepper
from trainyard.core.keys.service import APIKeyManager
from trainyard.core.keys.store.keys import Which
from trainyard.core.keys.types import ALL, OPERATORS, KeyPatch, KeyRecord, NewKey, TenantRecord

__all__ = [
    "ALL",
    "OPERATORS",
    "UNLIMITED",
    "APIKeyManager",
    "Authority",
    "KeyPatch",
    "KeyRecord",
    "NewKey",
    "OwnLimits",
    "OwnQuota",
    "TenantRecord",
    "Which",
    "derive_pepper",
]
