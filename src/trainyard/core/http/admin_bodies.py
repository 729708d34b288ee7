"""What the routes of keys and tenants take and answer."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from trainyard.core.keys import UNLIMITED, KeyPatch, OwnLimits, OwnQuota
from trainyard.core.keys.bars import MAX_CONCURRENCY, MAX_REQUESTS, MAX_TIME, MAX_TOKENS
from trainyard.core.keys.format import NAME_PATTERN
from trainyard.core.keys.listing import UNLIMITED_WORD
from trainyard.core.keys.minting import MAX_DESCRIPTION

Scope = Literal["train", "generate", "execute", "graph", "loadtest", "admin"]
ScopeWord = Literal["train", "generate", "execute", "graph", "loadtest", "admin", "all"]
"""A scope as it is asked for; `all` stands for every one."""


class Request(pydantic.BaseModel):
    """What an administrator sends: exact JSON types, finite numbers, no unknown field."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def name_unknown_fields(cls, data: object) -> object:
        """Refuse a field that does not exist here with the nearest that does, and all of them."""
        for name in data if isinstance(data, Mapping) else ():
            if name not in cls.model_fields:
                near = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                facts = {"name": str(name)[:80], "hint": hint, "names": ", ".join(cls.model_fields)}
                raise PydanticCustomError(
                    "unknown_field", "There is no field '{name}'; {hint}the fields are: {names}", facts
                )
        return data

    def patch(self) -> dict[str, Any]:
        """Give the fields that were sent, null ones too, and no others."""
        return self.model_dump(exclude_unset=True)


class Result(pydantic.BaseModel):
    """What the server answers."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def _reader(top: int) -> PlainValidator:
    """Make the reader of a key's limit: a number, `unlimited` (in Python `UNLIMITED`) or null."""

    def read(value: object) -> int | None:
        if value == UNLIMITED_WORD:
            return UNLIMITED
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= top:
            return value
        facts = {"top": top, "word": UNLIMITED_WORD}
        raise PydanticCustomError("bar", "must be a whole number from 1 to {top}, '{word}' or null", facts)

    return PlainValidator(read)


def _schema(top: int) -> WithJsonSchema:
    number = {"type": "integer", "minimum": 1, "maximum": top}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "const": UNLIMITED_WORD}, {"type": "null"}]})


RequestsBar = Annotated[int | None, _reader(MAX_REQUESTS), _schema(MAX_REQUESTS)]
TokensBar = Annotated[int | None, _reader(MAX_TOKENS), _schema(MAX_TOKENS)]
ConcurrencyBar = Annotated[int | None, _reader(MAX_CONCURRENCY), _schema(MAX_CONCURRENCY)]

_OF_KEY = "; null = the server's default, `unlimited` = no bar."
_OF_TENANT = ", over all keys of the tenant; null = no bar."


class KeyLimits(Request):
    """Limits of one key."""

    requests: RequestsBar = Field(default=None, description=f"Requests per window{_OF_KEY}")
    tokens: TokensBar = Field(default=None, description=f"Tokens per window, prompts and answers{_OF_KEY}")
    concurrency: ConcurrencyBar = Field(default=None, description=f"Requests at the same moment{_OF_KEY}")


class TenantLimits(Request):
    """Limits of one tenant."""

    requests: int | None = Field(default=None, ge=1, le=MAX_REQUESTS, description=f"Requests per window{_OF_TENANT}")
    tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS, description=f"Tokens per window{_OF_TENANT}")
    concurrency: int | None = Field(
        default=None, ge=1, le=MAX_CONCURRENCY, description=f"Requests at the same moment{_OF_TENANT}"
    )


