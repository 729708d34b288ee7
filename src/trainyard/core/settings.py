"""The settings: one frozen object, read once at start and handed to whoever needs a part of it."""

import ipaddress
import re
import zoneinfo
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from trainyard.core import errors, hub_cache
from trainyard.core.settings_sandbox import SandboxJwt as SandboxJwt
from trainyard.core.settings_sandbox import SandboxKubernetes as SandboxKubernetes
from trainyard.core.settings_sandbox import SandboxLimits as SandboxLimits
from trainyard.core.settings_sandbox import SandboxSettings as SandboxSettings
from trainyard.core.settings_sandbox import check as _check_sandbox
from trainyard.core.settings_section import Section
from trainyard.core.settings_sources import Origin, collect, merged

_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w!.*'()-]+)*/?", re.ASCII)
"""Bucket names after AWS's rules, and prefixes of characters that no client has to escape."""

_HTTP_URL = re.compile(r"https?://[^\s/]+")


class ServerSettings(Section):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_body_bytes: int = Field(
        default=20 * 1024 * 1024, ge=1024, description="Largest request body; more is answered 413."
    )
    request_timeout_s: float = Field(
        default=600.0, gt=0, le=86_400, description="Longest time for one generation, to its last token."
    )
    drain_s: float = Field(default=30.0, ge=0, le=3600, description="Seconds that running requests get at shutdown.")
    tls_cert: Path | None = Field(
        default=None, description="PEM file with the certificate and its chain; then HTTPS is spoken, and only that."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the key of `tls_cert`, not encrypted.")
    tls_self_signed: bool = Field(
        default=False, description="Speak HTTPS with a certificate that is made and kept in the data directory."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="HTTP processes; more than one needs `redis.url`, where they count limits.",
    )

    @property
    def speaks_tls(self) -> bool:
        """Whether it is HTTPS that clients speak."""
        return self.tls_self_signed or self.tls_cert is not None


class DatabaseSettings(Section):
    """Where rows live."""

    url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="`postgresql://…` or `sqlite:///…`; null keeps `trainyard.db` in the data directory.",
    )
    sync: Literal["normal", "full"] = Field(
        default="normal", description="SQLite: `normal` survives the death of processes, `full` also the loss of power."
    )


class EngineSettings(Section):
    """The engine processes."""

    threads: int | None = Field(
        default=None, ge=1, le=1024, description="Threads of one engine; null leaves it to torch."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where the weights live.")
    kv_max_bytes: int | None = Field(
        default=None,
        ge=1 << 20,
        description="Memory for keys and values of one engine's streams and shared prefixes; null takes 2 GiB on a CPU "
        "and half of what the weights leave on an accelerator.",
    )
    max_queue: int = Field(
        default=256, ge=1, le=100_000, description="Streams that may wait for a place; one more is answered 503."
    )
    share_prefixes: Literal["tenant", "all"] = Field(
        default="tenant",
        description="Whose prompts a prompt can share computed beginnings with: those of its tenant, or everybody's.",
    )


class RedisSettings(Section):
    """Where several processes count limits and share cached answers."""

    url: str | None = Field(
        default=None,
        repr=False,
        description="`redis://host:6379/0`; null counts in the one HTTP process.",
    )


class BlobSettings(Section):
    """Where checkpoints, files and other contents lie."""

    url: str | None = Field(
        default=None,
        description="`s3://bucket` or `s3://bucket/prefix`; null keeps them in the data directory.",
    )
    endpoint: str | None = Field(
        default=None, description="Address of an S3 server that is not AWS, such as `https://minio.example:9000`."
    )
    region: str | None = Field(default=None, description="Region; null takes that of the AWS environment.")
    access_key_id: str | None = Field(
        default=None,
        description="Key id; null finds keys as every AWS client does: environment, profile, role of the instance.",
    )
    secret_access_key: SecretStr | None = Field(default=None, repr=False, description="Secret of that key.")
    path_style: bool | None = Field(
        default=None,
        description="Whether the bucket stands in the path and not in the host name; null: in the path if there is an "
        "`endpoint`.",
    )
    timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Longest wait for one answer, or for the next bytes of one."
    )


