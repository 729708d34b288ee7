"""The verbs of administration as calls; they need a key with the scope `admin`."""

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlencode

from trainyard.sdk.admin_results import KeyInfo, KeyPage, NewKey, TenantInfo, TenantPage
from trainyard.sdk.call import Call, given

KEYS = "/v1/admin/keys"
TENANTS = "/v1/admin/tenants"


class Leave(enum.Enum):
    """Stands for a field that an update leaves as it is, where None takes its value back."""

    LEAVE = "leave"


LEAVE = Leave.LEAVE

Limits = Mapping[str, int | Literal["unlimited"] | None]
"""`requests`, `tokens`, `concurrency`."""

Quota = Mapping[str, int | float | str | None]
"""`tokens`, `cost_micros`, `time_zone`, `day`, `reset_at`."""


def create_key(
    user_id: str,
    scopes: Sequence[str],
    *,
    tenant: str | None = None,
    description: str | None = None,
    expires_at: float | None = None,
    limits: Limits | None = None,
    quota: Quota | None = None,
) -> Call[NewKey]:
    """Make a key; `key` of the answer is the key itself, shown this once.

    Args:
        user_id: Owner inside the tenant.
        scopes: At most those of your own key.
        tenant: Your own when left out; only operators name another.
        description: For people.
        expires_at: Unix seconds; never when left out.
        limits: See `Limits`; a value of None means the server's default.
        quota: See `Quota`.
    """
    body = given(
        user_id=user_id,
        scopes=list(scopes),
        tenant=tenant,
        description=description,
        expires_at=expires_at,
        limits=None if limits is None else dict(limits),
        quota=None if quota is None else dict(quota),
    )
    return Call("POST", KEYS, NewKey, body)


def list_keys(
    *,
    tenant: str | None = None,
    user_id: str | None = None,
    scope: str | None = None,
    status: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Call[KeyPage]:
    """List keys, oldest first, one page at a time; `status` is live, active, expired, revoked or all."""
    query = given(tenant=tenant, user_id=user_id, scope=scope, status=status, limit=limit, offset=offset)
    return Call("GET", with_query(KEYS, query), _key_page, is_idempotent=True)


def show_key(key_id: str) -> Call[KeyInfo]:
    """Show one key, a revoked one too."""
    return Call("GET", _path(KEYS, key_id), KeyInfo, is_idempotent=True)


def update_key(
    key_id: str,
    *,
    description: str | Leave = LEAVE,
    scopes: Sequence[str] | Leave = LEAVE,
    expires_at: float | Leave | None = LEAVE,
    limits: Limits | Leave | None = LEAVE,
    quota: Quota | Leave | None = LEAVE,
) -> Call[KeyInfo]:
    """Change what is given; None takes a value back, what is left out stays, inside of `limits` and `quota` too."""
    body = _changes(
        description=description,
        scopes=scopes if isinstance(scopes, Leave) else list(scopes),
        expires_at=expires_at,
        limits=limits,
        quota=quota,
    )
    return Call("PATCH", _path(KEYS, key_id), KeyInfo, body, is_idempotent=True)


def rotate_key(key_id: str, overlap_s: float = 0.0) -> Call[NewKey]:
    """Put a new key in the place of one; the old one works for `overlap_s` more seconds."""
    return Call("POST", f"{_path(KEYS, key_id)}/rotate", NewKey, {"overlap_s": overlap_s})


def revoke_key(key_id: str) -> Call[KeyInfo]:
    """End a key for good; a second time changes nothing."""
    return Call("DELETE", _path(KEYS, key_id), KeyInfo, is_idempotent=True)


def list_tenants(*, limit: int | None = None, offset: int | None = None) -> Call[TenantPage]:
    """List tenants by name, one page at a time; your own alone unless you are an operator."""
    return Call("GET", with_query(TENANTS, given(limit=limit, offset=offset)), _tenant_page, is_idempotent=True)


def show_tenant(name: str) -> Call[TenantInfo]:
    """Show limits and quota of a tenant."""
    return Call("GET", _path(TENANTS, name), TenantInfo, is_idempotent=True)


def set_tenant(name: str, *, limits: Limits | None = None, quota: Quota | None = None) -> Call[TenantInfo]:
    """Set limits and quota of a tenant anew; what is left out is no bar. For operators."""
    body = {"limits": dict(limits or {}), "quota": dict(quota or {})}
    return Call("PUT", _path(TENANTS, name), TenantInfo, body, is_idempotent=True)


def update_tenant(
    name: str, *, limits: Limits | Leave | None = LEAVE, quota: Quota | Leave | None = LEAVE
) -> Call[TenantInfo]:
    """Change what is given of a tenant; None takes a value back, what is left out stays. For operators."""
    return Call("PATCH", _path(TENANTS, name), TenantInfo, _changes(limits=limits, quota=quota), is_idempotent=True)


def clear_tenant(name: str) -> Call[TenantInfo]:
    """Take every bar of a tenant away; its keys stay. For operators."""
    return Call("DELETE", _path(TENANTS, name), TenantInfo, is_idempotent=True)


def with_query(path: str, query: Mapping[str, object]) -> str:
    """Append a query when there is something to ask for."""
    return f"{path}?{urlencode(query)}" if query else path


def _path(collection: str, name: str) -> str:
    return f"{collection}/{quote(name, safe='')}"


def _changes(**fields: object) -> dict[str, object]:
    kept = {name: value for name, value in fields.items() if not isinstance(value, Leave)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _key_page(body: Any) -> KeyPage:
    return KeyPage({**body, "results": [KeyInfo(key) for key in body["results"]]})


def _tenant_page(body: Any) -> TenantPage:
    return TenantPage({**body, "results": [TenantInfo(tenant) for tenant in body["results"]]})