class QuotaBody(Request):
    """A monthly quota."""

    tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS, description="Tokens per period; null = no bar.")
    cost_micros: int | None = Field(
        default=None, ge=1, le=MAX_TOKENS, description="Millionths of the currency per period; null = no bar."
    )
    time_zone: str | None = Field(
        default=None, max_length=64, description="IANA name such as Europe/Berlin; null = the server's."
    )
    day: int | None = Field(
        default=None,
        ge=1,
        le=31,
        description="Day of the month on which a period begins at 00:00; a shorter month begins its period on its last "
        "day; null = the first.",
    )
    reset_at: float | None = Field(
        default=None,
        gt=0,
        lt=MAX_TIME,
        description="A moment at which a period begins, Unix seconds, in place of `day`; the next begin months later.",
    )


_EXPIRES = "When the key ends, Unix seconds, in the future; null = never."
_SCOPES = "What the key may do; at most what your own key may. `all` = every scope."


class KeyWish(Request):
    """Body of `POST /v1/admin/keys`."""

    user_id: str = Field(
        min_length=1,
        max_length=128,
        description="Owner of what the key makes, inside the tenant.",
        json_schema_extra={"pattern": NAME_PATTERN},  # the key store judges it, with a better message
    )
    scopes: list[ScopeWord] = Field(min_length=1, max_length=8, description=_SCOPES)
    tenant: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Organisation; null = your own, the only one unless you are an operator.",
        json_schema_extra={"pattern": NAME_PATTERN},
    )
    description: str = Field(default="", max_length=MAX_DESCRIPTION, description="For people; one line.")
    expires_at: float | None = Field(default=None, gt=0, lt=MAX_TIME, description=_EXPIRES)
    limits: KeyLimits = Field(default=KeyLimits(), description="Of its own.")
    quota: QuotaBody = Field(default=QuotaBody(), description="Of its own.")


def _without_default(schema: dict[str, Any]) -> None:
    """Left out is not the default here: what is left out stays."""
    schema.pop("default")


class KeyChange(Request):
    """Body of `PATCH /v1/admin/keys/{key_id}`: what is left out stays, what is null is taken back."""

    description: str = Field(
        default="", max_length=MAX_DESCRIPTION, description="For people; one line.", json_schema_extra=_without_default
    )
    scopes: list[ScopeWord] = Field(
        default=[], min_length=1, max_length=8, description=_SCOPES, json_schema_extra=_without_default
    )
    expires_at: float | None = Field(default=None, gt=0, lt=MAX_TIME, description=_EXPIRES)
    limits: KeyLimits | None = Field(
        default=None, description="Fields left out stay; null in place of the object takes all of them back."
    )
    quota: QuotaBody | None = Field(
        default=None, description="Fields left out stay; null in place of the object takes all of them back."
    )

    def wishes(self) -> KeyPatch:
        """Say the same as a patch of the key store."""
        return KeyPatch(**self.patch())


class Rotation(Request):
    """Body of `POST /v1/admin/keys/{key_id}/rotate`."""

    overlap_s: float = Field(
        default=0.0, ge=0, le=31_536_000, description="Seconds for which the old key still works; at most a year."
    )


class TenantBars(Request):
    """Body of `PUT /v1/admin/tenants/{name}`: what is left out is null."""

    limits: TenantLimits = Field(default=TenantLimits(), description="Over all keys of the tenant.")
    quota: QuotaBody = Field(default=QuotaBody(), description="Over all keys of the tenant.")

    def own(self) -> tuple[OwnLimits, OwnQuota]:
        """Say the same in the words of the key store."""
        return OwnLimits(**self.limits.model_dump()), OwnQuota(**self.quota.model_dump())


class TenantChange(Request):
    """Body of `PATCH /v1/admin/tenants/{name}`: what is left out stays, what is null is taken back."""

    limits: TenantLimits | None = Field(default=None, description="Fields left out stay; null = no bars at all.")
    quota: QuotaBody | None = Field(default=None, description="Fields left out stay; null = no quota at all.")


class ShownLimits(Result):
    """Limits as they are set."""

    requests: int | Literal["unlimited"] | None = Field(description="Requests per window; null = not set.")
    tokens: int | Literal["unlimited"] | None = Field(description="Tokens per window; null = not set.")
    concurrency: int | Literal["unlimited"] | None = Field(description="Requests at the same moment; null = not set.")