class LimitSettings(Section):
    """Bars of every key that has none of its own; null = no bar."""

    window_s: float = Field(default=60.0, gt=0, le=3600, description="Length of the sliding window.")
    requests: int | None = Field(default=None, ge=1, description="Requests per window.")
    tokens: int | None = Field(default=None, ge=1, description="Tokens per window, prompts and answers together.")
    concurrency: int | None = Field(default=None, ge=1, description="Requests at the same moment.")
    time_zone: str = Field(default="UTC", description="IANA name of the zone in which quotas begin their month.")


class CacheSettings(Section):
    """Answers that are kept, so that the same question is not computed twice."""

    enabled: bool = Field(default=True, description="Whether answers are kept at all.")
    ttl_s: float = Field(default=3600.0, gt=0, le=31_536_000, description="Age at which an answer is forgotten.")
    memory_bytes: int = Field(default=64 << 20, ge=0, description="Answers kept in the memory of one process.")
    shared: Literal["database", "redis", "off"] = Field(
        default="database", description="Where all processes find them; `redis` needs `redis.url`."
    )
    shared_bytes: int = Field(default=1 << 30, ge=0, description="Answers kept there, oldest out first.")
    idempotency_ttl_s: float = Field(
        default=86_400.0, gt=0, le=31_536_000, description="How long an `Idempotency-Key` is remembered."
    )


class TrainingSettings(Section):
    """Limits of training."""

    max_live_runs_per_user: int = Field(
        default=5, ge=1, le=10_000, description="Runs that one user may have open at once."
    )


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )


class Settings(BaseSettings):
    """Everything that can be configured; `load` reads it from its sources."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(default=Path(".trainyard"), description="Directory of everything that the server keeps.")
    models_file: Path | None = Field(default=None, description="Catalog of models; null serves the pocket model alone.")
    hub_cache: Path = Field(
        default=hub_cache.DEFAULT, description="Where the hub's client keeps what it has downloaded."
    )
    secret: SecretStr | None = Field(
        default=None, min_length=16, repr=False, description="Pepper of keys; null keeps one in the data directory."
    )
    static_keys: SecretStr | None = Field(
        default=None,
        repr=False,
        description="Keys of any form that work beside those of the database: `KEY` or "
        "`KEY;scopes=generate+execute;tenant=lab;user=ada`, several with commas between them.",
    )
    allow_public_static_keys: bool = Field(
        default=False, description="Accept static keys also where `server.host` can be reached from other machines."
    )
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    blobs: BlobSettings = BlobSettings()
    engine: EngineSettings = EngineSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    training: TrainingSettings = TrainingSettings()
    sandbox: SandboxSettings = SandboxSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what the constructor is given, so that tests and `load` alone decide."""
        return (init_settings,)

    @property
    def database_url(self) -> str:
        """The URL to open: the configured one or the file in the data directory."""
        return self.database.url or f"sqlite:///{self.data_dir.absolute() / 'trainyard.db'}"


