"""The settings: one frozen object, read once at start and handed to whoever needs a part of it."""

import ipaddress
import re
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from trainyard.core import errors, hub_cache
from trainyard.core.settings_sources import Origin, collect, merged

_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w!.*'()-]+)*/?", re.ASCII)
"""Bucket names after AWS's rules, and prefixes of characters that no client has to escape."""

_HTTP_URL = re.compile(r"https?://[^\s/]+")

_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""Of Kubernetes: what can be a name and the value of a label alike."""


def _parted(value: object) -> object:
    """Read a list from a text with commas between its parts, the only form that a variable has."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_parted)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
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


class DatabaseSettings(_Section):
    """Where rows live."""

    url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="`postgresql://…` or `sqlite:///…`; null keeps `trainyard.db` in the data directory.",
    )
    sync: Literal["normal", "full"] = Field(
        default="normal", description="SQLite: `normal` survives the death of processes, `full` also the loss of power."
    )


class EngineSettings(_Section):
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


class RedisSettings(_Section):
    """Where several processes count limits and share cached answers."""

    url: str | None = Field(
        default=None,
        repr=False,
        description="`redis://host:6379/0`; null counts in the one HTTP process.",
    )


class BlobSettings(_Section):
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


class LimitSettings(_Section):
    """Bars of every key that has none of its own; null = no bar."""

    window_s: float = Field(default=60.0, gt=0, le=3600, description="Length of the sliding window.")
    requests: int | None = Field(default=None, ge=1, description="Requests per window.")
    tokens: int | None = Field(default=None, ge=1, description="Tokens per window, prompts and answers together.")
    concurrency: int | None = Field(default=None, ge=1, description="Requests at the same moment.")
    time_zone: str = Field(default="UTC", description="IANA name of the zone in which quotas begin their month.")


class CacheSettings(_Section):
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


class TrainingSettings(_Section):
    """Limits of training."""

    max_live_runs_per_user: int = Field(
        default=5, ge=1, le=10_000, description="Runs that one user may have open at once."
    )


class SandboxLimits(_Section):
    """Bars of one run and of one session in the sandbox."""

    timeout_s: float = Field(default=30.0, gt=0, le=600, description="Wall clock of a run that names none.")
    max_timeout_s: float = Field(default=300.0, gt=0, le=3600, description="Longest that a run may ask for.")
    cpu_s: float = Field(default=60.0, gt=0, le=7200, description="CPU seconds of all processes of a run.")
    memory_bytes: int = Field(default=512 << 20, ge=64 << 20, description="Memory of a session, its files included.")
    processes: int = Field(default=64, ge=4, le=4096, description="Processes and threads of a session.")
    open_files: int = Field(default=256, ge=32, le=65_536, description="Descriptors of one process.")
    workspace_bytes: int = Field(default=256 << 20, ge=1 << 20, description="Files under /mnt/data.")
    workspace_files: int = Field(default=20_000, ge=16, le=1_000_000, description="Files and folders under /mnt/data.")
    output_bytes: int = Field(
        default=64 << 10, ge=1024, le=16 << 20, description="Kept of each output stream in an answer: head and tail."
    )
    log_bytes: int = Field(
        default=16 << 20, ge=64 << 10, le=1 << 30, description="Of each output stream; one byte more ends the run."
    )
    code_bytes: int = Field(default=1 << 20, ge=1024, le=16 << 20, description="Source text of a run.")
    file_bytes: int = Field(default=150 << 20, ge=1024, description="One uploaded or generated file.")
    files_per_request: int = Field(default=50, ge=1, le=1000, description="Files of one upload.")
    output_files: int = Field(default=1000, ge=1, le=100_000, description="Files that one run may register.")
    state_bytes: int = Field(default=256 << 20, ge=1024, description="One checkpoint of a session's variables.")
    stored_bytes: int = Field(default=10 << 30, ge=1 << 20, description="Files and checkpoints of one tenant.")


class SandboxJwt(_Section):
    """Tokens that LibreChat signs; without keys none is accepted."""

    keys: Path | None = Field(
        default=None, description="A JWKS file, a directory of `<kid>.pem`, or one PEM file with a public key."
    )
    issuer: str = Field(default="librechat", description="Value of `iss`.")
    audience: str = Field(default="codeapi", description="Value of `aud`.")
    leeway_s: float = Field(default=30.0, ge=0, le=300, description="Tolerance for clocks.")
    max_lifetime_s: float = Field(default=300.0, gt=0, le=86_400, description="Longest time between `iat` and `exp`.")