class ShownQuota(Result):
    """A quota as it is set."""

    tokens: int | None = Field(description="Tokens per period; null = no bar.")
    cost_micros: int | None = Field(description="Millionths of the currency per period; null = no bar.")
    time_zone: str | None = Field(description="IANA name; null = the server's.")
    day: int | None = Field(description="Day of the month on which a period begins; null = the first.")
    reset_at: float | None = Field(description="A moment at which a period begins, Unix seconds; null = by `day`.")


class EffectiveLimits(Result):
    """Limits that hold, the server's defaults filled in."""

    requests: int | None = Field(description="Requests per window; null = no bar.")
    tokens: int | None = Field(description="Tokens per window; null = no bar.")
    concurrency: int | None = Field(description="Requests at the same moment; null = no bar.")


class EffectiveQuota(Result):
    """The quota that holds, the server's defaults filled in."""

    tokens: int | None = Field(description="Tokens per period; null = no bar.")
    cost_micros: int | None = Field(description="Millionths of the currency per period; null = no bar.")
    time_zone: str = Field(description="IANA name of the zone in which a period begins.")
    day: int = Field(description="Day of the month on which a period begins.")
    reset_at: float | None = Field(description="A moment at which a period begins, in place of `day`; Unix seconds.")


class KeyInfo(Result):
    """A key, without anything that would help to guess it."""

    id: str = Field(description="`key_…`, for the routes of this key.")
    prefix: str = Field(description="First 11 characters of the key (static keys: three at most), to recognise it.")
    source: Literal["stored", "static"] = Field(
        description="`stored` in the database, or `static` in the server's settings, where alone it can be changed."
    )
    tenant: str = Field(description="Organisation.")
    user_id: str = Field(description="Owner inside the tenant.")
    description: str = Field(description="For people.")
    scopes: list[Scope] = Field(description="What the key may do, sorted.")
    status: Literal["active", "expired", "revoked"] = Field(description="Whether it works now.")
    created_at: float = Field(description="Unix seconds.")
    expires_at: float | None = Field(description="When it ends, Unix seconds; null = never.")
    revoked_at: float | None = Field(description="When it was revoked, Unix seconds; null = it was not.")
    last_used: float | None = Field(description="Unix seconds, 30 s behind at most; null = never.")
    replaced_by: str | None = Field(description="Id of the key that a rotation put in its place; null = none.")
    account: str = Field(description="Id of the first key of its chain of rotations; they are counted together.")
    limits: ShownLimits = Field(description="As set for this key.")
    quota: ShownQuota = Field(description="As set for this key.")
    effective_limits: EffectiveLimits = Field(description="As they hold.")
    effective_quota: EffectiveQuota = Field(description="As it holds.")


class NewKeyInfo(KeyInfo):
    """A key at the only moment at which it is shown."""

    key: str = Field(description="The key itself; it is not shown again.")


class KeyList(Result):
    """What `GET /v1/admin/keys` answers."""

    results: list[KeyInfo] = Field(description="Oldest first.")
    total: int = Field(description="How many there are in all.")
    limit: int = Field(description="As asked for.")
    offset: int = Field(description="As asked for.")


class TenantInfo(Result):
    """A tenant."""

    name: str = Field(description="As keys have it.")
    key_count: int = Field(description="Keys that are not revoked.")
    limits: EffectiveLimits = Field(description="Over all keys of the tenant.")
    quota: ShownQuota = Field(description="Over all keys of the tenant, as it is set.")
    effective_quota: EffectiveQuota = Field(description="As it holds.")
    updated_at: float | None = Field(description="When limits or quota were set, Unix seconds; null = never.")


class TenantList(Result):
    """What `GET /v1/admin/tenants` answers."""

    results: list[TenantInfo] = Field(description="By name; your own alone unless you are an operator.")
    total: int = Field(description="How many there are in all.")
    limit: int = Field(description="As asked for.")
    offset: int = Field(description="As asked for.")