def load(
    flags: Mapping[str, object] | None = None,
    config_file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings: defaults < trainyard.yaml < TRAINYARD_* < flags.

    Args:
        flags: Values by dotted name (`server.port`); None counts as not given.
        config_file: YAML file that must exist; without it `trainyard.yaml` of the working directory, if there.
        environ: In place of the environment of this process.

    Raises:
        errors.ConfigError: A key is unknown (the nearest valid one is named), a value is out of bounds, or a file is
            unreadable; `param` names the setting.
    """
    origins = provenance(flags, config_file, environ=environ)
    return _validated(merged(origins), origins)


def provenance(
    flags: Mapping[str, object] | None = None,
    config_file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> list[Origin]:
    """Tell for every setting the value in effect (secrets masked when shown) and where it came from."""
    return collect(Settings, flags or {}, config_file, environ)


def _validated(values: Mapping[str, object], origins: list[Origin]) -> Settings:
    try:
        settings = Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        name, message = _first_fault(error, {origin.name for origin in origins})
        source = next((origin.source for origin in origins if origin.name == name), "the configuration")
        raise errors.ConfigError(f"{name} (from {source}): {message}", param=name) from error
    _check_together(settings)
    return settings


def _first_fault(error: ValidationError, names: Collection[str]) -> tuple[str, str]:
    """Tell which setting is wrong, and why: of one that takes several kinds of values, what each of them would take."""
    faults = [
        (_setting_of(fault["loc"], names), fault["msg"])
        for fault in error.errors(include_url=False, include_input=False)
    ]
    first = faults[0][0]
    return first, ", or: ".join(message for name, message in faults if name == first)


def _setting_of(loc: Sequence[int | str], names: Collection[str]) -> str:
    """Name a setting without what Pydantic adds for the kinds of its values."""
    every = ".".join(map(str, loc))
    return next((name for name in names if every.startswith(f"{name}.")), every)


def _is_loopback(server: ServerSettings) -> bool:
    if server.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(server.host).is_loopback
    except ValueError:  # a name, which may lead anywhere
        return False


def _check_together(settings: Settings) -> None:
    """Refuse values that are right alone and wrong beside another."""
    server = settings.server
    if (server.tls_cert is None) != (server.tls_key is None):
        raise errors.ConfigError("server.tls_cert and server.tls_key go together; set both", param="server.tls_cert")
    if server.tls_self_signed and server.tls_cert is not None:
        raise errors.ConfigError(
            "server.tls_self_signed makes a certificate, and server.tls_cert names one; set one of them",
            param="server.tls_self_signed",
        )
    _check_blobs(settings.blobs)
    _check_sandbox(settings.sandbox)
    if settings.redis.url is None:
        needed_by = {"server.workers": settings.server.workers > 1, "cache.shared": settings.cache.shared == "redis"}
        for name in (name for name, is_needed in needed_by.items() if is_needed):
            raise errors.ConfigError(
                f"{name} needs a Redis that all processes count in; set redis.url, such as redis://127.0.0.1:6379/0",
                param=name,
            )
    if settings.static_keys is not None and not settings.allow_public_static_keys and not _is_loopback(settings.server):
        raise errors.ConfigError(
            f"static_keys work on this machine alone, and server.host is {settings.server.host}; listen on 127.0.0.1, "
            "make keys with `trainyard keys create`, or set allow_public_static_keys",
            param="static_keys",
        )
    if settings.limits.time_zone not in zoneinfo.available_timezones():
        raise errors.ConfigError(
            f"limits.time_zone: {settings.limits.time_zone!r} is no zone of the IANA database, such as Europe/Berlin",
            param="limits.time_zone",
        )


def _check_blobs(blobs: BlobSettings) -> None:
    """Refuse an address of no bucket, a key without its secret, and options of an S3 that is not used."""
    if blobs.url is None:
        for name in sorted(blobs.model_fields_set - {"url"}):
            if getattr(blobs, name) is not None:
                raise errors.ConfigError(
                    f"blobs.{name} belongs to S3; set blobs.url too, such as s3://bucket/prefix", param=f"blobs.{name}"
                )
    elif not _S3_URL.fullmatch(blobs.url):
        raise errors.ConfigError(
            "blobs.url is no place in S3; write s3://bucket or s3://bucket/prefix", param="blobs.url"
        )
    if blobs.endpoint is not None and not _HTTP_URL.match(blobs.endpoint):
        raise errors.ConfigError("blobs.endpoint is no URL; write https://host:port", param="blobs.endpoint")
    if (blobs.access_key_id is None) != (blobs.secret_access_key is None):
        raise errors.ConfigError(
            "blobs.access_key_id and blobs.secret_access_key belong together; set both, or neither for those of the "
            "AWS environment",
            param="blobs.secret_access_key" if blobs.secret_access_key is None else "blobs.access_key_id",
        )
