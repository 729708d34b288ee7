"""The objects that the server makes: pods, and jobs of one pod."""

import hashlib
import json
import secrets
from dataclasses import dataclass, fields
from typing import Any, Final

from trainyard.core import errors
from trainyard.core.settings import SandboxKubernetes, SandboxSettings
from trainyard.sandbox.backends.kubernetes import names
from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.types.orders import Flavor

Object = dict[str, Any]

_UIDS: Final = 65_536
_LARGEST_UID: Final = 2**31 - 1
"""That Kubernetes takes."""
_UIDS_OF_NAMESPACE: Final = range(10_000, 60_000)
"""In a user namespace of its own a pod has 65,536 of them."""

_DISK: Final = "64Mi"
"""Of the node, for what the runtime writes; files of a box lie in memory."""
_JOB_TTL_S: Final = 60
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Image:
    """What boxes of one flavour are made of.

    Attributes:
        warm: Pods that are kept ready; with 0 every box is of a job.
    """

    flavor: Flavor
    reference: str
    warm: int


class Manifests:
    """Makes them by the settings.

    Attributes:
        images: By flavour.
        generation: Hash of all that is the same in every pod.

    Raises:
        errors.ConfigError: User ids are too large for Kubernetes.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings, self._ours = settings, settings.kubernetes
        lean = Image("lean", self._ours.image, settings.warm)
        science = Image("science", self._ours.image_science, settings.warm_science)
        self.images: dict[Flavor, Image] = {"lean": lean, "science": science}
        if not self._ours.user_namespaces and settings.first_uid + _UIDS - 1 > _LARGEST_UID:
            raise errors.ConfigError(
                f"sandbox.first_uid: Kubernetes knows user ids up to {_LARGEST_UID}; take one of {_UIDS} less",
                param="sandbox.first_uid",
            )
        fixed = [self._spec(image, uid=0) for image in (lean, science)]
        self.generation = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def selector(self) -> str:
        """Finds everything of this installation."""
        return f"{names.INSTALLATION}={self._ours.installation}"

    def pod(self, image: Image) -> Object:
        """Make a warm pod, with a name, a user id and a token of its own."""
        metadata = self._metadata(image, {names.STATE: names.WARM})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "annotations": _token()},
            "spec": {**self._spec(image, self._uid()), "activeDeadlineSeconds": self._ours.max_age_s},
        }

    def job(self, image: Image, holder: str) -> Object:
        """Make a job whose one pod belongs to a server from the start."""
        labels = {names.STATE: names.CLAIMED, names.HOLDER: holder}
        metadata = self._metadata(image, labels)
        template = {"labels": metadata["labels"], "annotations": _token()}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": self._ours.max_age_s,
                "ttlSecondsAfterFinished": _JOB_TTL_S,
                "template": {"metadata": template, "spec": self._spec(image, self._uid())},
            },
        }

    def _metadata(self, image: Image, labels: dict[str, str]) -> Object:
        own = {
            "app.kubernetes.io/name": "trainyard-box",
            names.INSTALLATION: self._ours.installation,
            names.FLAVOR: image.flavor,
            names.GENERATION: self.generation,
        }
        ending = "".join(secrets.choice(_LETTERS) for _ in range(8))
        return {"name": f"{self._ours.installation}-{image.flavor}-{ending}", "labels": own | labels}

    def _uid(self) -> int:
        """Draw one: the kernel of a node counts processes by user id, so pods must not share one."""
        if self._ours.user_namespaces:
            return secrets.choice(_UIDS_OF_NAMESPACE)
        return self._settings.first_uid + secrets.randbelow(_UIDS)

    def _spec(self, image: Image, uid: int) -> Object:
        ours = self._ours
        spec: Object = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": uid,
                "runAsGroup": uid,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container(image)],
            "volumes": [
                {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size_bytes)}}
                for name, (_, size_bytes) in self._places().items()
            ],
        }
        if ours.user_namespaces:
            spec["hostUsers"] = False
        if ours.runtime_class is not None:
            spec["runtimeClassName"] = ours.runtime_class
        if ours.node_selector:
            spec["nodeSelector"] = dict(ours.node_selector)
        if ours.tolerations:
            spec["tolerations"] = [each.model_dump(exclude_none=True) for each in ours.tolerations]
        if ours.pull_secrets:
            spec["imagePullSecrets"] = [{"name": name} for name in ours.pull_secrets]
        return spec

    def _container(self, image: Image) -> Object:
        return {
            "name": "box",
            "image": image.reference,
            "imagePullPolicy": self._ours.pull_policy,
            "env": [
                {"name": "TRAINYARD_BOX_TOKEN", "valueFrom": _field(f"metadata.annotations['{names.TOKEN}']")},
                {"name": "TRAINYARD_BOX_HOST", "valueFrom": _field("status.podIP")},
                {"name": "TRAINYARD_BOX_PORT", "value": str(self._ours.port)},
                {"name": "TRAINYARD_BOX_SOCKETS", "value": "all" if self._ours.allow_sockets else "unix"},
                {"name": "TRAINYARD_BOX_LIMITS", "value": json.dumps(_plain(self._limits()))},
            ],
            "ports": [{"name": "runner", "containerPort": self._ours.port}],
            # It says nothing to the runner, and is over before anybody's code is in the pod.
            "startupProbe": {"tcpSocket": {"port": self._ours.port}, "periodSeconds": 1, "failureThreshold": 120},
            "resources": self._resources(self._ours),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in self._places().items()],
        }

    def _resources(self, ours: SandboxKubernetes) -> Object:
        memory = str(self._settings.limits.memory_bytes + ours.memory_headroom_bytes)
        bounds = {"memory": memory, "ephemeral-storage": _DISK}
        request_millis = round(min(ours.cpu_request, ours.cpu) * 1000)
        return {
            "requests": {"cpu": f"{request_millis}m", **bounds},
            "limits": {"cpu": f"{round(ours.cpu * 1000)}m", **bounds},
        }

    def _limits(self) -> Limits:
        bars = self._settings.limits
        return Limits(
            memory_bytes=bars.memory_bytes,
            processes=bars.processes,
            open_files=bars.open_files,
            workspace_bytes=bars.workspace_bytes,
            workspace_files=bars.workspace_files,
            scratch_bytes=bars.workspace_bytes,
            spool_bytes=2 * bars.log_bytes + bars.state_bytes,
        )

    def _places(self) -> dict[str, tuple[str, int]]:
        """Volumes: where they are mounted, and what they hold at most."""
        bounds = self._limits()
        return {
            "data": ("/mnt/data", bounds.workspace_bytes),
            "tmp": ("/tmp", bounds.scratch_bytes),  # noqa: S108 - a mount of the pod alone
            "shm": ("/dev/shm", bounds.scratch_bytes // 4),  # noqa: S108 - likewise
            "spool": ("/spool", bounds.spool_bytes),
        }


def _token() -> Object:
    return {names.TOKEN: secrets.token_urlsafe(32)}


def _field(path: str) -> Object:
    return {"fieldRef": {"fieldPath": path}}


def _plain(limits: Limits) -> dict[str, int]:
    return {field.name: getattr(limits, field.name) for field in fields(limits)}
