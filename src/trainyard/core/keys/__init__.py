"""API keys: minted once, stored as a keyed hash, checked in memory.

In: users, scopes, the pepper. Out: a `Principal` for a key, in microseconds. Not here: HTTP headers
(`core/http/auth.py`) and limits.
"""

from trainyard.core.keys.format import derive_pepper
from trainyard.core.keys.service import APIKeyManager
from trainyard.core.keys.types import ALL, KeyRecord, NewKey

__all__ = ["ALL", "APIKeyManager", "KeyRecord", "NewKey", "derive_pepper"]
