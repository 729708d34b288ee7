"""What happens to an object before it is stored: schema, defaults, service account, security level, quota."""

import datetime
from typing import Any

import kubernetes_validate

from tests.services.kubernetes import answers, resources
from tests.services.kubernetes.answers import Refused
from tests.services.kubernetes.resources import Resource
from tests.services.kubernetes.store import Object, Store

SCHEMA_VERSION = "1.37"
"""Of the published schemas in the package kubernetes-validate; every newer server takes what they allow."""


def admit(store: Store, resource: Resource, namespace: str, body: Object) -> Object:
    """Check and complete a new object; gives the one to store."""
    if resource.is_namespaced and namespace not in {
        each["metadata"]["name"] for each in store.every(resources.NAMESPACES)
    }:
        raise answers.not_found("namespaces", namespace)
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    check_schema(body)
    name = body["metadata"].get("name", body["metadata"].get("generateName", ""))
    if resource == resources.PODS:
        body = {**body, "spec": _defaults(store, name, body["spec"]), "status": {"phase": "Pending"}}
        _check_security(store, namespace, name, body["spec"])
        _check_quota(store, namespace, name, "pods", resources.PODS)
    if resource == resources.JOBS:
        _check_quota(store, namespace, name, "count/jobs.batch", resources.JOBS)
        body = {**body, "status": {}}
    return body


def check_schema(body: Object) -> None:
    try:
        kubernetes_validate.validate(body, SCHEMA_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        text = f"strict decoding error: {error.message} at {'.'.join(map(str, error.path))}"
        raise Refused(400, "BadRequest", text) from error
    _check_times(body)


def _check_times(body: Object) -> None:
    """A MicroTime has six digits of a second, which no schema says."""
    for field in ("renewTime", "acquireTime"):
        if body["kind"] == "Lease" and (value := body["spec"].get(field)):
            try:
                datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")
            except ValueError:
                raise Refused(
                    400, "BadRequest", f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00"'
                ) from None


def _defaults(store: Store, name: str, spec: Object) -> Object:
    wanted = spec.get("runtimeClassName")
    if wanted and wanted not in {each["metadata"]["name"] for each in store.every(resources.RUNTIME_CLASSES)}:
        raise answers.forbidden("pods", name, f'pod rejected: RuntimeClass "{wanted}" not found')
    spec = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "serviceAccountName": "default", **spec}
    if spec.get("automountServiceAccountToken", True):
        # The admission plugin gives every container the token of the account, unless it is told not to.
        volume = {"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
        spec["volumes"] = [*spec.get("volumes", []), volume]
    return spec


def _check_security(store: Store, namespace: str, name: str, spec: Object) -> None:
    labels = store.get(resources.NAMESPACES, "", namespace)["metadata"].get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        return
    if wrong := violations(spec):
        raise answers.forbidden("pods", name, f'violates PodSecurity "restricted:latest": {", ".join(wrong)}')


def violations(spec: Object) -> list[str]:
    """What the level `restricted` of the Pod Security Standards has against a pod."""
    wrong = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    pod = spec.get("securityContext") or {}
    kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    wrong += [f"restricted volume type {kind}" for kind in sorted(kinds - allowed)]
    for container in spec["containers"]:
        wrong += _container_violations(container.get("securityContext") or {}, pod)
    return wrong


def _container_violations(own: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    both = {**pod, **own}
    capabilities = own.get("capabilities") or {}
    rules = {
        "privileged": not own.get("privileged"),
        "allowPrivilegeEscalation != false": own.get("allowPrivilegeEscalation") is False,
        "unrestricted capabilities": "ALL" in capabilities.get("drop", []) and not capabilities.get("add"),
        "runAsNonRoot != true": both.get("runAsNonRoot") is True,
        "runAsUser=0": both.get("runAsUser") != 0,
        "seccompProfile": (both.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"),
    }
    return [rule for rule, is_kept in rules.items() if not is_kept]


def _check_quota(store: Store, namespace: str, name: str, counted: str, resource: Resource) -> None:
    for quota in store.every(resources.QUOTAS, namespace):
        bound = quota["spec"].get("hard", {}).get(counted)
        used = sum(not is_over(each) for each in store.every(resource, namespace))
        if bound is not None and used >= int(bound):
            why = f"exceeded quota: {quota['metadata']['name']}, requested: {counted}=1, used: {counted}={used}, "
            raise answers.forbidden(resource.plural, name, f"{why}limited: {counted}={bound}")


def is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