class KubernetesToleration(_Section):
    """A taint of nodes that boxes put up with."""

    key: str | None = Field(default=None, description="Of the taint; null with operator `Exists` means every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="`Equal` compares the value as well.")
    value: str | None = Field(default=None, description="Of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Of the taint; null means every effect."
    )


class SandboxKubernetes(_Section):
    """Pods as boxes, with `sandbox.backend: kubernetes`."""

    namespace: str = Field(default="trainyard-sandbox", pattern=_LABEL, description="Where the pods of boxes live.")
    installation: str = Field(
        default="trainyard",
        pattern=_LABEL,
        max_length=30,
        description="Label of all that belongs to this installation; servers with the same share their warm pods.",
    )
    kubeconfig: Path | None = Field(
        default=None,
        description="A kubeconfig file; null takes the service account of the pod in which the server runs.",
    )
    context: str | None = Field(default=None, description="Of the kubeconfig; null takes its current one.")
    image: str = Field(
        default="trainyard-runner:lean", min_length=1, description="Image of boxes that have nothing loaded."
    )
    image_science: str = Field(
        default="trainyard-runner:science", min_length=1, description="Image of those with numpy and pandas loaded."
    )
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When a node pulls an image."
    )
    pull_secrets: Texts = Field(default=(), description="Secrets with which nodes pull images.")
    runtime_class: str | None = Field(
        default=None, description="RuntimeClass of the pods, such as `gvisor` or `kata`; null takes the node's own."
    )
    user_namespaces: bool = Field(
        default=False, description="Whether pods get user namespaces (`hostUsers: false`; Kubernetes 1.33 or later)."
    )
    allow_sockets: bool = Field(
        default=False,
        description="Whether code may open TCP and UDP sockets, to speak to itself; then the NetworkPolicy alone keeps "
        "it from the network.",
    )
    node_selector: Mapping[str, str] = Field(default={}, description="Labels of the nodes on which boxes run.")
    tolerations: tuple[KubernetesToleration, ...] = Field(default=(), description="Taints that boxes put up with.")
    cpu: float = Field(default=1.0, gt=0, le=256, description="Cores that a pod may use.")
    cpu_request: float = Field(default=0.1, gt=0, le=256, description="Cores that are set aside for a pod.")
    memory_headroom_bytes: int = Field(
        default=64 << 20, ge=16 << 20, description="Of a pod, beside `sandbox.limits.memory_bytes`; for the runner."
    )
    port: int = Field(default=8600, ge=1024, le=65_535, description="On which the runner of a pod listens.")
    ready_s: float = Field(
        default=60.0, gt=0, le=1800, description="Longest wait for a box, from its order to its runner's answer."
    )
    max_age_s: int = Field(
        default=86_400, ge=60, le=31_536_000, description="The cluster ends a pod after this time, whoever uses it."
    )
    lease_s: int = Field(
        default=30, ge=1, le=3600, description="A server that is silent so long is dead, and its pods are deleted."
    )


class SandboxSettings(_Section):
    """Isolated code execution."""

    enabled: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether code runs here: `auto` answers 503 where the machine isolates too little, true does not "
        "start the server then, false has no routes for it.",
    )
    backend: Literal["local", "bubblewrap", "kubernetes"] = Field(
        default="local", description="What isolates: own namespaces, Debian's bubblewrap, or pods of a cluster."
    )
    allow_weaker: bool = Field(
        default=False, description="Start also where a required layer of isolation is missing (`trainyard doctor`)."
    )
    packages: Path | None = Field(
        default=None,
        description="Virtual environment with what code may import (numpy, pandas, matplotlib); null takes "
        "`sandbox/packages` in the data directory if `trainyard sandbox setup` has made it.",
    )
    builds_bytes: int = Field(
        default=1 << 30,
        ge=0,
        description="Compiled programs that are kept for the next run of the same code; 0 = none.",
    )
    warm: int = Field(default=10, ge=0, le=1000, description="Fresh boxes that are kept ready.")
    warm_science: int = Field(default=4, ge=0, le=1000, description="Of those with numpy and pandas loaded.")
    max_boxes: int = Field(default=256, ge=1, le=10_000, description="Boxes of one HTTP process, warm ones included.")
    sessions_memory_bytes: int = Field(
        default=4 << 30,
        ge=64 << 20,
        description="Memory of idle live sessions together; the oldest goes to its checkpoint.",
    )
    idle_s: float = Field(
        default=600.0, gt=0, le=86_400, description="A session that idles so long goes to its checkpoint."
    )
    checkpoint_s: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        description="A changed state is written down this long after the run, at the latest.",
    )
    session_ttl_s: float = Field(
        default=86_400.0, gt=0, le=31_536_000, description="Files and state are removed this long after the last use."
    )
    first_uid: int = Field(
        default=1_700_000_000,
        ge=65_536,
        le=4_000_000_000,
        description="As root: first of the user ids on the host that boxes run as, 65,536 of them.",
    )
    trusted_networks: Texts = Field(
        default=(),
        description="CIDR ranges from which the sandbox needs no key, in a variable with commas between them; they act "
        "as tenant `default`, user `trusted`.",
    )
    jwt: SandboxJwt = SandboxJwt()
    limits: SandboxLimits = SandboxLimits()
    kubernetes: SandboxKubernetes = SandboxKubernetes()


class LogSettings(_Section):
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
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        source = next((origin.source for origin in origins if origin.name == name), "the configuration")
        raise errors.ConfigError(f"{name} (from {source}): {first['msg']}", param=name) from error
    _check_together(settings)
    return settings


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
