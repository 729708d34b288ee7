"""The section `sandbox` of the settings."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from trainyard.core import errors
from trainyard.core.settings_section import Section, Texts

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""Of Kubernetes: what can be a name and the value of a label alike."""


class SandboxLimits(Section):
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
    files_per_request: int = Field(default=50, ge=1, le=1000, description="Files of one upload, all or nothing.")
    files_per_batch: int = Field(
        default=200, ge=1, le=1000, description="Files of one batch, each by itself; LibreChat sends up to 200."
    )
    output_files: int = Field(default=1000, ge=1, le=100_000, description="Files that one run may register.")
    state_bytes: int = Field(default=256 << 20, ge=1024, description="One checkpoint of a session's variables.")
    stored_bytes: int = Field(default=10 << 30, ge=1 << 20, description="Files and checkpoints of one tenant.")


class SandboxJwt(Section):
    """Tokens that LibreChat signs; without keys none is accepted."""

    keys: Path | None = Field(
        default=None, description="A JWKS file, a directory of `<kid>.pem`, or one PEM file with a public key."
    )
    issuer: str = Field(default="librechat", description="Value of `iss`.")
    audience: str = Field(default="codeapi", description="Value of `aud`.")
    leeway_s: float = Field(default=30.0, ge=0, le=300, description="Tolerance for clocks.")
    max_lifetime_s: float = Field(default=300.0, gt=0, le=86_400, description="Longest time between `iat` and `exp`.")


class KubernetesToleration(Section):
    """A taint of nodes that boxes put up with."""

    key: str | None = Field(default=None, description="Of the taint; null with operator `Exists` means every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="`Equal` compares the value as well.")
    value: str | None = Field(default=None, description="Of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Of the taint; null means every effect."
    )


class SandboxKubernetes(Section):
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


class SandboxSettings(Section):
    """Isolated code execution."""

    enabled: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether code runs here: `auto` answers 503 where the machine isolates too little or no box can be "
        "made, true does not start the server then, false has no routes for it.",
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


def network(text: str) -> Network:
    """Read one range of `sandbox.trusted_networks`; raises errors.ConfigError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise errors.ConfigError(
            f"sandbox.trusted_networks: {error}; write ranges such as 10.1.0.0/16 or 127.0.0.1/32",
            param="sandbox.trusted_networks",
        ) from error


def check(sandbox: SandboxSettings) -> None:
    """Refuse values that cannot be, or that are wrong beside another; raises errors.ConfigError."""
    for text in sandbox.trusted_networks:
        network(text)
    limits = sandbox.limits
    for smaller, larger in (("timeout_s", "max_timeout_s"), ("output_bytes", "log_bytes")):
        if getattr(limits, smaller) > getattr(limits, larger):
            raise errors.ConfigError(
                f"sandbox.limits.{smaller} ({getattr(limits, smaller):g}) is more than sandbox.limits.{larger} "
                f"({getattr(limits, larger):g}); lower the one or raise the other",
                param=f"sandbox.limits.{smaller}",
            )
