"""What the calls of administration answer."""

from trainyard.sdk.results import Result


class KeyInfo(Result):
    """A key, without anything that would help to guess it; times are Unix seconds."""

    id: str
    prefix: str
    source: str
    tenant: str
    user_id: str
    description: str
    scopes: list[str]
    status: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used: float | None
    replaced_by: str | None
    account: str
    limits: Result
    quota: Result
    effective_limits: Result
    effective_quota: Result


class NewKey(KeyInfo):
    """Answer of `create_key` and `rotate_key`: `key` is shown this once."""

    key: str

    def __repr__(self) -> str:
        return f"NewKey({self.prefix}…, {self.id})"


class KeyPage(Result):
    """Answer of `list_keys`: one page, and `total` of all pages."""

    results: list[KeyInfo]
    total: int
    limit: int
    offset: int


class TenantInfo(Result):
    """What all keys of a tenant may do together."""

    name: str
    key_count: int
    limits: Result
    quota: Result
    effective_quota: Result
    updated_at: float | None


class TenantPage(Result):
    """Answer of `list_tenants`: one page, and `total` of all pages."""

    results: list[TenantInfo]
    total: int
    limit: int
    offset: int
