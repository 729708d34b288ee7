"""Callers without an API key of this server: users for whom a host signs tokens, and a trusted network."""

import hashlib
from typing import Final, Literal

from trainyard.core.principal import Principal

Way = Literal["jwt", "net"]

_PREFIXES: Final = ("jwt_", "net_")


def principal(way: Way, tenant: str, user: str, scopes: frozenset[str]) -> Principal:
    """Make the principal of a guest; the id under which limits and ledger know one depends on tenant and user alone."""
    digest = hashlib.sha256(f"{tenant}\0{user}".encode()).hexdigest()
    return Principal(tenant, user, f"{way}_{digest[:32]}", scopes)


def is_guest(key_id: str) -> bool:
    """Whether the id of a principal is that of a guest; those of keys begin with `key_`."""
    return key_id.startswith(_PREFIXES)


def is_of_network(key_id: str) -> bool:
    """Whether a guest has shown no credential at all."""
    return key_id.startswith("net_")
